# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository's rules for roles and plugins.

Each function takes the collection's root and returns one line a breach, "path: what", and [] where its rule is kept.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TASK_LINES_MAX = 150
KEYWORDS = set(
    "action any_errors_fatal args async become become_exe become_flags become_method become_user block always rescue "
    "changed_when check_mode collections connection debugger delay delegate_facts delegate_to diff environment "
    "failed_when ignore_errors ignore_unreachable listen local_action loop loop_control module_defaults name no_log "
    "notify poll port register remote_user retries run_once tags throttle timeout until vars when".split()
)
COMMANDS = {f"ansible.builtin.{name}" for name in ("command", "shell", "raw")}
INCLUDES = {"ansible.builtin.include_role", "ansible.builtin.import_role"}
PIPED_SHELL = re.compile(r"\b(?:curl|wget)\b[^\n|]*\|\s*(?:sudo\s+)?(?:\w+=\S+\s+)*(?:ba|da|z|k)?sh\b")


class _Loader(yaml.SafeLoader):
    """Reads Ansible's own tags as plain values."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, node: getattr(node, "value", None))


@dataclass(frozen=True)
class Task:
    """One task: its keys, its source with the comment lines right above it, and where it stands."""

    keys: dict[str, Any]
    source: str
    where: str

    @property
    def action(self) -> str:
        """The module it calls, "" for a block."""
        return next((key for key in self.keys if key not in KEYWORDS and not key.startswith("with_")), "")


def load(path: Path) -> Any:
    """The file's YAML, {} where it is absent or empty."""
    # _Loader is a SafeLoader.
    return (yaml.load(path.read_text(encoding="utf-8"), _Loader) if path.is_file() else None) or {}


def roles(root: Path) -> list[Path]:
    return sorted(path for path in (root / "roles").iterdir() if (path / "tasks").is_dir())


def tasks(root: Path, *folders: str) -> Iterator[Task]:
    """Every task of all roles, those in blocks too; ``folders`` are "tasks" and "handlers" by default."""
    for role in roles(root):
        for folder in folders or ("tasks", "handlers"):
            for path in sorted((role / folder).glob("**/*.yml")):
                text = path.read_text(encoding="utf-8")
                node = yaml.compose(text, _Loader)
                where = str(path.relative_to(root))
                yield from _tasks_of(node, text.splitlines(), where) if node else ()


def _tasks_of(node: yaml.Node, lines: list[str], where: str) -> Iterator[Task]:
    for each in node.value:
        if not isinstance(each, yaml.MappingNode):
            continue
        start = each.start_mark.line
        while start and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        source = "\n".join(lines[start : each.end_mark.line])
        keys = yaml.load(yaml.serialize(each), _Loader)
        yield Task(keys, source, f"{where}:{each.start_mark.line + 1}")
        for key, value in each.value:
            if key.value in ("block", "rescue", "always") and isinstance(value, yaml.SequenceNode):
                yield from _tasks_of(value, lines, where)


def spec_options(role: Path) -> dict[str, dict[str, Any]]:
    """Options of all entry points of a role's argument spec."""
    entries = load(role / "meta/argument_specs.yml").get("argument_specs") or {}
    return {name: option for entry in entries.values() for name, option in (entry.get("options") or {}).items()}


def defaults_differ(root: Path) -> list[str]:
    """Defaults and the spec's defaults must have the same names and values."""
    found = []
    for role in roles(root):
        written = load(role / "defaults/main.yml")
        specified = {name: option["default"] for name, option in spec_options(role).items() if "default" in option}
        for name in sorted(written.keys() | specified.keys()):
            if name not in specified:
                found.append(f"{role.name}: {name} has a default and none in its spec")
            elif name not in written:
                found.append(f"{role.name}: {name} has a default in its spec only")
            elif written[name] != specified[name]:
                found.append(f"{role.name}: {name} is {written[name]!r}, in its spec {specified[name]!r}")
    return found


def spec_missing(root: Path) -> list[str]:
    return [f"{role.name}: no meta/argument_specs.yml" for role in roles(root) if not spec_options(role)]


def names_foreign(root: Path) -> list[str]:
    """A variable of a role begins with the role's name."""
    found = []
    for role in roles(root):
        names = load(role / "defaults/main.yml").keys() | spec_options(role).keys()
        found += [f"{role.name}: {name}" for name in sorted(names) if not name.startswith(f"{role.name}_")]
    return found


def scenario_missing(root: Path) -> list[str]:
    """A role is tried in a container, or on a virtual machine where it needs its own kernel."""
    return [
        f"{role.name}: no scenario"
        for role in roles(root)
        if not any((root / f"molecule/{role.name}{suffix}/molecule.yml").is_file() for suffix in ("", "_vm"))
    ]


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def checks_skipped(root: Path) -> list[str]:
    """Whoever runs a part of a role by its tag has the variables checked as well.

    An include reaches the tasks in the file by the tags under ``apply`` only.
    """
    found = []
    for role in roles(root):
        steps = [task.keys for task in tasks(role.parents[1], "tasks") if f"/{role.name}/tasks/main.yml:" in task.where]
        wanted = {tag for keys in steps for tag in _texts(keys.get("tags"))} - {"always"}
        for keys in steps:
            reached = set(_texts(keys.get("tags")))
            include = keys.get("ansible.builtin.include_tasks", {})
            if isinstance(include, dict) and include.get("file") == "assert.yml":
                reached &= set(_texts((include.get("apply") or {}).get("tags")))
            elif keys.get("ansible.builtin.import_tasks") != "assert.yml":
                continue
            missing = wanted - reached if "always" not in reached else set()
            found += [f"{role.name}: {tag} runs without its checks" for tag in sorted(missing)]
    return found


def tasks_too_long(root: Path) -> list[str]:
    found = []
    for path in sorted(root.glob("roles/*/tasks/**/*.yml")):
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > TASK_LINES_MAX:
            found.append(f"{path.relative_to(root)}: {count} lines")
    return found


def errors_ignored(root: Path) -> list[str]:
    return [f"{task.where}: ignore_errors" for task in tasks(root) if "ignore_errors" in task.keys]


def failure_hidden(root: Path) -> list[str]:
    """failed_when: false needs a comment that says why."""
    found = (task for task in tasks(root) if task.keys.get("failed_when") is False)
    return [f"{task.where}: failed_when: false without a reason" for task in found if "#" not in task.source]


def commands_bare(root: Path) -> list[str]:
    """A command needs changed_when (or creates, removes) and a comment that says why no module does it."""
    found = []
    for task in tasks(root, "tasks"):
        if task.action not in COMMANDS:
            continue
        arguments = task.keys[task.action]
        guards = {**(arguments if isinstance(arguments, dict) else {}), **(task.keys.get("args") or {})}
        if "changed_when" not in task.keys and not {"creates", "removes"} & guards.keys():
            found.append(f"{task.where}: {task.action} without changed_when")
        if "#" not in task.source:
            found.append(f"{task.where}: {task.action} without a reason")
    return found


def short_names(root: Path) -> list[str]:
    """Modules are called by their full names."""
    found = []
    for task in tasks(root):
        actions = [key for key in task.keys if key not in KEYWORDS]
        found += [f"{task.where}: {key}" for key in actions if key.count(".") < 2]
        found += [f"{task.where}: action" for key in ("action", "local_action") if key in task.keys]
    return found


def piped_shells(root: Path, *folders: str) -> list[str]:
    """Nothing that was just downloaded is run by a shell."""
    found = []
    for folder in folders or ("roles", "playbooks", "molecule", "docs", "inventories"):
        for path in sorted(path for path in (root / folder).glob("**/*") if path.is_file()):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(root)}: {match.group(0)}" for match in PIPED_SHELL.finditer(text)]
    return found


def checksums_missing(root: Path) -> list[str]:
    """Every url in vars/artifacts.yml has a SHA-256 beside it, or null with a comment on that line."""
    found = []
    for path in sorted(root.glob("roles/*/vars/artifacts.yml")):
        text = path.read_text(encoding="utf-8")
        for row in _rows_with_url(load(path)):
            checksum = row.get("sha256", "")
            if checksum is not None and not re.fullmatch(r"[0-9a-f]{64}", str(checksum)):
                found.append(f"{path.relative_to(root)}: {row['url']}: sha256 is {checksum!r}")
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"\bsha256:\s*(?:null|~)?\s*(?:#\s*)?$", line) or re.search(
                r"\bsha256:\s*(?:null|~)\s*[,}]", line
            ):
                found.append(f"{path.relative_to(root)}:{number}: sha256 is null without a reason")
    return found


def _rows_with_url(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "url" in node:
            yield node
        for value in node.values():
            yield from _rows_with_url(value)
    elif isinstance(node, list):
        for value in node:
            yield from _rows_with_url(value)


def neighbours_named(root: Path) -> list[str]:
    """A role names no variable of another one, but for those that it hands to a role which it includes."""
    owners = {name: role.name for role in roles(root) for name in spec_options(role)}
    found = []
    for role in roles(root):
        folders = ("defaults", "vars", "tasks", "handlers", "templates")
        for path in sorted(path for folder in folders for path in (role / folder).glob("**/*") if path.is_file()):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".yml":
                text = yaml.safe_dump(_without_handed(load(path)), width=10_000)
            words = set(re.findall(r"\b[a-z][a-z0-9_]*\b", text))
            named = sorted(word for word in words & owners.keys() if owners[word] != role.name)
            found += [f"{path.relative_to(root)}: {name}" for name in named]
    return found


def _without_handed(node: Any) -> Any:
    """The same tasks without the names of variables that they hand to an included role; their values stay."""
    if isinstance(node, list):
        return [_without_handed(each) for each in node]
    if not isinstance(node, dict):
        return node
    including = next((node[key] for key in INCLUDES if isinstance(node.get(key), dict)), None)
    rest = {key: _without_handed(value) for key, value in node.items()}
    if including and isinstance(node.get("vars"), dict):
        target = str(including.get("name", "")).rpartition(".")[2]
        handed = [value for name, value in node["vars"].items() if name.startswith(f"{target}_")]
        rest["vars"] = [handed, {k: v for k, v in node["vars"].items() if not k.startswith(f"{target}_")}]
    return rest


def plugins_undocumented(root: Path) -> list[str]:
    """A module or filter documents itself, with examples, under its file's name."""
    found = []
    for kind, key in (("modules", "module"), ("filter", "name")):
        for path in sorted((root / "plugins" / kind).glob("*.py")):
            values = _strings(path)
            where = path.relative_to(root)
            wanted = ("DOCUMENTATION", "EXAMPLES", "RETURN")
            found += [f"{where}: no {name}" for name in wanted if not values.get(name, "").strip()]
            documented = yaml.safe_load(values.get("DOCUMENTATION") or "{}")
            if documented and documented.get(key) != path.stem:
                found.append(f"{where}: documented as {documented.get(key)}")
    return found


def _strings(path: Path) -> dict[str, str]:
    """String constants at the top level of a Python file."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def in_range(version: str, wanted: str) -> bool:
    """Whether a release is within a range such as ">=2.0.0,<3.0.0"."""
    compare = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "<": lambda a, b: a < b, ">": lambda a, b: a > b}
    for part in wanted.split(","):
        operator, number = re.fullmatch(r"\s*(>=|<=|<|>)\s*([\d.]+)\s*", part).groups()  # type: ignore[union-attr]
        if not compare[operator](_numbers(version), _numbers(number)):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def dependencies_uncovered(root: Path, bundle: Path) -> list[str]:
    """galaxy.yml's ranges cover what the bundle of collections holds, and requirements.yml says the same."""
    wanted = load(root / "galaxy.yml")["dependencies"]
    found = []
    for name, versions in wanted.items():
        manifest = bundle / name.replace(".", "/") / "MANIFEST.json"
        if not manifest.is_file():
            found.append(f"{name}: not in the bundle")
            continue
        # JSON is YAML.
        version = load(manifest)["collection_info"]["version"]
        if not in_range(version, versions):
            found.append(f"{name}: {versions} leaves out {version}")
    listed = {each["name"]: each["version"] for each in load(root / "requirements.yml").get("collections", [])}
    if listed != wanted:
        found.append(f"requirements.yml: {listed} differs from galaxy.yml's {wanted}")
    return found
