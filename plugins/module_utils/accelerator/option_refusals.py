# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why one branch with one kind of modules cannot be installed: sentences that name the variable and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator import packages
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import joined
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.packages import Fabric, Option
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.refusals import Refusal
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.request import Request
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import (
    Archive,
    Branch,
    Card,
    Distribution,
    Tables,
)
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.versions import at_least


@dataclass(frozen=True)
class Case:
    """An option in its surroundings."""

    option: Option
    request: Request
    row: Distribution
    fabric: Fabric
    tables: Tables

    @property
    def branch(self) -> Branch:
        return self.option.branch

    @property
    def archive(self) -> bool:
        return self.request.wants.source_kind == "archive"

    @property
    def named(self) -> str:
        """The variable that names the branch."""
        return "nvidia_driver_version" if self.request.wants.version else "nvidia_driver_branch"

    @property
    def value(self) -> object:
        return self.request.wants.version or self.branch.branch


def _card_branch(case: Case) -> Optional[Refusal]:
    for card in case.request.kinds:
        if case.branch.branch < card.oldest_branch:
            return _too_old(case, card)
        if card.newest_branch and case.branch.branch > card.newest_branch:
            return Refusal(
                "branch_too_new",
                case.named,
                f"{case.named} {case.value} does not support {card.title}, whose last branch is {card.newest_branch}; "
                f"set {case.named} to {'one of ' if case.request.wants.version else ''}{card.newest_branch}.",
            )
    return None


def _too_old(case: Case, card: Card) -> Refusal:
    first = f"{card.title} needs {card.oldest_branch} or newer"
    newest = max((each.branch for each in case.row.archive.branches), default=0) if case.row.archive else 0
    if case.archive and newest < card.oldest_branch:
        return Refusal(
            "archive_too_old",
            "nvidia_driver_source",
            f"nvidia_driver_source is distribution, but the newest branch of {case.row.title} is {newest}, and "
            f"{first}; set it to nvidia or mirror.",
        )
    fix = "a newer one" if case.request.wants.version else "auto"
    return Refusal(
        "branch_too_old",
        case.named,
        f"{case.named} {case.value} is too old: {first}; set it to {fix}.",
    )


def _card_version(case: Case) -> Optional[Refusal]:
    version = case.request.wants.version
    for card in case.request.kinds:
        if version and card.oldest_version and not at_least(version, card.oldest_version):
            return Refusal(
                "version_too_old",
                "nvidia_driver_version",
                f"nvidia_driver_version {version} is too old for {card.title}; write {card.oldest_version} or newer.",
            )
    return None


def _card_modules(case: Case) -> Optional[Refusal]:
    kind = case.option.modules
    for card in case.request.kinds:
        if kind not in card.modules:
            why = "installs and then binds to nothing" if kind == "proprietary" else "lacks the firmware that they need"
            what = f"the proprietary module {why} on {card.title}"
            if kind == "open":
                what = f"{card.title} {why}"
            return Refusal(
                "modules_of_card",
                "nvidia_driver_modules",
                f"nvidia_driver_modules is {kind}, but {what}; set it to {joined(card.modules, 'or')} or auto.",
            )
    return None


def _branch_modules(case: Case) -> Optional[Refusal]:
    if case.option.modules in case.branch.modules:
        return None
    last = max(
        (each.branch for each in case.tables.branches if case.option.modules in each.modules),
        default=case.branch.branch,
    )
    return Refusal(
        "modules_of_branch",
        "nvidia_driver_modules",
        f"nvidia_driver_modules is {case.option.modules}, but branch {case.branch.branch} has only "
        f"{joined(case.branch.modules)} ones; set it to {joined(case.branch.modules, 'or')}, or "
        f"nvidia_driver_branch to {last}.",
    )


def _in_archive(case: Case) -> Optional[Refusal]:
    archive = case.row.archive
    if not case.archive or archive is None:
        return None
    number = case.branch.branch
    if number in archive.transitional:
        target = archive.transitional[number]
        return Refusal(
            "transitional",
            "nvidia_driver_branch",
            f"nvidia_driver_branch is {number}, whose packages in {case.row.title} only pull in {target}; "
            f"write {target}.",
        )
    if archive.branch(number) is None:
        known = joined((each.branch for each in archive.branches), "or")
        return Refusal(
            "not_in_archive",
            "nvidia_driver_branch",
            f"nvidia_driver_branch is {number}, which {case.row.title} does not package; write {known}, or set "
            "nvidia_driver_source to nvidia.",
        )
    return _archive_modules(case, archive)


def _archive_modules(case: Case, archive: Archive) -> Optional[Refusal]:
    found = archive.branch(case.branch.branch)
    if case.option.modules != "open" or found is None or found.open_version in (None, found.version):
        return None
    return Refusal(
        "archive_versions_differ",
        "nvidia_driver_modules",
        f"nvidia_driver_modules is open, but the open modules of {case.row.title} are {found.open_version} and the "
        f"rest of its driver is {found.version}; set it to proprietary, or nvidia_driver_source to nvidia.",
    )


def _packages(case: Case) -> Optional[Refusal]:
    names = packages.driver_packages(case.option, case.request, case.row, case.tables)
    branch = case.branch.branch
    if not names:
        return Refusal(
            "no_packages",
            "nvidia_driver_branch",
            f"nvidia_driver_branch is {branch}, for which no {case.option.modules} packages of {case.row.title} are "
            "known; set it to auto.",
        )
    if case.archive or case.row.package_manager != "apt" or case.branch.pinning:
        return None
    kind = case.fabric.kind
    switches = packages.fabric_packages(kind, case.option, case.request, case.row) if kind else ()
    if packages.plain_names((*names, *switches), case.branch):
        return Refusal(
            "no_pin",
            "nvidia_driver_branch",
            f"nvidia_driver_branch is {branch}, which no pinning package holds, so that a newer one would be "
            "installed; set it to auto.",
        )
    return None


def _fabric(case: Case) -> Optional[Refusal]:
    if not case.fabric.kind or packages.fabric_packages(case.fabric.kind, case.option, case.request, case.row):
        return None
    return Refusal(
        "no_fabric_manager",
        "nvidia_driver_source",
        f"nvidia_driver_source is distribution, but {case.row.title} has no Fabric Manager for these cards; set it to "
        "nvidia or mirror.",
    )


def _instead(case: Case) -> str:
    archive = case.row.archive
    if archive and archive.prebuilt_modules and not case.archive:
        return ", or set nvidia_driver_source to distribution, whose modules are built and signed"
    return ""


def _headers(case: Case) -> Optional[Refusal]:
    if case.option.build != "dkms" or case.request.kernel.headers:
        return None
    return Refusal(
        "no_headers",
        "nvidia_driver_source",
        f"The kernel {case.request.kernel.release} has no headers, so that DKMS cannot build a module from "
        f"nvidia_driver_source {case.request.wants.source}; boot a kernel that has headers{_instead(case)}.",
    )


def _secure_boot(case: Case) -> Optional[Refusal]:
    secure = case.request.secure_boot
    if case.option.build != "dkms" or not secure.enabled or secure.key_enrolled:
        return None
    return Refusal(
        "secure_boot",
        "nvidia_driver_source",
        "Secure Boot is on and the key that DKMS signs with is not enrolled, so that the kernel would refuse the "
        f"module from nvidia_driver_source {case.request.wants.source}; enrol it with mokutil at the "
        f"console{_instead(case)}.",
    )


# What the host lacks is said together, since one fix does not make up for the other.
OF_CHOICE: Tuple[Callable[[Case], Optional[Refusal]], ...] = (
    _card_branch,
    _card_version,
    _branch_modules,
    _card_modules,
    _in_archive,
    _packages,
)
OF_HOST: Tuple[Callable[[Case], Optional[Refusal]], ...] = (_fabric, _headers, _secure_boot)


def of_option(case: Case) -> Tuple[Refusal, ...]:
    """The first thing that is wrong with the choice itself, else all that the host lacks for it."""
    choice = next((refusal for refusal in (check(case) for check in OF_CHOICE) if refusal), None)
    if choice:
        return (choice,)
    return tuple(refusal for refusal in (check(case) for check in OF_HOST) if refusal)
