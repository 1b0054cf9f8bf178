# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records how long each role takes and what its tasks end with, for tests/benchmarks/site.py."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: role_times
type: aggregate
short_description: Record wall seconds and task results by role
description:
  - Writes one JSON file at the end of a run, a list of roles in the order of their first task, each with C(role),
    C(seconds) (wall time) and the numbers of results C(ok), C(changed), C(skipped), C(failed) and C(unreachable), where
    a task counts once for each host and C(ok) includes C(changed).
  - Time between two tasks belongs to the first of them. Tasks outside of roles belong to their play.
options:
  file:
    description: The file to write; nothing is written without it.
    type: str
    default: ""
    env:
      - name: ROLE_TIMES_FILE
"""

RESULTS = ("ok", "changed", "skipped", "failed", "unreachable")


class CallbackModule(CallbackBase):
    """Adds each result to the role whose task runs."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "role_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, Any]] = {}
        self.play = "play"
        self.role = ""
        self.since = time.monotonic()

    def _switch(self, role: str) -> None:
        """Ends the time of the last task and starts that of the next, "" for none."""
        now = time.monotonic()
        if self.role:
            self.rows[self.role]["seconds"] += now - self.since
        self.role, self.since = role, now
        if role:
            self.rows.setdefault(role, {"role": role, "seconds": 0.0, **dict.fromkeys(RESULTS, 0)})

    def _count(self, result: str) -> None:
        self.rows[self.role][result] += 1

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._switch("")
        self.play = f"play {play.get_name()}"

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._switch(task._role.get_name() if task._role else self.play)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._count("ok")
        if result.is_changed():
            self._count("changed")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._count("skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._count("failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._count("unreachable")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._switch("")
        if self.get_option("file"):
            Path(self.get_option("file")).write_text(
                json.dumps(list(self.rows.values()), indent=1) + "\n", encoding="utf-8"
            )
