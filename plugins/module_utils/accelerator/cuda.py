# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CUDA toolkits a driver serves.

native: the driver is the toolkit's own or newer. minor: an older one of the same major number, with fewer features and
no JIT compilation of what the newer compiler made. compat: one of an older major number that carries the compatibility
package, on data center cards only. refused: none of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import AcceleratorError, joined
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.tables import CompatPackage, CudaDriver, Tables
from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.versions import at_least, numbers

_COMPAT = re.compile(r"(?:cuda-compat-)?(\d+)[.-](\d+)\Z")


@dataclass(frozen=True)
class Compatibility:
    """One toolkit; C(verdict) is native, minor, compat (with C(package)) or refused, C(reason) is one sentence.

    C(driver) is the oldest one with all features, None for a toolkit that is not known.
    """

    toolkit: str
    verdict: str
    reason: str
    driver: Optional[str] = None
    package: Optional[str] = None


@dataclass(frozen=True)
class _Host:
    driver: str
    packages: Tuple[CompatPackage, ...]
    data_center: Optional[bool]

    @property
    def branch(self) -> int:
        return numbers(self.driver, "driver_version")[0]


def _list(value: Any, what: str) -> Sequence[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise AcceleratorError(f"{what} is {value!r}; give a list.")
    return value


def _package(value: Any, tables: Tables) -> CompatPackage:
    found = _COMPAT.match(str(value))
    version = f"{found.group(1)}.{found.group(2)}" if found else ""
    row = next((each for each in tables.compatibility if each.version == version), None)
    if row is None:
        known = joined((each.package for each in tables.compatibility), "or")
        raise AcceleratorError(f"compat_packages has {value!r}, which is not known; write {known}.")
    return row


def _toolkit(version: str, tables: Tables) -> Optional[CudaDriver]:
    """The row of a version; 12.9 means its newest update, which is what its package installs."""
    exact = [each for each in tables.toolkits if each.version == version]
    if exact and version.count(".") == 2:
        return exact[0]
    updates = [each for each in tables.toolkits if each.version == version or each.version.startswith(version + ".")]
    return max(updates, key=lambda each: numbers(each.version, "toolkit"), default=None)


def _minor_driver(toolkit: str, tables: Tables) -> Optional[str]:
    major = toolkit.split(".")[0]
    return next((each.driver for each in tables.cuda_majors if each.version == major), None)


def _serves(package: CompatPackage, toolkit: str, branch: int) -> bool:
    """A package serves its own toolkit and older ones of the same major number."""
    has, needs = numbers(package.version, "package"), numbers(toolkit, "toolkit")
    return branch in package.branches and has[0] == needs[0] and has[:2] >= needs[:2]


def _compat(toolkit: str, host: _Host) -> Optional[CompatPackage]:
    if host.data_center is False:
        return None
    fitting = [each for each in host.packages if _serves(each, toolkit, host.branch)]
    return min(fitting, key=lambda each: numbers(each.version, "package"), default=None)


def _refused(row: CudaDriver, toolkit: str, host: _Host, tables: Tables) -> Compatibility:
    minor = _minor_driver(toolkit, tables)
    fixes: List[str] = [f"install driver {minor or row.driver} or newer by nvidia_driver_branch"]
    possible = [each for each in tables.compatibility if _serves(each, toolkit, host.branch)]
    if possible and host.data_center is not False:
        fixes.append(f"install {possible[0].package}")
    card = ", and cuda-compat works on data center cards only" if possible and host.data_center is False else ""
    reason = f"CUDA {toolkit} needs driver {minor or row.driver} or newer, and {host.driver} is installed{card}; "
    return Compatibility(toolkit, "refused", reason + " or ".join(fixes) + ".", row.driver)


def _judge(toolkit: str, host: _Host, tables: Tables) -> Compatibility:
    row = _toolkit(toolkit, tables)
    if row is None:
        known = joined(each.version for each in tables.toolkits)
        return Compatibility(toolkit, "refused", f"CUDA {toolkit} is not in the table; choose one of {known}.")
    if at_least(host.driver, row.driver):
        reason = f"Driver {host.driver} is at least {row.driver}, with which CUDA {row.version} was released."
        return Compatibility(toolkit, "native", reason, row.driver)
    minor = _minor_driver(toolkit, tables)
    if minor and at_least(host.driver, minor):
        reason = (
            f"Driver {host.driver} runs programs of CUDA {toolkit.split('.')[0]}.x since it is at least {minor}; "
            f"all features of {row.version} need {row.driver}."
        )
        return Compatibility(toolkit, "minor", reason, row.driver)
    package = _compat(toolkit, host)
    if package:
        reason = f"{package.package} brings the libraries of CUDA {package.version} to driver {host.driver}."
        return Compatibility(toolkit, "compat", reason, row.driver, package.package)
    return _refused(row, toolkit, host, tables)


def cuda_compatibility(
    driver_version: Any,
    toolkit_versions: Any,
    compat_packages: Any,
    tables: Tables,
    data_center: Optional[bool] = None,
) -> Tuple[Compatibility, ...]:
    """A verdict for each toolkit, in their order.

    C(compat_packages) are those that are or may be installed, as cuda-compat-13-0 or 13.0. C(data_center): whether all
    cards are data center cards; None is not known, and then a package counts. AcceleratorError for bad values.
    """
    numbers(driver_version, "driver_version")
    toolkits = [str(each) for each in _list(toolkit_versions, "toolkit_versions")]
    for toolkit in toolkits:
        numbers(toolkit, "a toolkit version")
    packages = tuple(_package(each, tables) for each in _list(compat_packages, "compat_packages"))
    host = _Host(str(driver_version), packages, data_center)
    return tuple(_judge(toolkit, host, tables) for toolkit in toolkits)
