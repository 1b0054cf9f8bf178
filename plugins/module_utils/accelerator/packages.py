# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One way of installing a driver, and the packages that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import joined
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.request import Request
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import (
    Branch,
    Distribution,
    Names,
    PackageSet,
    Tables,
)

NVSWITCH = "nvswitch"
NVLINK5 = "nvlink5"
# Without it the subnet manager of the fifth NVLink generation cannot reach the switches.
NVLINK5_MODULES = ("ib_umad",)
# Has a calendar of its own, and goes with every driver.
UNCOUPLED = ("nvlsm",)


@dataclass(frozen=True)
class Fabric:
    """Whether the Fabric Manager is installed (C(kind) is then nvswitch or nvlink5), and why or why not."""

    kind: str
    reason: str

    @property
    def services(self) -> Names:
        if not self.kind:
            return ()
        return ("nvidia-fabricmanager", "nvidia-nvlsm") if self.kind == NVLINK5 else ("nvidia-fabricmanager",)


@dataclass(frozen=True)
class Option:
    """A branch, its kernel modules, and whether DKMS builds them (dkms) or they come built (prebuilt)."""

    branch: Branch
    modules: str
    build: str


@dataclass(frozen=True)
class Hold:
    """What keeps the host on the branch or version: C(names) are packages, patterns or a module stream."""

    method: str
    names: Names
    reason: str


def _present(request: Request) -> str:
    """The kind of fabric that the host has."""
    if request.switches:
        return NVSWITCH
    return NVLINK5 if sum(card.fabric == NVLINK5 for card in request.cards) > 1 else ""


def _why_none(request: Request) -> str:
    kinds = {card.fabric for card in request.cards}
    if "external" in kinds:
        return "The switches of these cards have a manager of their own outside the host, so none is installed."
    if NVSWITCH in kinds or NVLINK5 in kinds:
        return "No NVSwitch is in sight of this host; a fabric that these cards may have is managed outside of it."
    return "These cards have no NVSwitch, so no Fabric Manager is needed."


def fabric(request: Request) -> Fabric:
    """What nvidia_driver_fabric_manager leads to on this host."""
    wanted, present = request.wants.fabric_manager, _present(request)
    if wanted == "true":
        kind = NVLINK5 if any(card.fabric == NVLINK5 for card in request.cards) else NVSWITCH
        return Fabric(kind, "The Fabric Manager is installed because nvidia_driver_fabric_manager is true.")
    if wanted == "false" and present:
        return Fabric(
            "", "CUDA fails on these cards until a Fabric Manager runs, and nvidia_driver_fabric_manager is false."
        )
    if not present:
        return Fabric("", _why_none(request))
    if present == NVSWITCH:
        return Fabric(NVSWITCH, "An NVSwitch is on the bus; the Fabric Manager has exactly the driver's version.")
    return Fabric(
        NVLINK5, "Several cards of the fifth NVLink generation need the Fabric Manager and its subnet manager."
    )


def _filled(names: Tuple[str, ...], request: Request, branch: Branch) -> Names:
    values: Dict[str, object] = {"branch": branch.branch, "flavour": request.kernel.flavour}
    return tuple(name.format(kernel=request.kernel.release, **values) for name in names)


def package_set(option: Option, request: Request, row: Distribution, tables: Tables) -> Optional[PackageSet]:
    """The row of packages.yml for this option."""
    scope = "compute" if request.wants.compute_only else "full"
    for each in tables.packages:
        if (
            (each.style, each.source_kind, each.build) == (row.package_style, request.wants.source_kind, option.build)
            and (each.modules, each.scope) == (option.modules, scope)
            and each.naming in ("any", option.branch.naming)
            and each.min_branch <= option.branch.branch
        ):
            return each
    return None


def driver_packages(option: Option, request: Request, row: Distribution, tables: Tables) -> Names:
    """The driver without pin and Fabric Manager; empty where no names are known."""
    found = package_set(option, request, row, tables)
    return _filled(found.packages, request, option.branch) if found else ()


def fabric_packages(kind: str, option: Option, request: Request, row: Distribution) -> Names:
    """Fabric Manager, switch library and subnet manager; empty where the source does not package them."""
    branch = option.branch
    if request.wants.source_kind == "archive":
        known = row.archive.fabric_manager if row.archive and kind == NVSWITCH else None
        return _filled(tuple(known or ()), request, branch)
    names = list(branch.fabric_manager[row.package_manager])
    if kind == NVLINK5:
        names += list((branch.nvlink5 or {}).get(row.package_manager, ()))
    return _filled(tuple(names), request, branch)


def headers(request: Request, row: Distribution, branch: Branch) -> Names:
    return _filled(row.headers, request, branch)


def plain_names(names: Names, branch: Branch) -> Names:
    """Names that would bring the newest branch, since theirs is not in them."""
    return tuple(name for name in names if name not in UNCOUPLED and str(branch.branch) not in name.split("-"))


def hold(option: Option, request: Request, row: Distribution, names: Names) -> Hold:
    """What keeps these packages on the branch, or on the version where one is asked for."""
    number, version = option.branch.branch, request.wants.version
    if request.wants.source_kind == "archive":
        method = "version" if version else "archive"
        return Hold(method, (version,) if version else (), f"{row.title} carries one version of a branch at a time.")
    if row.package_manager == "dnf":
        return _hold_dnf(number, version, row)
    plain = plain_names(names, option.branch)
    if option.branch.pinning and (plain or version):
        pin = f"nvidia-driver-pinning-{version or number}"
        why = f"{joined(plain)} would bring the newest branch" if plain else "Only this version is wanted"
        return Hold("pinning_package", (pin,), f"{why}, so {pin} is installed first.")
    method = "version" if version else "package_names"
    return Hold(method, (version,) if version else (), f"The branch {number} is part of the packages' names.")


def _hold_dnf(number: int, version: Optional[str], row: Distribution) -> Hold:
    if row.module_streams and not version:
        return Hold("module_stream", (), "The module stream holds the branch.")
    held = version or number
    patterns = (f"*nvidia*{held}*", f"cuda-drivers*{held}*")
    why = "The module stream holds the branch, and" if row.module_streams else f"{row.title} has no module streams, so"
    return Hold("versionlock", patterns, f"{why} dnf versionlock holds {held}.")


def module_stream(option: Option, row: Distribution) -> Optional[str]:
    """The stream to enable, as in nvidia-driver:580-open."""
    if not row.module_streams:
        return None
    return f"nvidia-driver:{option.branch.branch}-{'open' if option.modules == 'open' else 'dkms'}"


def all_packages(held: Hold, driver: Names, switches: Names) -> Names:
    """In the order of installation."""
    first: List[str] = list(held.names) if held.method == "pinning_package" else []
    return tuple(dict.fromkeys([*first, *driver, *switches]))
