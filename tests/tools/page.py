"""What the tools that write tables into pages of docs/ share."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def put(path: Path, tool: str, name: str, lines: list[str], page: str) -> str:
    """The page with other lines between the markers of that name."""
    begin, end = f"<!-- {name}: begin, written by tests/tools/{tool} -->", f"<!-- {name}: end -->"
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"{path}: the markers of {name} are gone; put back {begin} and {end}.")
    return pattern.sub(lambda _found: "\n".join([begin, *lines, end]), page)
