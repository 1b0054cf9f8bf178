# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts, waivers, limits and the difference from the last run."""

from __future__ import annotations

import html.parser
import json
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils.audit.page import as_html, as_text, breaches_text
from ansible_collections.baremetal.llm.plugins.module_utils.audit.report import AUDITORS, build
from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import RESULTS, AuditError, Row, worst
from hypothesis import given
from hypothesis import strategies as st

TODAY = "2026-11-23T10:00:00Z"


def row(name: str, result: str = "fail", severity: str = "medium") -> dict[str, str]:
    return {"id": name, "title": f"Title of {name}", "severity": severity, "result": result}


def run(*rows: dict[str, str], host: str = "a", auditor: str = "lynis", **more: Any) -> dict[str, Any]:
    return {"host": host, "auditor": auditor, "profile": "", "rows": list(rows), **more}


def waiver(**more: Any) -> dict[str, Any]:
    return {"id": "w", "auditor": "lynis", "rules": ["x"], "reason": "because", **more}


def report(
    *runs: dict[str, Any], hosts: tuple[str, ...] = ("a",), finished: str = TODAY, **more: Any
) -> dict[str, Any]:
    return build(runs, hosts, finished, **more)


def of(made: dict[str, Any], host: str = "a", auditor: str = "lynis") -> dict[str, Any]:
    (found,) = [each for each in made["runs"] if (each["host"], each["auditor"]) == (host, auditor)]
    return found


def test_counts_each_result() -> None:
    made = of(report(run(*(row(result, result) for result in RESULTS))))
    assert made["counts"] == {
        "pass": 1, "fail": 1, "waived": 0, "error": 1, "notapplicable": 1, "notchecked": 1, "new": 0, "fixed": 0,
    }  # fmt: skip
    assert [each["id"] for each in made["fails"]] == ["fail"]
    assert [each["id"] for each in made["errors"]] == ["error"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(RESULTS)), min_size=1))
def test_counts_add_up_to_the_rules(pairs: list[tuple[str, str]]) -> None:
    counts = of(report(run(*(row(*pair) for pair in pairs))))["counts"]
    assert sum(counts[name] for name in counts if name not in ("new", "fixed")) == len({pair[0] for pair in pairs})


def test_the_worst_answer_of_a_rule_counts() -> None:
    rows = [Row("r", "t", "low", result) for result in ("pass", "fail", "notapplicable")]
    assert [each.result for each in worst(rows)] == ["fail"]


def test_what_did_not_run_is_in_the_report_and_breaks_its_limits() -> None:
    made = report(
        {"host": "a", "auditor": "lynis", "profile": "", "reason": "no package"},
        hosts=("a", "b"),
        thresholds=[{"auditor": "lynis", "min_score": 1}],
    )
    assert of(made)["status"] == "not_run"
    assert of(made)["reason"] == "no package"
    assert of(made, auditor="ssh")["reason"] == "it was not chosen in this run"
    assert {each["reason"] for each in made["runs"] if each["host"] == "b"} == {
        "the host was not reached, or failed before"
    }
    assert made["totals"]["not_run"] == 2 * len(AUDITORS)
    assert made["breaches"] == [
        "a: lynis was not run: no package",
        "b: lynis was not run: the host was not reached, or failed before",
    ]


def test_an_auditor_that_judged_nothing_has_not_passed() -> None:
    assert of(report(run()))["status"] == "not_run"


def test_new_and_fixed_since_the_last_run() -> None:
    first = report(run(row("stays"), row("goes"), row("breaks")))
    assert of(first)["counts"]["new"] == 0
    second = report(
        run(row("stays"), row("goes", "pass"), row("breaks", "error"), row("comes")),
        previous=first, fail_on_new=True,
    )  # fmt: skip
    assert [each["id"] for each in of(second)["fails"] if each["new"]] == ["comes"]
    assert [each["id"] for each in of(second)["fixed"]] == ["goes"]
    assert second["previous"] == TODAY
    assert second["breaches"] == ["a: lynis has new fails: comes"]


def test_what_was_not_looked_at_again_is_compared_later() -> None:
    first = report(run(row("x"), host="a"), run(row("y"), host="b"), hosts=("a", "b"))
    second = report(run(row("x")), previous=first)
    third = report(run(row("y"), row("z"), host="b"), hosts=("b",), previous=second)
    assert [each["id"] for each in of(third, "b")["fails"] if each["new"]] == ["z"]
    assert [each["host"] for each in third["carried"]] == ["a"]


def test_waived_is_no_fail_and_keeps_the_reason() -> None:
    made = report(run(row("x"), row("xy")), waivers=[waiver()])
    assert of(made)["waived"] == [
        {"id": "x", "title": "Title of x", "severity": "medium", "waiver": "w", "reason": "because"}
    ]
    assert [each["id"] for each in of(made)["fails"]] == ["xy"]


@pytest.mark.parametrize(
    ("more", "waived"),
    [
        ({"until": "2026-11-23"}, True),
        ({"until": "2026-11-22"}, False),
        ({"hosts": ["b*"]}, False),
        ({"hosts": ["a"]}, True),
        ({"profiles": ["cis_*"]}, False),
        ({"rules": ["[w-z]"]}, True),
        ({"rules": ["y", "x.+"]}, False),
        ({"auditor": "ssh"}, False),
    ],
)
def test_whom_a_waiver_covers(more: dict[str, Any], waived: bool) -> None:
    assert bool(of(report(run(row("x")), waivers=[waiver(**more)]))["waived"]) == waived


@pytest.mark.parametrize(
    ("when", "host", "waived"),
    [
        ("always", "a", True),
        ("waived", "a", False),
        ("waived", "b", True),
        ("container", "b", False),
        ("container", "c", True),
    ],
)
def test_where_a_waiver_holds(when: str, host: str, waived: bool) -> None:
    made = report(run(row("x"), host=host), waivers=[waiver(when=when)], named={"b": ["w"]}, containers=["c"])
    assert bool(of(made, host)["waived"]) == waived


def test_expired_waivers_are_fails_and_say_so() -> None:
    made = report(run(row("x")), waivers=[waiver(until="2026-01-01")])
    assert of(made)["fails"][0]["expired_waiver"] == "w"
    assert made["waivers"]["expired"] == ["w"]


def test_a_valid_waiver_beside_an_expired_one_counts() -> None:
    old, valid = waiver(until="2026-01-01"), waiver(id="v")
    assert of(report(run(row("x")), waivers=[old, valid]))["waived"][0]["waiver"] == "v"


def test_a_rule_whose_waiver_ended_is_a_new_fail() -> None:
    first = report(run(row("x")), waivers=[waiver(until="2026-11-23")])
    second = report(
        run(row("x")), waivers=[waiver(until="2026-11-23")], previous=first, finished="2026-11-24T10:00:00Z"
    )
    assert of(second)["counts"]["new"] == 1


def test_waivers_that_cover_nothing_are_told_apart_from_those_not_judged() -> None:
    made = report(run(row("y")), waivers=[waiver(), waiver(id="s", auditor="ssh")])
    assert made["waivers"] == {"expired": [], "unused": ["w"], "not_judged": ["s"]}


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max_fail": 0}, "a: lynis has 1 fails that nobody waived, at most 0 are allowed"),
        ({"max_fail": 1}, None),
        ({"max_high": 0}, None),
        ({"max_found": 1}, "a: lynis has 2 fails, waived ones included, at most 1 are allowed"),
        ({"max_error": 0}, "a: lynis has 1 rules in error, at most 0 are allowed"),
        ({"min_pass": 2}, "a: lynis has 1 passes, at least 2 are wanted"),
        ({"min_score": 75}, "a: lynis has 70 points, at least 75 are wanted"),
        ({"max_score": 60}, "a: lynis has 70 points, at most 60 are allowed"),
        ({"min_score": 70}, None),
        ({"max_fail": 0, "hosts": ["b"]}, None),
    ],
)
def test_limits(limit: dict[str, Any], said: str | None) -> None:
    rows = [row("x"), row("f"), row("e", "error"), row("p", "pass")]
    made = report(run(*rows, score=70), waivers=[waiver()], thresholds=[{"auditor": "lynis", **limit}])
    assert made["breaches"] == ([said] if said else [])
    assert made["ok"] == (said is None)


def test_a_limit_of_high_severity_leaves_the_rest_alone() -> None:
    made = report(run(row("x", severity="high"), row("y")), thresholds=[{"auditor": "lynis", "max_high": 0}])
    assert made["breaches"] == ["a: lynis has 1 fails of high severity that nobody waived, at most 0 are allowed"]


def test_a_limit_of_one_profile_leaves_the_others_alone() -> None:
    runs = [{**run(row("x"), auditor="openscap"), "profile": name} for name in ("one", "two")]
    limit = {"auditor": "openscap", "profile": "one", "max_fail": 0}
    assert len(report(*runs, thresholds=[limit])["breaches"]) == 1
    assert report(runs[1], thresholds=[limit])["breaches"] == [
        "a: openscap one was not run: it is not part of this run"
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"waivers": [waiver(reason=" ")]}, "waiver w has no reason"),
        ({"waivers": [waiver(), waiver()]}, "waiver w has no id of its own"),
        ({"waivers": [waiver(auditor="nessus")]}, "for auditor 'nessus'"),
        ({"waivers": [waiver(rules=["("])]}, "is no pattern"),
        ({"waivers": [waiver(rules="x")]}, "rules is no list"),
        ({"waivers": [waiver(rules=[])]}, "names no rules"),
        ({"waivers": [waiver(until="soon")]}, "until is 'soon'"),
        ({"waivers": [waiver(when="sometimes")]}, "when is 'sometimes'"),
        ({"thresholds": [{"auditor": "lynis"}]}, "has no limit"),
        ({"thresholds": [{"auditor": "lynis", "max_fails": 1}]}, "has the key 'max_fails'"),
        ({"previous": {"schema": 0}}, "schema 0"),
    ],
)
def test_refusals(more: dict[str, Any], said: str) -> None:
    with pytest.raises(AuditError, match="(?s)" + said.replace("(", r"\(")):
        report(run(row("x")), **more)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        assert not {"src", "href", "onload"} & {name for name, _value in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_all_and_loads_nothing() -> None:
    evil = "<script>alert(1)</script>"
    first = report(run(row("x")))
    made = report(
        run({**row("x"), "title": evil}, row("n"), row("e", "error")),
        previous=first, waivers=[waiver(reason=evil), waiver(id="idle", rules=["none"])], fail_on_new=True,
    )  # fmt: skip
    page = as_html(made)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert page.count(evil) == 0 and tags.text.count(evil) >= 2
    for expected in (
        "Title of n",
        "NEW",
        "gave an error",
        "waived by w",
        "idle: covers nothing",
        "Not run: it was not chosen",
    ):
        assert expected in tags.text, expected


def test_the_text_names_what_wants_attention() -> None:
    made = report(run(row("x")), thresholds=[{"auditor": "lynis", "max_fail": 0}], waivers=[waiver(rules=["q"])])
    text = as_text(made)
    for expected in (
        "1 fails",
        "not run: a ssh: it was not chosen",
        "not reached: a: lynis has 1",
        "waiver: w: covers nothing",
    ):
        assert expected in text, text
    assert breaches_text(made) == made["breaches"][0]


def test_a_report_survives_json() -> None:
    made = report(run(row("x"), score=1.5, seconds=2.0), waivers=[waiver(until="2026-01-01")])
    assert json.loads(json.dumps(made)) == made
