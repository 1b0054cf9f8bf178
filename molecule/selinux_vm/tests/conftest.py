"""What the tests of both hosts share."""

import service

answer, probe = service.answer, service.probe
