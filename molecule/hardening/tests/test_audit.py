"""What OpenSCAP says of the hardened container host, and that nothing fails without a reason."""

from __future__ import annotations

import openscap
import pytest

# Fails (with checks that broke off) at most, passes at least: what the content's own fix scripts reach there.
LIMITS = {
    "cis_level1_server": (15, 333),
    "cis_level2_server": (25, 424),
    "anssi_bp28_minimal": (0, 35),
    "anssi_bp28_intermediary": (28, 167),
    "anssi_bp28_enhanced": (42, 246),
}


@pytest.mark.parametrize("profile", LIMITS)
def test_fewer_fails_and_more_passes_than_the_contents_own_fixes(profile):
    fails, passes = LIMITS[profile]
    counts = openscap.counts(profile)
    # A check that broke off is no pass.
    assert counts["fail"] + counts["error"] <= fails, counts
    assert counts["pass"] >= passes, counts


@pytest.mark.parametrize("profile", LIMITS)
def test_each_fail_has_a_reason(profile):
    # converge.yml waives nothing on this host, and it is a container.
    assert openscap.without_a_reason(profile, "hard-a", {"always", "container"}) == set()
