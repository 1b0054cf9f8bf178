# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of driver_candidates: cards, distribution, kernel, Secure Boot and the user's variables."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import (
    ArchiveBranch,
    Branch,
    Card,
    Distribution,
    Tables,
)
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.versions import numbers

CHOICES: Dict[str, Tuple[str, ...]] = {
    "modules": ("auto", "open", "proprietary"),
    "source": ("nvidia", "distribution", "mirror"),
    "fabric_manager": ("auto", "true", "false"),
}
WANTS = ("branch", "version", "modules", "source", "compute_only", "fabric_manager", "today")
_PCI_ID = re.compile(r"(?:(?:0x)?([0-9a-f]{4}):)?(?:0x)?([0-9a-f]{4})\Z")
_STREAM = re.compile(r"(\d{3}|latest|open)-(open|dkms)\Z|latest\Z")
_NVIDIA = "10de"


@dataclass(frozen=True)
class Wants:
    """The variables nvidia_driver_*; C(stream) is what stands in nvidia_driver_branch where that is a module stream."""

    branch: Optional[int] = None
    stream: str = ""
    version: Optional[str] = None
    modules: str = "auto"
    source: str = "nvidia"
    compute_only: bool = True
    fabric_manager: str = "auto"
    today: str = ""

    @property
    def source_kind(self) -> str:
        return "archive" if self.source == "distribution" else "nvidia"


@dataclass(frozen=True)
class Kernel:
    """The kernel that the modules are for; C(headers): whether its headers are installed or can be."""

    release: str
    flavour: str
    headers: bool = True


@dataclass(frozen=True)
class SecureBoot:
    """C(key_enrolled): whether the firmware trusts the key that DKMS signs with."""

    enabled: bool = False
    key_enrolled: bool = False


@dataclass(frozen=True)
class Request:
    """Everything that a decision rests on."""

    cards: Tuple[Card, ...]
    unknown: Tuple[str, ...]
    switches: int
    distribution: Optional[Distribution]
    distribution_title: str
    architecture: str
    kernel: Kernel
    secure_boot: SecureBoot
    wants: Wants

    @property
    def branch_number(self) -> Optional[int]:
        """The branch that the user names, alone or by a version."""
        if self.wants.branch is None and self.wants.version:
            return numbers(self.wants.version, "nvidia_driver_version")[0]
        return self.wants.branch

    @property
    def kinds(self) -> Tuple[Card, ...]:
        """The cards, each kind once."""
        return tuple(dict.fromkeys(self.cards))

    def archive_branch(self, branch: Branch) -> Optional[ArchiveBranch]:
        archive = self.distribution.archive if self.distribution else None
        return archive.branch(branch.branch) if archive else None


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AcceleratorError(f"{what} is {value!r}; give a mapping.")
    return value


def _truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise AcceleratorError(f"{what} is {value!r}; write true or false.")
    return value


def pci_id(value: Any) -> Optional[str]:
    """The id of an NVIDIA device without the vendor, as in 2330; None for a device of another vendor.

    Takes 10de:2330, 0x2330 or 2330, and rows of gpu_info's C(pci) and C(switches), with C(vendor) and C(device_id).
    """
    vendor = ""
    if isinstance(value, Mapping):
        vendor, value = str(value.get("vendor", "")).lower(), value.get("device_id")
    found = _PCI_ID.match(str(value).lower())
    if not found:
        raise AcceleratorError(f"cards has {value!r}, which is no PCI id; write for example 10de:2330.")
    if vendor not in ("", "nvidia", f"0x{_NVIDIA}", _NVIDIA) or found.group(1) not in (None, _NVIDIA):
        return None
    return found.group(2)


def _cards(values: Any, tables: Tables) -> Tuple[List[Card], List[str], int]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
        raise AcceleratorError(f"cards is {values!r}; give a list of PCI ids.")
    cards: List[Card] = []
    unknown: List[str] = []
    switches = 0
    for value in values:
        found = pci_id(value)
        card = tables.card(found) if found else None
        # A row of gpu_info says that it is a switch, whose id no table needs to know.
        if found and (found in tables.switches or _is_bridge(value)):
            switches += 1
        elif card:
            cards.append(card)
        elif found:
            unknown.append(found)
    return cards, unknown, switches


def _is_bridge(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("device_class") == "0x0680"


def _distribution(value: Any, tables: Tables) -> Tuple[Optional[Distribution], str, str]:
    facts = _mapping(value, "distribution")
    name, version = str(facts.get("distribution", "")), str(facts.get("distribution_version", ""))
    found = None
    for row in tables.distributions:
        if name in row.ids and any(version == each or version.startswith(each + ".") for each in row.versions):
            found = row
    return found, f"{name} {version}".strip() or "an unnamed distribution", str(facts.get("architecture", "x86_64"))


def _kernel(value: Any, distribution: Optional[Distribution]) -> Kernel:
    facts = _mapping({"release": value} if isinstance(value, str) else value, "kernel")
    release = str(facts.get("release", ""))
    if not release:
        raise AcceleratorError("kernel has no release; give what uname -r prints.")
    flavour = facts.get("flavour") or _flavour(release, distribution)
    return Kernel(release, str(flavour), _truth(facts.get("headers", True), "headers of kernel"))


def _flavour(release: str, distribution: Optional[Distribution]) -> str:
    """The last part of Ubuntu's meta packages; a kernel series newer than the release's own has other ones."""
    flavour = release.rsplit("-", 1)[-1]
    series = distribution.release_kernel if distribution else None
    if distribution and series and flavour == "generic" and not release.startswith(series + "."):
        return f"generic-hwe-{distribution.versions[0]}"
    return flavour


def _secure_boot(value: Any) -> SecureBoot:
    if isinstance(value, bool):
        return SecureBoot(value)
    facts = _mapping(value, "secure_boot")
    enabled = _truth(facts.get("enabled", False), "enabled of secure_boot")
    return SecureBoot(enabled, _truth(facts.get("key_enrolled", False), "key_enrolled of secure_boot"))


def _choice(given: Mapping[str, Any], key: str, default: str) -> str:
    value = given.get(key, default)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text not in CHOICES[key]:
        raise AcceleratorError(f"nvidia_driver_{key} is {value!r}; it is one of {', '.join(CHOICES[key])}.")
    return text


def _branch(value: Any) -> Tuple[Optional[int], str]:
    text = str(value if value is not None else "auto").strip()
    if text in ("", "auto"):
        return None, ""
    if _STREAM.match(text):
        return None, text
    if isinstance(value, bool) or not re.match(r"\d{3}\Z", text):
        raise AcceleratorError(f"nvidia_driver_branch is {value!r}; write auto or a number such as 580.")
    return int(text), ""


def _today(value: Any, tables: Tables) -> str:
    text = str(value or tables.as_of)
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise AcceleratorError(f"today is {value!r}, which is no day; write for example 2026-11-22.") from None


def _wants(value: Any, tables: Tables) -> Wants:
    given = _mapping(value, "wants")
    for key in given:
        if key not in WANTS:
            raise AcceleratorError(f"wants has the key {key!r}; it takes {', '.join(WANTS)}.")
    branch, stream = _branch(given.get("branch"))
    version = str(given.get("version") or "") or None
    if version:
        numbers(version, "nvidia_driver_version")
    return Wants(
        branch,
        stream,
        version,
        _choice(given, "modules", "auto"),
        _choice(given, "source", "nvidia"),
        _truth(given.get("compute_only", True), "nvidia_driver_compute_only"),
        _choice(given, "fabric_manager", "auto"),
        _today(given.get("today"), tables),
    )


def read_request(cards: Any, distribution: Any, kernel: Any, secure_boot: Any, wants: Any, tables: Tables) -> Request:
    """The request; AcceleratorError for values that make no sense."""
    known, unknown, switches = _cards(cards, tables)
    row, title, architecture = _distribution(distribution, tables)
    return Request(
        tuple(known),
        tuple(unknown),
        switches,
        row,
        title,
        architecture,
        _kernel(kernel, row),
        _secure_boot(secure_boot),
        _wants(wants, tables),
    )
