# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Driver candidates: what holds for every host, and what the rows of the decision table do not show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.driver import (
    Candidate,
    Decision,
    driver_candidates,
)
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.plugin_utils.accelerator import tables
from hypothesis import given
from hypothesis import strategies as st

HOSTS = {
    "debian12": ("Debian", "12", "6.1.0-40-amd64"),
    "debian13": ("Debian", "13", "6.12.57+deb13-amd64"),
    "ubuntu2204": ("Ubuntu", "22.04", "5.15.0-160-generic"),
    "ubuntu2404": ("Ubuntu", "24.04", "6.8.0-88-generic"),
    "ubuntu2604": ("Ubuntu", "26.04", "7.0.0-30-generic"),
    "el8": ("RedHat", "8.10", "4.18.0-553.el8_10.x86_64"),
    "el9": ("Rocky", "9.8", "5.14.0-687.51.1.el9_8.x86_64"),
    "el10": ("AlmaLinux", "10.2", "6.12.0-211.el10.x86_64"),
}
APT = [name for name in HOSTS if not name.startswith("el")]
UBUNTU = [name for name in HOSTS if name.startswith("ubuntu")]
BRANCHES = ["auto", 535, 550, 570, 575, 580, 590, 595, 610, 615, 620]
CARD_IDS = [card.ids[0] for card in tables().cards]


def decide(
    cards: Any, host: str = "ubuntu2404", secure_boot: Any = False, headers: bool = True, **wants: Any
) -> Decision:
    name, version, release = HOSTS[host]
    facts = {"distribution": name, "distribution_version": version, "architecture": "x86_64"}
    return driver_candidates(cards, facts, {"release": release, "headers": headers}, secure_boot, wants, tables())


def best(cards: Any, host: str = "ubuntu2404", **wants: Any) -> Candidate:
    return decide(cards, host, **wants).candidates[0]


def question(hosts: Any = tuple(HOSTS), sources: Any = ("nvidia", "distribution", "mirror")) -> Any:
    """Keyword arguments of decide, but for the cards."""
    return st.fixed_dictionaries(
        {
            "host": st.sampled_from(hosts),
            "secure_boot": st.sampled_from([False, {"enabled": True}, {"enabled": True, "key_enrolled": True}]),
            "headers": st.booleans(),
            "branch": st.sampled_from(BRANCHES),
            "modules": st.sampled_from(["auto", "open", "proprietary"]),
            "source": st.sampled_from(sources),
            "compute_only": st.booleans(),
            "fabric_manager": st.sampled_from(["auto", True, False]),
        }
    )


CARDS = st.lists(st.sampled_from([*CARD_IDS, "1af1", "22a3"]), min_size=1, max_size=3)


@given(CARDS, question())
def test_a_host_gets_packages_or_sentences(cards: list[str], asked: dict[str, Any]) -> None:
    decision = decide(cards, **asked)
    assert (decision.state == "ready") == bool(decision.candidates)
    assert (decision.state == "refused") == bool(decision.refusals)
    assert all(candidate.packages for candidate in decision.candidates)
    for refusal in decision.refusals:
        assert refusal.variable in refusal.message
        assert refusal.message.endswith(".") and "\n" not in refusal.message and ". " not in refusal.message


@given(CARDS, question())
def test_what_is_offered_drives_every_card(cards: list[str], asked: dict[str, Any]) -> None:
    kinds = [card for card in map(tables().card, cards) if card is not None]
    for candidate in decide(cards, **asked).candidates:
        assert asked["branch"] in ("auto", candidate.branch)
        assert asked["modules"] in ("auto", candidate.modules)
        for card in kinds:
            assert candidate.modules in card.modules
            assert card.oldest_branch <= candidate.branch <= (card.newest_branch or 999)
        assert not (candidate.branch >= 620 and candidate.modules == "proprietary")


@given(CARDS, question())
def test_secure_boot_and_missing_headers_leave_only_what_is_built(cards: list[str], asked: dict[str, Any]) -> None:
    for candidate in decide(cards, **asked).candidates:
        if asked["secure_boot"] == {"enabled": True} or not asked["headers"]:
            assert candidate.build == "prebuilt"
        assert (candidate.build == "dkms") == bool(candidate.headers)
        assert candidate.build == "dkms" or asked["source"] == "distribution"


@given(CARDS, question(hosts=UBUNTU, sources=["nvidia", "mirror"]))
def test_ubuntu_packages_follow_the_cliff(cards: list[str], asked: dict[str, Any]) -> None:
    for candidate in decide(cards, **asked).candidates:
        branch, pin = str(candidate.branch), f"nvidia-driver-pinning-{candidate.branch}"
        driver = [name for name in candidate.packages if name not in (pin, *candidate.fabric_packages)]
        if candidate.branch <= 580:
            assert all(branch in name.split("-") for name in driver)
        else:
            assert candidate.packages[0] == pin
            assert not any(branch in name for name in candidate.packages[1:])


@given(CARDS, question(hosts=APT, sources=["nvidia", "mirror"]))
def test_a_name_without_branch_is_never_installed_before_its_pin(cards: list[str], asked: dict[str, Any]) -> None:
    for candidate in decide(cards, **asked).candidates:
        coupled = [name for name in candidate.packages if name != "nvlsm"]
        plain = [name for name in coupled if str(candidate.branch) not in name.split("-")]
        assert not plain or candidate.packages[0] == f"nvidia-driver-pinning-{candidate.branch}"
        assert candidate.packages.count(candidate.packages[0]) == 1


@given(st.sampled_from(CARD_IDS), st.sampled_from(CARD_IDS), question())
def test_a_second_card_never_opens_a_way(one: str, other: str, asked: dict[str, Any]) -> None:
    def ways(cards: list[str]) -> set[tuple[Any, ...]]:
        found = decide(cards, **asked).candidates
        return {(candidate.branch, candidate.modules, candidate.build) for candidate in found}

    assert ways([one, other]) <= ways([one]) & ways([other])


@given(CARDS, question())
def test_the_order_of_cards_does_not_matter(cards: list[str], asked: dict[str, Any]) -> None:
    there, back = decide(cards, **asked), decide(cards[::-1], **asked)
    assert [each.packages for each in there.candidates] == [each.packages for each in back.candidates]
    assert {each.code for each in there.refusals} == {each.code for each in back.refusals} or len(set(cards)) > 1


def test_supported_branches_come_before_ended_ones() -> None:
    order = list(dict.fromkeys(each.branch for each in decide(["2330"]).candidates))
    assert order[:3] == [580, 595, 590]
    assert order.index(610) > order.index(620), "610 has ended"
    later = list(dict.fromkeys(each.branch for each in decide(["2330"], today="2028-07-01").candidates))
    assert later[0] not in (580, 595, 590) and set(later) == set(order)


def test_support_lasts_to_the_end_of_its_month() -> None:
    def says(today: str) -> str:
        return best(["2330"], branch=580, today=today).reasons[0]

    assert says("2028-06-30") == "Branch 580 (long-term support) is supported until 2028-06."
    assert says("2028-07-01") == "Branch 580 (long-term support) is no longer supported, since the end of 2028-06."


def test_keys_and_folders_are_those_of_the_distribution() -> None:
    keyring = best(["2330"], "debian13").keyring
    assert keyring is not None
    assert (keyring.key_file, keyring.fingerprint) == ("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200")
    assert best(["2330"], "debian13").folder == "debian13/x86_64"
    facts = {"distribution": "Ubuntu", "distribution_version": "24.04", "architecture": "aarch64"}
    arm = driver_candidates(["2342"], facts, "6.8.0-88-generic", False, {}, tables())
    assert arm.candidates[0].folder == "ubuntu2404/sbsa"
    archive = best(["2330"], source="distribution")
    assert (archive.keyring, archive.folder, archive.sections) == (None, None, ("restricted", "multiverse"))


def test_an_unknown_fingerprint_is_said() -> None:
    candidate = best(["2330"], "el10")
    assert candidate.keyring is not None and candidate.keyring.fingerprint is None
    assert any("No source names the fingerprint of CDF6BA43.pub" in reason for reason in candidate.reasons)
    assert candidate.confidence == "single"


def test_what_no_source_shows_is_unverified() -> None:
    candidate = best(["1db4"], "debian13")
    assert candidate.branch == 580 and candidate.confidence == "unverified"
    assert "No source shows branch 580 in the folder debian13, whose oldest confirmed one is 590." in candidate.reasons
    assert best(["2330"]).confidence == "verified"


def test_versions_are_held_on_every_package_manager() -> None:
    assert best(["2330"], version="580.159.03").hold.names == ("nvidia-driver-pinning-580.159.03",)
    assert best(["2330"], version="535.309.01").hold.names == ("535.309.01",)
    assert best(["2330"], "el9", version="580.159.03").hold.names == ("*nvidia*580.159.03*", "cuda-drivers*580.159.03*")
    assert best(["2330"], "el10").hold.names == ("*nvidia*580*", "cuda-drivers*580*")


def test_headers_are_those_of_the_kernel() -> None:
    assert best(["2330"]).headers == ("linux-headers-6.8.0-88-generic",)
    assert best(["2330"], "el8").headers == ("kernel-devel-4.18.0-553.el8_10.x86_64", "kernel-headers")


def test_the_fifth_generation_brings_its_subnet_manager() -> None:
    many, alone = best(["2901"] * 2), best(["2901"])
    assert many.fabric_modules == ("ib_umad",)
    assert many.fabric_services == ("nvidia-fabricmanager", "nvidia-nvlsm")
    assert (alone.fabric_packages, alone.fabric_services, alone.fabric_modules) == ((), (), ())
    assert best(["2330", "22a3"]).fabric_services == ("nvidia-fabricmanager",)
    row = {"vendor": "nvidia", "device_id": "0xffff", "device_class": "0x0680"}
    assert best(["2330", row]).fabric_services == ("nvidia-fabricmanager",), "a bridge whose id no table knows"
    assert best(["2330", row | {"vendor": "amd"}]).fabric_services == ()
    assert best(["2901"], fabric_manager=True).fabric_packages[-1] == "nvlsm"


@pytest.mark.parametrize(
    ("cards", "wants", "reason"),
    [
        (["27b8"], {}, "These cards have no NVSwitch, so no Fabric Manager is needed."),
        (["2330"], {}, "No NVSwitch is in sight of this host; a fabric that these cards may have"),
        (["2901"], {}, "a fabric that these cards may have is managed outside of it."),
        (["2941", "2941"], {}, "The switches of these cards have a manager of their own outside the host"),
        (["2330", "22a3"], {}, "An NVSwitch is on the bus; the Fabric Manager has exactly the driver's version."),
        (["2901", "2901"], {}, "Several cards of the fifth NVLink generation need the Fabric Manager"),
        (["2330", "22a3"], {"fabric_manager": False}, "CUDA fails on these cards until a Fabric Manager runs"),
        (["27b8"], {"fabric_manager": True}, "because nvidia_driver_fabric_manager is true."),
    ],
)
def test_the_fabric_manager_has_a_reason(cards: list[str], wants: dict[str, Any], reason: str) -> None:
    assert any(reason in each for each in best(cards, **wants).reasons)


def test_a_version_is_named_where_it_names_the_branch() -> None:
    old, new = decide(["2901"], version="535.309.01").refusals[0], decide(["1db4"], version="595.91.07").refusals[0]
    assert (old.code, old.variable) == ("branch_too_old", "nvidia_driver_version")
    assert "nvidia_driver_version 535.309.01 is too old" in old.message and "set it to a newer one" in old.message
    assert (new.code, new.variable) == ("branch_too_new", "nvidia_driver_version")
    assert new.message.endswith("whose last branch is 580; set nvidia_driver_version to one of 580.")


def test_all_that_the_host_lacks_is_said_together() -> None:
    decision = decide(["2330"], secure_boot=True, headers=False)
    assert [refusal.code for refusal in decision.refusals] == ["no_headers", "secure_boot"]


def test_a_branch_nobody_asked_for_is_not_blamed() -> None:
    """After the end of 580 newer branches come first, but not for a V100; what keeps 580 away is what to mend."""
    refused = decide(["1db4"], secure_boot={"enabled": True}, today="2028-09-01").refusals
    assert [refusal.code for refusal in refused] == ["secure_boot"]


def test_rows_of_gpu_info_are_cards() -> None:
    rows = [{"vendor": "amd", "device_id": "0x74a1"}, {"vendor": "nvidia", "device_id": "0x2330"}]
    assert decide(rows) == decide(["10de:2330"]) == decide(["0x2330"])
    assert decide(rows[:1]).state == "no_card"
    assert decide(["22a3"]).state == "no_card", "a switch without a card"


@pytest.mark.parametrize(("host", "cards"), [("debian12", ["2330"]), ("ubuntu2404", ["2330", "22a3"])])
def test_a_branch_that_nothing_would_hold_is_refused(host: str, cards: list[str]) -> None:
    bare = tuple(replace(each, pinning=False) if each.branch == 580 else each for each in tables().branches)
    name, version, release = HOSTS[host]
    facts = {"distribution": name, "distribution_version": version}
    decision = driver_candidates(cards, facts, release, False, {"branch": 580}, replace(tables(), branches=bare))
    assert [refusal.code for refusal in decision.refusals] == ["no_pin"]
    assert "which no pinning package holds" in decision.refusals[0].message


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "modules": ({"modules": "closed"}, "nvidia_driver_modules is 'closed'; it is one of auto, open, proprietary"),
    "source": ({"source": "runfile"}, "nvidia_driver_source is 'runfile'; it is one of nvidia, distribution, mirror"),
    "fabric": ({"fabric_manager": "maybe"}, "nvidia_driver_fabric_manager is 'maybe'; it is one of auto, true, false"),
    "branch": ({"branch": "newest"}, "nvidia_driver_branch is 'newest'; write auto or a number such as 580"),
    "version": ({"version": "580"}, "nvidia_driver_version is '580', which is no version"),
    "compute": ({"compute_only": "yes"}, "nvidia_driver_compute_only is 'yes'; write true or false"),
    "key": ({"brunch": 580}, "wants has the key 'brunch'; it takes branch, version, modules"),
    "day": ({"today": "tomorrow"}, "today is 'tomorrow', which is no day"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_variables_are_named(name: str) -> None:
    wants, sentence = BAD[name]
    with pytest.raises(AcceleratorError) as caught:
        decide(["2330"], **wants)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("cards", ["2330", None, ["H100"], [{"vendor": "nvidia"}], [None]])
def test_bad_cards_are_named(cards: Any) -> None:
    with pytest.raises(AcceleratorError, match="cards (is|has) .*; (give|write|.*write) "):
        decide(cards)


@pytest.mark.parametrize(
    ("facts", "kernel", "secure_boot", "sentence"),
    [
        ("Ubuntu", "6.8.0", False, "distribution is 'Ubuntu'; give a mapping"),
        ({}, "", False, "kernel has no release"),
        ({}, {"release": "6", "headers": "no"}, False, "headers of kernel is 'no'; write true or false"),
        ({}, "6", "off", "secure_boot is 'off'; give a mapping"),
        ({}, "6", {"enabled": 1}, "enabled of secure_boot is 1; write true or false"),
    ],
)
def test_bad_facts_are_named(facts: Any, kernel: Any, secure_boot: Any, sentence: str) -> None:
    with pytest.raises(AcceleratorError) as caught:
        driver_candidates(["2330"], facts, kernel, secure_boot, {}, tables())
    assert sentence in str(caught.value)
