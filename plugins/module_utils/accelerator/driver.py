# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses driver branch, kernel modules and packages for the cards and the distribution of a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator import packages
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import joined, weakest
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.option_refusals import Case, of_option
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.packages import Hold, Option
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.refusals import Refusal, fits_branch, of_request
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.request import Request, read_request
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import (
    Branch,
    Distribution,
    Names,
    Tables,
)

# A long life first: what a fleet stands on is not changed twice a year.
KIND_RANK = {"lts": 0, "production": 1, "new_feature": 2, "unknown": 3}
KIND_TITLE = {
    "lts": "long-term support",
    "production": "production",
    "new_feature": "new feature",
    "unknown": "unclassified",
}


@dataclass(frozen=True)
class Keyring:
    """The key that signs the repository; C(fingerprint) None is not known and must come from the user."""

    package: Optional[str]
    key_file: str
    fingerprint: Optional[str]


@dataclass(frozen=True)
class Candidate:
    """One driver that can be installed.

    C(packages) are all, in the order of installation, C(fabric_packages) those of them for switches. C(headers) come
    before them. C(sections) are sections of the distribution's archive or other repositories that must be enabled.
    C(confidence) is that of the weakest fact.
    """

    branch: int
    kind: str
    end: Optional[str]
    newest: Optional[str]
    version: Optional[str]
    modules: str
    build: str
    source: str
    folder: Optional[str]
    keyring: Optional[Keyring]
    sections: Names
    headers: Names
    module_stream: Optional[str]
    packages: Names
    fabric_packages: Names
    fabric_services: Names
    fabric_modules: Names
    hold: Hold
    reasons: Names
    confidence: str


@dataclass(frozen=True)
class Decision:
    """C(state) is ready (then candidates, best first), refused (then refusals) or no_card (then neither)."""

    state: str
    candidates: Tuple[Candidate, ...] = ()
    refusals: Tuple[Refusal, ...] = ()


def driver_candidates(
    cards: Any, distribution: Any, kernel: Any, secure_boot: Any, wants: Any, tables: Tables
) -> Decision:
    """What can be installed, or why nothing can.

    C(cards): PCI ids (NVSwitches too) or rows of gpu_info's C(pci). C(distribution): Ansible's facts distribution,
    distribution_version and architecture. C(kernel): release, or release, flavour and headers. C(secure_boot): whether
    it is on, or enabled and key_enrolled. C(wants): the variables without nvidia_driver_, and today.
    AcceleratorError for what makes no sense.
    """
    request = read_request(cards, distribution, kernel, secure_boot, wants, tables)
    if not request.cards and not request.unknown:
        return Decision("no_card")
    barred = of_request(request, tables)
    row = request.distribution
    if barred or row is None:
        return Decision("refused", refusals=(barred,) if barred else ())
    return _decide(request, row, tables)


def _decide(request: Request, row: Distribution, tables: Tables) -> Decision:
    fabric = packages.fabric(request)
    cases = [Case(option, request, row, fabric, tables) for option in _options(request, row, tables)]
    against = [of_option(case) for case in cases]
    found = tuple(_candidate(case) for case, refused in zip(cases, against) if not refused)
    if found:
        return Decision("ready", found)
    # What is wrong with the best option; the others are worse ones.
    return Decision("refused", refusals=against[0])


def _options(request: Request, row: Distribution, tables: Tables) -> Iterator[Option]:
    """The best first."""
    archive = row.archive if request.wants.source_kind == "archive" else None
    builds = ("prebuilt", "dkms") if archive and archive.prebuilt_modules else ("dkms",)
    for branch in _branches(request, tables):
        for modules in _modules(request, branch):
            for build in builds:
                yield Option(branch, modules, build)


def _branches(request: Request, tables: Tables) -> List[Branch]:
    wanted = request.branch_number
    if wanted is not None:
        return [each for each in tables.branches if each.branch == wanted]
    known = list(tables.branches)
    if request.wants.source_kind == "archive":
        known = [each for each in known if request.archive_branch(each)]
    # A branch that does not fit is no answer to somebody who named none, unless no other is left to speak of.
    fitting = [each for each in known if all(fits_branch(card, each) for card in request.kinds)]
    fitting = [each for each in fitting if request.wants.modules in ("auto", *each.modules)] or fitting
    today = request.wants.today
    return sorted(fitting or known, key=lambda each: (each.over(today), KIND_RANK[each.kind], -each.branch))


def _modules(request: Request, branch: Branch) -> Tuple[str, ...]:
    if request.wants.modules != "auto":
        return (request.wants.modules,)
    taken = [kind for kind in branch.modules if all(kind in card.modules for card in request.kinds)]
    return tuple(sorted(taken or branch.modules, key=lambda kind: kind != branch.default_modules))


def _candidate(case: Case) -> Candidate:
    request, row, option = case.request, case.row, case.option
    driver = packages.driver_packages(option, request, row, case.tables)
    switches = packages.fabric_packages(case.fabric.kind, option, request, row) if case.fabric.kind else ()
    held = packages.hold(option, request, row, (*driver, *switches))
    archive = case.archive
    return Candidate(
        branch=option.branch.branch,
        kind=option.branch.kind,
        end=option.branch.end,
        newest=_newest(case),
        version=request.wants.version,
        modules=option.modules,
        build=option.build,
        source=request.wants.source,
        folder=None if archive else f"{row.folder}/{row.architectures[request.architecture]}",
        keyring=None if archive else Keyring(row.keyring_package, row.key_file, row.key_fingerprint),
        sections=row.archive.sections if archive and row.archive else row.repositories,
        headers=packages.headers(request, row, option.branch) if option.build == "dkms" else (),
        module_stream=packages.module_stream(option, row),
        packages=packages.all_packages(held, driver, switches),
        fabric_packages=switches,
        fabric_services=case.fabric.services,
        fabric_modules=packages.NVLINK5_MODULES if case.fabric.kind == packages.NVLINK5 else (),
        hold=held,
        reasons=tuple(_reasons(case, held)),
        confidence=_confidence(case),
    )


def _newest(case: Case) -> Optional[str]:
    found = case.request.archive_branch(case.branch) if case.archive else None
    return found.version if found else case.branch.newest


def _confidence(case: Case) -> str:
    rows = [case.branch.confidence, case.row.confidence, *(card.confidence for card in case.request.kinds)]
    found = packages.package_set(case.option, case.request, case.row, case.tables)
    rows += [found.confidence] if found else []
    rows += [case.row.archive.confidence] if case.archive and case.row.archive else []
    if case.request.unknown or _unconfirmed(case):
        rows.append("unverified")
    return weakest(rows)


def _unconfirmed(case: Case) -> bool:
    oldest = case.row.confirmed_from
    return not case.archive and oldest is not None and case.branch.branch < oldest


def _reasons(case: Case, held: Hold) -> Iterator[str]:
    yield _why_branch(case)
    yield _why_modules(case)
    yield _why_build(case)
    yield held.reason
    yield case.fabric.reason
    if _unconfirmed(case):
        yield (
            f"No source shows branch {case.branch.branch} in the folder {case.row.folder}, whose oldest confirmed one "
            f"is {case.row.confirmed_from}."
        )
    if not case.archive and case.row.key_fingerprint is None:
        yield f"No source names the fingerprint of {case.row.key_file}; compare it with NVIDIA's before it is trusted."
    if case.request.unknown:
        yield f"No table knows {joined(f'10de:{each}' for each in case.request.unknown)}; branch and modules are yours."


def _why_branch(case: Case) -> str:
    branch = case.branch
    title = f"Branch {branch.branch} ({KIND_TITLE[branch.kind]})"
    if branch.over(case.request.wants.today):
        return f"{title} is no longer supported" + (f", since the end of {branch.end}." if branch.end else ".")
    return f"{title} is supported until {branch.end}." if branch.end else f"{title} has no published end of support."


def _why_modules(case: Case) -> str:
    kind, cards = case.option.modules, case.request.kinds
    bound = [card.title for card in cards if card.modules == (kind,)]
    if bound:
        return f"Only {kind} modules drive {joined(bound)}."
    if case.request.wants.modules != "auto":
        return f"nvidia_driver_modules is {kind}."
    usual = "its default" if kind == case.branch.default_modules else "not its default"
    return f"The cards take both kinds of modules; for branch {case.branch.branch} {kind} is {usual}."


def _why_build(case: Case) -> str:
    secure = case.request.secure_boot
    if case.option.build == "prebuilt":
        return "The modules come built and signed by the distribution, and load under Secure Boot."
    if secure.enabled:
        return "DKMS builds the modules and signs them with the enrolled key."
    return f"DKMS builds the modules for each kernel; {case.request.kernel.release} has headers."
