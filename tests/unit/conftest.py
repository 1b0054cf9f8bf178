# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this checkout importable as ansible_collections.baremetal.llm, wherever it lies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

COLLECTION_ROOT = Path(__file__).resolve().parents[2]


def _install_collection_finder() -> None:
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    # ansible-test runs its own finder, on a copy of the tree in a real ansible_collections folder.
    if any(isinstance(finder, _AnsibleCollectionFinder) for finder in sys.meta_path):
        return
    _AnsibleCollectionFinder(paths=[str(COLLECTION_ROOT / ".collections")])._install()


_install_collection_finder()
# How long an example takes is the machine's matter, not the code's.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def files() -> Iterator[Any]:
    """StandinFiles: a web server, registry or mirror."""
    from ansible_collections.baremetal.llm.tests.unit.standin_ollama import StandinFiles

    server = StandinFiles()
    yield server
    server.stop()


@pytest.fixture
def ollama(tmp_path: Path, files: Any) -> Iterator[Any]:
    """StandinOllama with an empty store, pulling from C(files)."""
    from ansible_collections.baremetal.llm.tests.unit.standin_ollama import StandinOllama

    server = StandinOllama(tmp_path / "models", files)
    yield server
    server.stop()
