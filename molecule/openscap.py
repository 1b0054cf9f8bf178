"""OpenSCAP's answers, which a side effect kept, as the tests of both hardened hosts ask for them."""

from __future__ import annotations

import os
import pathlib
from collections import Counter

import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.audit import report, waivers, xccdf

ANSWERS = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "audit"
WAIVERS = pathlib.Path(__file__).parents[1] / "roles/hardening/files/waivers.yml"


def rows(profile: str):
    with (ANSWERS / f"{profile}.xml").open("rb") as stream:
        return xccdf.read(stream).rows


def counts(profile: str) -> Counter[str]:
    return Counter(row.result for row in rows(profile))


def without_a_reason(profile: str, host: str, places: set[str]) -> set[str]:
    """The rules that failed and that no waiver for these places (`when` of waivers.yml) covers."""
    values = [value for value in yaml.safe_load(WAIVERS.read_text(encoding="utf-8")) if value["when"] in places]
    known = waivers.read(values, report.AUDITORS)
    failed = {row.id for row in rows(profile) if row.result in ("fail", "error")}
    return {rule for rule in failed if not any(each.covers(host, "openscap", profile, rule) for each in known)}
