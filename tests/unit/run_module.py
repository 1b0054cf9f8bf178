# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module within the test process and gives its result."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from unittest.mock import patch

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args


class _Ended(BaseException):
    """Carries the result past every handler of the module."""


def run_module(module: ModuleType, arguments: dict[str, Any], check: bool = False, diff: bool = True) -> dict[str, Any]:
    """Result of exit_json or fail_json (then with failed=True), with `warnings` where there are any."""
    warnings: list[str] = []

    def end(failed: bool) -> Any:
        def ended(self: AnsibleModule, **result: Any) -> None:
            raise _Ended({"failed": failed, "warnings": warnings, **result})

        return ended

    sent = {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
    with (
        patch_module_args(sent),
        patch.object(AnsibleModule, "exit_json", end(False)),
        patch.object(AnsibleModule, "fail_json", end(True)),
        patch.object(AnsibleModule, "warn", lambda self, warning, **_kwargs: warnings.append(warning)),
    ):
        try:
            module.main()
        except _Ended as ended:
            return dict(ended.args[0])
    raise AssertionError("the module ended without a result")
