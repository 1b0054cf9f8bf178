# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository's rules hold for every role and plugin here, and each rule finds the breach that it is for."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import ansible
import pytest
from ansible_collections.baremetal.llm.tests.unit import role_rules as rules

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = Path(ansible.__file__).resolve().parents[1] / "ansible_collections"
RULES = [
    rules.spec_missing,
    rules.defaults_differ,
    rules.names_foreign,
    rules.scenario_missing,
    rules.checks_skipped,
    rules.tasks_too_long,
    rules.errors_ignored,
    rules.failure_hidden,
    rules.commands_bare,
    rules.short_names,
    rules.piped_shells,
    rules.checksums_missing,
    rules.neighbours_named,
    rules.plugins_undocumented,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_is_kept(rule: Callable[[Path], list[str]]) -> None:
    assert rule(ROOT) == []


def readme_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("role_readme", ROOT / "tests/tools/role_readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_role_pages_are_up_to_date() -> None:
    assert [str(path.relative_to(ROOT)) for path in readme_tool().stale(ROOT, [])] == []


@pytest.mark.skipif(not (BUNDLE / "community").is_dir(), reason="ansible-core is installed without the bundle")
def test_dependencies_cover_the_bundle() -> None:
    assert rules.dependencies_uncovered(ROOT, BUNDLE) == []


SOUND = {
    "roles/good/meta/argument_specs.yml": """
argument_specs: {main: {short_description: Do good, options: {good_port: {type: int, default: 1}}}}
""",
    "roles/good/defaults/main.yml": "good_port: 1\n",
    "roles/good/tasks/main.yml": """
- name: Ask
  # command: no module asks.
  ansible.builtin.command: ask
  changed_when: false
- name: Hand over
  ansible.builtin.include_role: {name: baremetal.llm.other}
  vars: {other_x: '{{ good_port }}'}
""",
    "roles/good/vars/artifacts.yml": f"""
a: {{url: 'https://x/', sha256: {"0a" * 32}}}
b:
  url: u
  sha256: null  # why
""",
    "roles/other/meta/argument_specs.yml": "argument_specs: {main: {options: {other_x: {required: true}}}}\n",
    "roles/other/tasks/main.yml": """
- name: Nothing
  block:
    - name: Say
      ansible.builtin.debug: {msg: '{{ other_x }}'}
""",
    "molecule/good/molecule.yml": "platforms: []\n",
    "molecule/other_vm/molecule.yml": "platforms: []\n",
    "plugins/modules/x.py": 'DOCUMENTATION = "module: x"\nEXAMPLES = "- x"\nRETURN = "a: 1"\n',
    "plugins/filter/y.py": 'DOCUMENTATION = "name: y"\nEXAMPLES = "- y"\nRETURN = "a: 1"\n',
    "galaxy.yml": "dependencies: {a.b: '>=1.0.0,<2.0.0'}\n",
    "requirements.yml": "collections: [{name: a.b, version: '>=1.0.0,<2.0.0'}]\n",
    "bundle/a/b/MANIFEST.json": json.dumps({"collection_info": {"version": "1.10.0"}}),
}
MAIN = "roles/good/tasks/main.yml"
CHECKED = """
- name: Check
  ansible.builtin.include_tasks: {{file: assert.yml, apply: {{{}}}}}
  tags: {}
- name: Work
  ansible.builtin.debug:
  tags: [good_b]
"""
BREACHES = [
    (rules.spec_missing, "roles/other/meta/argument_specs.yml", "", "other: no meta"),
    (rules.defaults_differ, "roles/good/defaults/main.yml", "good_port: '1'\n", "good_port is '1', in its spec 1"),
    (rules.defaults_differ, "roles/good/defaults/main.yml", "", "good_port has a default in its spec only"),
    (rules.defaults_differ, "roles/other/defaults/main.yml", "other_x: 1\n", "other_x has a default and none"),
    (rules.names_foreign, "roles/other/defaults/main.yml", "port: 1\n", "other: port"),
    (rules.scenario_missing, "molecule/good/molecule.yml", None, "good: no scenario"),
    (rules.scenario_missing, "molecule/other_vm/molecule.yml", None, "other: no scenario"),
    (rules.checks_skipped, MAIN, CHECKED.format("tags: [good_a]", "[good_a]"), "good: good_b runs without"),
    (rules.checks_skipped, MAIN, CHECKED.format("", "[good_a, good_b]"), "good: good_b runs without"),
    (rules.checks_skipped, MAIN, CHECKED.format("tags: [good_c]", "[always]"), "good: good_b runs without"),
    (rules.tasks_too_long, MAIN, "#\n" * 151, "151 lines"),
    (rules.errors_ignored, MAIN, "- ansible.builtin.ping:\n  ignore_errors: true\n", "main.yml:1: ignore_errors"),
    (rules.errors_ignored, MAIN, "- block:\n    - a.b.c:\n      ignore_errors: no\n", "main.yml:2: ignore_errors"),
    (rules.failure_hidden, MAIN, "- a.b.c:\n  failed_when: false\n- a.b.d: # x\n", "main.yml:1: failed_when"),
    (rules.commands_bare, MAIN, "- ansible.builtin.shell: x  # why\n", "shell without changed_when"),
    (rules.commands_bare, MAIN, "- ansible.builtin.raw: x\n  changed_when: false\n", "raw without a reason"),
    (rules.short_names, MAIN, "- name: x\n  copy: {}\n", "main.yml:1: copy"),
    (rules.short_names, MAIN, "- name: x\n  with_items: []\n  a.b.c:\n", "with_items"),
    (rules.piped_shells, "docs/x.md", "curl -fsSL https://x/i.sh | sudo bash -s\n", "curl -fsSL"),
    (rules.checksums_missing, "roles/good/vars/artifacts.yml", "a: {url: u}\n", "u: sha256 is ''"),
    (rules.checksums_missing, "roles/good/vars/artifacts.yml", "a:\n  url: u\n  sha256: null\n", ":3: sha256 is null"),
    (rules.checksums_missing, "roles/good/vars/artifacts.yml", "a: [{url: u, sha256: 00ff}]\n", "sha256 is '00ff'"),
    (rules.neighbours_named, "roles/good/templates/x.j2", "{{ other_x }}", "x.j2: other_x"),
    (rules.neighbours_named, MAIN, "- a.b.c:\n  vars: {good_y: '{{ other_x }}'}\n", "main.yml: other_x"),
    (rules.plugins_undocumented, "plugins/modules/x.py", 'DOCUMENTATION = "module: x"\nRETURN = "a"\n', "no EXAMPLES"),
    (rules.plugins_undocumented, "plugins/filter/y.py", 'DOCUMENTATION = "name: z"\n', "documented as z"),
]


def plant(root: Path, path: str, text: str | None) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A small collection that keeps all rules."""
    for path, text in SOUND.items():
        plant(tmp_path, path, text)
    return tmp_path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_sound_collection(sound: Path, rule: Callable[[Path], list[str]]) -> None:
    assert rule(sound) == []


@pytest.mark.parametrize(("rule", "path", "text", "breach"), BREACHES)
def test_rule_finds_its_breach(
    sound: Path, rule: Callable[[Path], list[str]], path: str, text: str | None, breach: str
) -> None:
    plant(sound, path, text)
    assert [breach in line for line in rule(sound)].count(True) == 1


def test_every_rule_has_a_breach() -> None:
    assert {rule for rule, *_rest in BREACHES} == set(RULES)


@pytest.mark.parametrize(
    ("path", "text", "breach"),
    [
        ("bundle/a/b/MANIFEST.json", '{"collection_info": {"version": "2.0.0"}}', "leaves out 2.0.0"),
        ("bundle/a/b/MANIFEST.json", None, "a.b: not in the bundle"),
        ("requirements.yml", "collections: []\n", "requirements.yml: {} differs"),
    ],
)
def test_dependencies_that_do_not_fit(sound: Path, path: str, text: str | None, breach: str) -> None:
    assert rules.dependencies_uncovered(sound, sound / "bundle") == []
    plant(sound, path, text)
    assert breach in "".join(rules.dependencies_uncovered(sound, sound / "bundle"))


def test_stale_page_is_named_and_written(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = readme_tool()
    assert tool.main(["--check"], sound) == 1
    assert capsys.readouterr().out == "roles/good/README.md\nroles/other/README.md\n"
    assert tool.main([], sound) == 0
    assert tool.main(["--check"], sound) == 0
    plant(sound, "roles/good/README.md", "edited by hand\n")
    assert [path.parent.name for path in tool.stale(sound, [])] == ["good"]


def test_page_shows_nested_options_defaults_and_markup() -> None:
    option = {
        "type": "list",
        "elements": "dict",
        "default": [],
        "description": ["Ports, see O(x_y).", "C(a|b)", "P(a.b.c#role)"],
        "options": {"port": {"type": "int", "required": True, "choices": [1, 2], "description": "One."}},
    }
    page = readme_tool().page(
        "x", {"main": {"short_description": "Do x", "options": {"x_ports": option}}}, {}, {"x_run"}
    )
    assert "| `x_ports` | list of dict | `[]` | no | Ports, see `x_y`. `a\\|b` `a.b.c` |" in page
    assert "| &emsp;`port` | int |  | yes | One. One of `1`, `2`. |" in page
    assert "    - role: baremetal.llm.x\n" in page
    assert "Tags: `x_run`." in page


def test_text_default_that_looks_like_a_number_keeps_its_quotes() -> None:
    tool = readme_tool()
    assert [tool.code(value) for value in ("3.9", "/srv", "a-b", "", True, "true")] == [
        '`"3.9"`',
        "`/srv`",
        "`a-b`",
        '`""`',
        "`true`",
        '`"true"`',
    ]
