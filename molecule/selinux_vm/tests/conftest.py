"""Finds what the tests share, and the collection's own reader of denials."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "molecule/selinux_vm/tests"), str(ROOT / ".collections")]

import service  # noqa: E402

answer, probe = service.answer, service.probe
