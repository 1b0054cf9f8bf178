# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt-cache policy says of packages: installed, candidate, and where each version comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

# Written for LC_ALL=C; apt_cache(8) shows the layout.
_PACKAGE = re.compile(r"(\S.*):\Z")
_STATE = re.compile(r"  (Installed|Candidate): (.+)\Z")
_VERSION = re.compile(r" (\*\*\*|   ) (\S+) (-?\d+)(?: \(phased \d+%\))?\Z")
_SOURCE = re.compile(r" {6,}-?\d+ (\S+)(?: (.*))?\Z")
_STATUS = "/var/lib/dpkg/status"


@dataclass(frozen=True)
class Version:
    """One version that apt knows; C(sources) are addresses of repositories, none for one that is only installed."""

    version: str
    priority: int
    sources: Tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """A package; C(installed) and C(candidate) are None where there is none."""

    name: str
    installed: Optional[str]
    candidate: Optional[str]
    versions: Tuple[Version, ...]

    def sources(self, version: Optional[str]) -> Tuple[str, ...]:
        """Repositories that have a version."""
        return next((each.sources for each in self.versions if each.version == version), ())


def parse(text: str) -> Dict[str, Package]:
    """Packages by name; a package that apt does not know is left out, as apt-cache leaves it out."""
    found: Dict[str, Package] = {}
    states: Dict[str, Optional[str]] = {}
    versions: List[Version] = []
    name = ""
    for line in [*text.splitlines(), ":"]:
        header = _PACKAGE.match(line)
        if header or line == ":":
            if name:
                found[name] = Package(name, states.get("Installed"), states.get("Candidate"), tuple(versions))
            name, states, versions = (header.group(1) if header else ""), {}, []
            continue
        state, version, source = _STATE.match(line), _VERSION.match(line), _SOURCE.match(line)
        if state:
            states[state.group(1)] = None if state.group(2) == "(none)" else state.group(2)
        elif version:
            versions.append(Version(version.group(2), int(version.group(3)), ()))
        elif source and versions and source.group(1) != _STATUS:
            last = versions.pop()
            versions.append(Version(last.version, last.priority, (*last.sources, source.group(1))))
    return found
