# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a playbook twice and prints, role by role, how long each run took and what it changed.

    python tests/benchmarks/site.py -i inventories/lab site.yml [-- OPTION OF ansible-playbook ...]
    python tests/benchmarks/site.py --read FIRST.json SECOND.json

Seconds are wall time and depend on the machine; nothing is asserted about them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COUNTS = ("ok", "changed", "skipped")
Record = list[dict[str, Any]]


def run(inventories: list[str], playbook: str, options: list[str], record: Path) -> Record:
    """One run; its output goes to the terminal, its record to a file. Ends this program where the run failed."""
    enabled = [name for name in os.environ.get("ANSIBLE_CALLBACKS_ENABLED", "").split(",") if name]
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": ",".join([*enabled, "role_times"]),
        "ROLE_TIMES_FILE": str(record),
    }
    command = ["ansible-playbook", *(part for each in inventories for part in ("-i", each)), playbook, *options]
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}; a run that failed is no benchmark.")
    return read(record)


def read(path: Path) -> Record:
    found: Record = json.loads(path.read_text(encoding="utf-8"))
    return found


def total(record: Record) -> dict[str, Any]:
    return {"role": "all", **{key: sum(row[key] for row in record) for key in ("seconds", *COUNTS)}}


def table(first: Record, second: Record) -> list[str]:
    """Lines of a table: a role a line in the order of the first run, both runs side by side, the sum last."""
    runs = [{row["role"]: row for row in [*record, total(record)]} for record in (first, second)]
    names = [name for name in dict.fromkeys([*runs[0], *runs[1]]) if name != "all"] + ["all"]
    width = max(map(len, names))
    head = f"{'seconds':>9}{'ok':>6}{'changed':>9}{'skipped':>9}"
    lines = [f"{'':{width}}{'first run':>{len(head)}}{'second run':>{len(head)}}", f"{'role':{width}}{head}{head}"]
    for name in names:
        cells = ""
        for rows in runs:
            row = rows.get(name)
            cells += (
                f"{row['seconds']:>9.1f}{row['ok']:>6}{row['changed']:>9}{row['skipped']:>9}"
                if row
                else f"{'-':>9}{'':24}"
            )
        lines.append(f"{name:{width}}{cells}")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Seconds and results of two runs of a playbook, by role.")
    parser.add_argument(
        "-i", "--inventory", action="append", default=[], help="as for ansible-playbook; may be repeated"
    )
    parser.add_argument(
        "--read", nargs=2, type=Path, metavar="FILE", help="records of two earlier runs, instead of running"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the records here, as first.json and second.json"
    )
    parser.add_argument("playbook", nargs="?")
    parser.add_argument("options", nargs="*", help="options for ansible-playbook, after --")
    given = parser.parse_args(argv)
    if given.read:
        first, second = (read(path) for path in given.read)
    elif given.playbook:
        with tempfile.TemporaryDirectory() as scratch:
            folder = given.keep or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            files = (folder / "first.json", folder / "second.json")
            first, second = (run(given.inventory, given.playbook, given.options, file) for file in files)
    else:
        parser.error("name a playbook to run, or two records with --read")
    print("\n".join(table(first, second)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
