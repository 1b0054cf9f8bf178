# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading apt-cache policy: what is installed, what would be, and from where."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.llm.plugins.filter.apt_policy import policy
from ansible_collections.baremetal.llm.plugins.module_utils.apt_policy import Version, parse

# As apt 2.6 prints it; the blanks are what its columns depend on.
TEXT = """\
nvidia-smi:
  Installed: (none)
  Candidate: 535.309.01-0+deb12u1
  Version table:
     535.309.01-0+deb12u1 500
        500 http://deb.debian.org/debian bookworm/non-free amd64 Packages
     535.261.03-1~deb12u1 500
        500 http://deb.debian.org/debian-security bookworm-security/non-free amd64 Packages
        500 http://mirror.example/debian bookworm/non-free amd64 Packages
libcuda1:amd64:
  Installed: 595.71.05-1
  Candidate: 580.159.03-1
  Version table:
 *** 595.71.05-1 100
        100 /var/lib/dpkg/status
     580.159.03-1 1000
       1000 https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64  Packages
     535.1-1 -1
         -1 http://deb.debian.org/debian bookworm/non-free amd64 Packages
virtual-only:
  Installed: (none)
  Candidate: (none)
  Version table:
linux-image-amd64:
  Installed: 6.1.1
  Candidate: 6.1.2
  Version table:
     6.1.2 500 (phased 40%)
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
 *** 6.1.1 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
"""


def test_what_is_installed_and_what_would_be() -> None:
    found = parse(TEXT)
    assert [(each.name, each.installed, each.candidate) for each in found.values()] == [
        ("nvidia-smi", None, "535.309.01-0+deb12u1"),
        ("libcuda1:amd64", "595.71.05-1", "580.159.03-1"),
        ("virtual-only", None, None),
        ("linux-image-amd64", "6.1.1", "6.1.2"),
    ]


def test_priorities_and_repositories() -> None:
    found = parse(TEXT)
    assert found["libcuda1:amd64"].versions == (
        Version("595.71.05-1", 100, ()),
        Version("580.159.03-1", 1000, ("https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64",)),
        Version("535.1-1", -1, ("http://deb.debian.org/debian",)),
    )
    assert found["nvidia-smi"].sources("535.261.03-1~deb12u1") == (
        "http://deb.debian.org/debian-security",
        "http://mirror.example/debian",
    )
    assert found["nvidia-smi"].sources(None) == ()


def test_the_filter_says_where_from() -> None:
    found = policy(TEXT)
    assert found["libcuda1:amd64"] == {
        "installed": "595.71.05-1",
        "candidate": "580.159.03-1",
        "installed_sources": [],
        "candidate_sources": ["https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"],
        "available": ["580.159.03-1", "535.1-1"],
    }
    assert found["linux-image-amd64"]["installed_sources"] == ["http://deb.debian.org/debian"]
    assert found["virtual-only"]["candidate_sources"] == []
    assert policy("") == {}


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="got list; give the output of apt-cache policy"):
        policy([])
