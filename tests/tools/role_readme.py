# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes roles/<role>/README.md from meta/argument_specs.yml, meta/main.yml and the tags of the tasks.

    python tests/tools/role_readme.py [--check] [ROLE ...]

--check writes nothing, prints the pages that are not up to date and exits 1. The example is the entry point's key
`examples`; a role's purpose is its `short_description` and `description`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "baremetal.llm"
NOTE = "<!-- Generated from meta/argument_specs.yml by tests/tools/role_readme.py: edit that, then run `make docs`. -->"
MARKUP = re.compile(r"\b[COVMPE]\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
INDENT = "&emsp;"


def lines(description: Any) -> list[str]:
    """A description as a list of paragraphs, whichever way the spec writes it."""
    if description is None:
        return []
    return [" ".join(str(each).split()) for each in (description if isinstance(description, list) else [description])]


def markdown(text: str) -> str:
    """Ansible's markup as Markdown: C(x), O(x), V(x), M(x), P(x#role) and E(x) become code, B() and I() emphasis."""
    text = MARKUP.sub(lambda found: f"`{found.group(1).partition('#')[0]}`", text)
    text = re.sub(r"\bB\(([^()]*)\)", r"**\1**", text)
    return re.sub(r"\bI\(([^()]*)\)", r"*\1*", text)


def cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def code(value: Any) -> str:
    """A value as inline code; a string that YAML would take for something else keeps its quotes."""
    plain = (
        isinstance(value, str) and re.fullmatch(r"[^\W\d][^:#]*|/.*", value) and value not in ("true", "false", "null")
    )
    return f"`{value if plain else json.dumps(value, ensure_ascii=False)}`"


def default_of(option: dict[str, Any]) -> str:
    return code(option["default"]) if "default" in option else ""


def type_of(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def rows(options: dict[str, Any], depth: int = 0) -> list[str]:
    """Table rows of these options in the spec's order, those of nested options indented below their own."""
    found = []
    for name, option in options.items():
        said = " ".join(markdown(each) for each in lines(option.get("description")))
        if "choices" in option:
            said += f" One of {', '.join(code(each) for each in option['choices'])}."
        required = "yes" if option.get("required") else "no"
        columns = [INDENT * depth + f"`{name}`", type_of(option), default_of(option), required, said]
        found.append("| " + " | ".join(cell(each) for each in columns) + " |")
        found += rows(option.get("options") or {}, depth + 1)
    return found


def tags_in(node: Any) -> set[str]:
    """Every tag that a list of tasks carries, at any depth."""
    found: set[str] = set()
    if isinstance(node, list):
        for each in node:
            found |= tags_in(each)
    elif isinstance(node, dict):
        tags = node.get("tags") or []
        found |= {str(tag) for tag in (tags if isinstance(tags, list) else str(tags).split(","))}
        for key in ("block", "rescue", "always"):
            found |= tags_in(node.get(key))
    return found


def example(role: str, entry: dict[str, Any]) -> str:
    given = entry.get("examples")
    return str(given).strip("\n") if given else f"- hosts: all\n  roles:\n    - role: {COLLECTION}.{role}"


def page(role: str, specs: dict[str, Any], meta: dict[str, Any], tags: set[str]) -> str:
    """The whole page; the entry point main comes first, others follow with a heading of their own."""
    out = [f"# {COLLECTION}.{role}", "", NOTE, ""]
    for name in sorted(specs, key=lambda each: (each != "main", each)):
        entry = specs[name]
        if name != "main":
            out += [f"## Entry point `{name}`", ""]
        out += [f"{markdown(' '.join(lines(entry.get('short_description')))).rstrip('.')}.", ""]
        out += (
            [" ".join(markdown(each) for each in lines(entry.get("description"))), ""]
            if entry.get("description")
            else []
        )
        if name == "main" or entry.get("examples"):
            out += ["```yaml", example(role, entry), "```", ""]
        if entry.get("options"):
            out += ["| Variable | Type | Default | Required | What it does |", "| --- | --- | --- | --- | --- |"]
            out += [*rows(entry["options"]), ""]
    galaxy = meta.get("galaxy_info") or {}
    platforms = [
        f"{each['name']} {', '.join(map(str, each.get('versions', ['all'])))}" for each in galaxy.get("platforms", [])
    ]
    if platforms:
        out += [
            f"Platforms: {'; '.join(platforms)}. ansible-core {galaxy.get('min_ansible_version', '2.19')} or newer.",
            "",
        ]
    if tags:
        out += [f"Tags: {', '.join(f'`{tag}`' for tag in sorted(tags))}.", ""]
    return "\n".join(out)


def load(path: Path) -> Any:
    """A file's YAML, an empty dictionary where the file is absent or empty."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def readme(folder: Path) -> str:
    """The page for the role in this folder."""
    tags: set[str] = set()
    for tasks in sorted((folder / "tasks").glob("**/*.yml")):
        tags |= tags_in(load(tasks))
    specs = load(folder / "meta" / "argument_specs.yml").get("argument_specs") or {}
    own = {tag for tag in tags if tag.startswith(f"{folder.name}_")}
    return page(folder.name, specs, load(folder / "meta" / "main.yml"), own)


def folders(root: Path, wanted: list[str]) -> list[Path]:
    """Folders of the named roles, or of all that have a spec."""
    found = {path.parents[1].name: path.parents[1] for path in sorted(root.glob("roles/*/meta/argument_specs.yml"))}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise SystemExit(f"No meta/argument_specs.yml for {', '.join(unknown)}; there are {', '.join(found)}.")
    return [found[name] for name in wanted or found]


def stale(root: Path, wanted: list[str]) -> list[Path]:
    """Pages that differ from what would be written."""
    pages = {folder / "README.md": readme(folder) for folder in folders(root, wanted)}
    return [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Write the roles' pages from their argument specs.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a page is not up to date")
    parser.add_argument("roles", nargs="*", metavar="ROLE", help="all by default")
    options = parser.parse_args(argv)
    for path in (old := stale(root, options.roles)):
        print(path.relative_to(root))
        if not options.check:
            path.write_text(readme(path.parent), encoding="utf-8")
    if old and options.check:
        print("These pages are not up to date; run `make docs`.", file=sys.stderr)
    return 1 if old and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
