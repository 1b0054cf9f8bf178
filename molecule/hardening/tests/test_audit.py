"""What OpenSCAP says of the hardened container host, and that nothing fails without a reason."""

from __future__ import annotations

import os
import pathlib
from collections import Counter

import pytest
import yaml
from ansible_collections.baremetal.llm.plugins.module_utils.audit import report, waivers, xccdf

ANSWERS = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "audit"
WAIVERS = pathlib.Path(__file__).parents[3] / "roles/hardening/files/waivers.yml"
# Fails (with checks that broke off) at most, passes at least: what the content's own fix scripts reach there.
LIMITS = {
    "cis_level1_server": (15, 333),
    "cis_level2_server": (25, 424),
    "anssi_bp28_minimal": (0, 35),
    "anssi_bp28_intermediary": (28, 167),
    "anssi_bp28_enhanced": (42, 246),
}


def answer(profile):
    with (ANSWERS / f"{profile}.xml").open("rb") as stream:
        return xccdf.read(stream).rows


@pytest.mark.parametrize("profile", LIMITS)
def test_fewer_fails_and_more_passes_than_the_contents_own_fixes(profile):
    fails, passes = LIMITS[profile]
    counts = Counter(row.result for row in answer(profile))
    # A check that broke off is no pass.
    assert counts["fail"] + counts["error"] <= fails, counts
    assert counts["pass"] >= passes, counts


@pytest.mark.parametrize("profile", LIMITS)
def test_each_fail_has_a_reason(profile):
    values = yaml.safe_load(WAIVERS.read_text(encoding="utf-8"))
    # converge.yml waives nothing on this host, and it is a container.
    values = [value for value in values if value["when"] != "waived"]
    known = waivers.read(values, report.AUDITORS)
    failed = {row.id for row in answer(profile) if row.result in ("fail", "error")}
    assert failed == {
        rule for rule in failed if any(each.covers("hard-a", "openscap", profile, rule) for each in known)
    }
