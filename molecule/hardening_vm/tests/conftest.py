"""Lets the tests use the collection's own parsers."""

from __future__ import annotations

import os

from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

_AnsibleCollectionFinder(paths=[os.environ["MOLECULE_PROJECT_DIRECTORY"] + "/.collections"])._install()
