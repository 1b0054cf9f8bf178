"""What the tests of all scenarios share."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# So that tests can use the collection's own parsers.
sys.path.insert(0, str(ROOT / ".collections"))


@pytest.fixture
def exposure(host):
    """How exposed a unit is by systemd's own measure: 0 (not) to 10."""

    def measure(unit: str) -> float:
        said = host.check_output("systemd-analyze security --no-pager %s", unit)
        return float(re.search(rf"exposure level for {re.escape(unit)}: ([\d.]+)", said)[1])

    return measure
