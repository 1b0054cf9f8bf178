# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why no driver can be installed, whatever the branch: one sentence each that names the variable and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import joined
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.request import Request
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import Branch, Card, Tables
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.versions import numbers


@dataclass(frozen=True)
class Refusal:
    """C(code) is short and stable, C(variable) is what to change, C(message) is one sentence."""

    code: str
    variable: str
    message: str


def fits_branch(card: Card, branch: Branch) -> bool:
    return card.oldest_branch <= branch.branch <= (card.newest_branch or branch.branch)


def _distribution(request: Request, tables: Tables) -> Optional[Refusal]:
    if request.distribution is not None:
        return None
    known = joined((each.title for each in tables.distributions), "or")
    return Refusal(
        "distribution",
        "nvidia_driver_source",
        f"nvidia_driver_source cannot be followed on {request.distribution_title}, whose package names and signing key "
        f"are not known; use {known}.",
    )


def _architecture(request: Request, _tables: Tables) -> Optional[Refusal]:
    row = request.distribution
    if row is None or request.architecture in row.architectures:
        return None
    return Refusal(
        "architecture",
        "nvidia_driver_source",
        f"nvidia_driver_source cannot be followed on {request.architecture}, for which no driver is packaged; "
        f"use {joined(row.architectures, 'or')}.",
    )


def _unknown_cards(request: Request, _tables: Tables) -> Optional[Refusal]:
    if not request.unknown or (request.branch_number and request.wants.modules != "auto"):
        return None
    cards = joined(f"10de:{each}" for each in request.unknown)
    return Refusal(
        "unknown_card",
        "nvidia_driver_branch",
        f"nvidia_driver_branch cannot be chosen for {cards}, which no table knows; set it and nvidia_driver_modules to "
        "what the card's documentation says.",
    )


def _no_source(request: Request, _tables: Tables) -> Optional[Refusal]:
    row = request.distribution
    if row is None or request.wants.source_kind != "archive" or row.archive:
        return None
    return Refusal(
        "no_archive",
        "nvidia_driver_source",
        f"nvidia_driver_source is distribution, but {row.title} has no NVIDIA driver of its own; set it to nvidia or "
        "mirror.",
    )


def _stream(request: Request, _tables: Tables) -> Optional[Refusal]:
    stream, row = request.wants.stream, request.distribution
    if not stream or row is None:
        return None
    number = stream.split("-")[0]
    branch = number if number.isdigit() else "auto"
    kind = "open" if "open" in stream else "proprietary"
    why = "is a module stream" if row.module_streams else f"is a module stream, and {row.title} has none"
    return Refusal(
        "module_stream",
        "nvidia_driver_branch",
        f"nvidia_driver_branch is {stream}, which {why}; write {branch} and set nvidia_driver_modules to {kind}.",
    )


def _known_branch(request: Request, tables: Tables) -> Optional[Refusal]:
    number, version = request.branch_number, request.wants.version
    if version and request.wants.branch and numbers(version, "version")[0] != request.wants.branch:
        return Refusal(
            "version_of_another_branch",
            "nvidia_driver_version",
            f"nvidia_driver_version {version} is not of nvidia_driver_branch {request.wants.branch}; "
            "correct one of them or leave the branch out.",
        )
    if number is None or tables.branch(number):
        return None
    known = joined((each.branch for each in tables.branches), "or")
    name = "nvidia_driver_branch" if request.wants.branch else "nvidia_driver_version"
    return Refusal("unknown_branch", name, f"{name} is of branch {number}, which is not known; write {known}.")


def _mixed(request: Request, tables: Tables) -> Optional[Refusal]:
    cards = request.kinds
    for branch in tables.branches:
        if all(fits_branch(card, branch) for card in cards):
            if any(all(kind in card.modules for card in cards) for kind in branch.modules):
                return None
    if len(cards) < 2:
        return None
    titles = joined(f"{card.title}: {joined(card.modules, 'or')} modules" for card in cards)
    return Refusal(
        "mixed_cards",
        "nvidia_driver_modules",
        f"No nvidia_driver_branch and nvidia_driver_modules serve all cards of this host ({titles}); move the cards of "
        "one generation to another host, or pass them through to a guest.",
    )


WHOLE: Tuple[Callable[[Request, Tables], Optional[Refusal]], ...] = (
    _distribution,
    _architecture,
    _no_source,
    _stream,
    _known_branch,
    _unknown_cards,
    _mixed,
)


def of_request(request: Request, tables: Tables) -> Optional[Refusal]:
    """The first is enough, since the others may follow from it."""
    found = (check(request, tables) for check in WHOLE)
    return next((refusal for refusal in found if refusal), None)
