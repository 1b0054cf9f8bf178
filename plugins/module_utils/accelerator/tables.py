# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of distributions, driver branches, packages, cards, CUDA and MIG: the files of catalogue/accelerator.

Each row says how sure it is (C(confidence)) and from where it is (C(source)); see the head of each file for its keys.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from ansible_collections.baremetal.llm.plugins.module_utils.accelerator.errors import CONFIDENCE, AcceleratorError

FILES = ("distributions", "branches", "packages", "cards", "cuda", "mig")
Names = Tuple[str, ...]
Row = Mapping[str, Any]
Built = TypeVar("Built")


@dataclass(frozen=True)
class ArchiveBranch:
    """A branch that a distribution packages itself; C(open_version) where its open modules are of another version."""

    branch: int
    version: str
    open_version: Optional[str]


@dataclass(frozen=True)
class Archive:
    """The driver of the distribution's own archive."""

    branches: Tuple[ArchiveBranch, ...]
    transitional: Mapping[int, int]
    sections: Names
    prebuilt_modules: bool
    fabric_manager: Optional[Names]
    confidence: str
    source: Names

    def branch(self, number: int) -> Optional[ArchiveBranch]:
        return next((each for each in self.branches if each.branch == number), None)


@dataclass(frozen=True)
class Distribution:
    """One release of a distribution, or all that are built from EL of one number."""

    name: str
    title: str
    ids: Names
    versions: Names
    package_manager: str
    package_style: str
    folder: str
    architectures: Mapping[str, str]
    keyring_package: Optional[str]
    key_file: str
    key_fingerprint: Optional[str]
    confirmed_from: Optional[int]
    module_streams: bool
    headers: Names
    repositories: Names
    release_kernel: Optional[str]
    archive: Optional[Archive]
    confidence: str
    source: Names


@dataclass(frozen=True)
class Branch:
    """A driver branch; C(end) is the last month of support, as in 2028-06."""

    branch: int
    kind: str
    end: Optional[str]
    ended: bool
    newest: Optional[str]
    modules: Names
    default_modules: str
    naming: str
    pinning: bool
    fabric_manager: Mapping[str, Sequence[str]]
    nvlink5: Optional[Mapping[str, Sequence[str]]]
    confidence: str
    source: Names

    def over(self, today: str) -> bool:
        """Whether support has ended on that day (2026-11-22)."""
        return self.ended if self.end is None else today[:7] > self.end


@dataclass(frozen=True)
class PackageSet:
    """Packages for one way of installing a driver."""

    style: str
    source_kind: str
    naming: str
    modules: str
    build: str
    scope: str
    min_branch: int
    packages: Names
    confidence: str
    source: Names


@dataclass(frozen=True)
class Card:
    """One or several cards that need the same of a driver; C(ids) are PCI ids without the vendor."""

    ids: Names
    name: str
    architecture: str
    modules: Names
    oldest_branch: int
    oldest_version: Optional[str]
    newest_branch: Optional[int]
    fabric: str
    mig: Optional[str]
    data_center: bool
    confidence: str
    source: Names

    @property
    def title(self) -> str:
        return f"{self.name} ({self.architecture.capitalize()})"


@dataclass(frozen=True)
class MigProfile:
    """One size of GPU instance; C(memory) and C(compute) are slices, C(starts) memory slices."""

    name: str
    id: Optional[int]
    memory: int
    compute: int
    starts: Tuple[int, ...]
    count: int
    media: bool


@dataclass(frozen=True)
class MigBoard:
    """How one card is cut."""

    name: str
    title: str
    memory_slices: int
    compute_slices: int
    profiles: Tuple[MigProfile, ...]
    confidence: str
    source: Names

    def profile(self, name: str) -> Optional[MigProfile]:
        return next((each for each in self.profiles if each.name == name), None)


@dataclass(frozen=True)
class CudaDriver:
    """A toolkit, or a number of toolkits such as 12, and the oldest driver for it."""

    version: str
    driver: str
    confidence: str
    source: Names


@dataclass(frozen=True)
class CompatPackage:
    """cuda-compat of a version, and the driver branches that may carry it."""

    version: str
    branches: Tuple[int, ...]
    confidence: str
    source: Names

    @property
    def package(self) -> str:
        return "cuda-compat-" + self.version.replace(".", "-")


@dataclass(frozen=True)
class Tables:
    """All of it; branches from the oldest to the newest."""

    as_of: str
    distributions: Tuple[Distribution, ...]
    branches: Tuple[Branch, ...]
    packages: Tuple[PackageSet, ...]
    cards: Tuple[Card, ...]
    switches: Names
    cuda_majors: Tuple[CudaDriver, ...]
    toolkits: Tuple[CudaDriver, ...]
    compatibility: Tuple[CompatPackage, ...]
    boards: Tuple[MigBoard, ...]

    def branch(self, number: int) -> Optional[Branch]:
        return next((each for each in self.branches if each.branch == number), None)

    def card(self, pci_id: str) -> Optional[Card]:
        return next((each for each in self.cards if pci_id in each.ids), None)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _build(kind: Type[Built], row: Any, where: str, **made: Any) -> Built:
    """One row as its class; C(made) are the values that are no plain ones."""
    if not isinstance(row, Mapping):
        raise AcceleratorError(f"{where} is {row!r}; give a mapping.")
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    missing = [name for name in names if name not in row and name not in made]
    if missing:
        raise AcceleratorError(f"{where} has no {missing[0]}; add it.")
    if "confidence" in names and row["confidence"] not in CONFIDENCE:
        raise AcceleratorError(f"{where} has the confidence {row['confidence']!r}; it is {', '.join(CONFIDENCE)}.")
    return kind(**{name: made[name] if name in made else _frozen(row[name]) for name in names})


def _rows(documents: Mapping[str, Row], file: str, key: str) -> List[Tuple[Any, str]]:
    rows = documents[file].get(key)
    if not isinstance(rows, list) or not rows:
        raise AcceleratorError(f"{file}.yml has no list {key}; add it.")
    return [(row, f"row {number} of {key} in {file}.yml") for number, row in enumerate(rows, start=1)]


def _archive(row: Any, where: str) -> Optional[Archive]:
    if row is None:
        return None
    branches = tuple(
        _build(ArchiveBranch, each, f"a branch of the archive of {where}", open_version=each.get("open_version"))
        for each in row["branches"]
    )
    return _build(Archive, row, f"the archive of {where}", branches=branches)


def _board(row: Any, where: str) -> MigBoard:
    profiles = tuple(_build(MigProfile, each, f"a profile of {where}") for each in row["profiles"])
    return _build(MigBoard, row, where, profiles=profiles)


def _switches(documents: Mapping[str, Row]) -> Names:
    return tuple(str(each) for row, _where in _rows(documents, "cards", "switches") for each in row["ids"])


def _cuda(documents: Mapping[str, Row]) -> Dict[str, Any]:
    majors = [
        _build(CudaDriver, row, where, version=str(row["major"])) for row, where in _rows(documents, "cuda", "majors")
    ]
    return {
        "cuda_majors": tuple(majors),
        "toolkits": tuple(_build(CudaDriver, *each) for each in _rows(documents, "cuda", "toolkits")),
        "compatibility": tuple(_build(CompatPackage, *each) for each in _rows(documents, "cuda", "compatibility")),
    }


def read_tables(documents: Mapping[str, Row]) -> Tables:
    """The contents of the files by their names without .yml; AcceleratorError names the row that makes no sense."""
    for file in FILES:
        if not isinstance(documents.get(file), Mapping):
            raise AcceleratorError(f"the tables have no {file}; give the contents of {file}.yml.")
    branches = [_build(Branch, *each) for each in _rows(documents, "branches", "branches")]
    return Tables(
        as_of=str(documents["branches"]["as_of"]),
        distributions=tuple(
            _build(Distribution, row, where, archive=_archive(row.get("archive"), where))
            for row, where in _rows(documents, "distributions", "distributions")
        ),
        branches=tuple(sorted(branches, key=lambda each: each.branch)),
        packages=tuple(_build(PackageSet, *each) for each in _rows(documents, "packages", "packages")),
        cards=tuple(_build(Card, *each) for each in _rows(documents, "cards", "cards")),
        switches=_switches(documents),
        boards=tuple(_board(*each) for each in _rows(documents, "mig", "boards")),
        **_cuda(documents),
    )
