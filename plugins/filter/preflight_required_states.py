# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at required variables without showing them; thin over module_utils/preflight.py."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

from ansible.template import accept_lazy_markers
from ansible_collections.baremetal.llm.plugins.module_utils.preflight import value_state
from jinja2 import Undefined, pass_context
from jinja2.runtime import Context

DOCUMENTATION = r"""
name: preflight_required_states
short_description: Tell whether variables are set, without showing their values
version_added: "0.1.0"
description:
  - Looks at each variable and answers only with its name and state, so that the result may be printed and kept.
  - A variable that is undefined, or holds anything undefined or undecryptable at any depth, is V(missing) and no error.
options:
  _input:
    description:
      - Variables to look at, each with C(name), and optionally C(value) (else the variable of that name in this host's
        variables), C(secret), C(example_values) and C(fix).
    type: list
    elements: dict
    required: true
  example_values:
    description: Values that no entry with C(secret=true) may hold, besides its own C(example_values).
    type: list
    elements: str
    default: []
author:
  - baremetal.llm maintainers (@baremetal-llm)
"""

EXAMPLES = r"""
- name: Is the secret there
  ansible.builtin.debug:
    msg: "{{ [{'name': 'gateway_keys', 'secret': true}] | baremetal.llm.preflight_required_states(['changeme']) }}"
    # => [{"name": "gateway_keys", "state": "ok", "fix": ""}]
"""

RETURN = r"""
_value:
  description: For each variable its C(name), C(state) (V(ok), V(missing), V(empty) or V(example)) and C(fix).
  type: list
  elements: dict
"""


def _is_undefined(value: Any) -> bool:
    return isinstance(value, Undefined)


# Without the markers, one undefined value inside a nested secret would end the task instead of being a finding.
@accept_lazy_markers  # type: ignore[untyped-decorator,unused-ignore]
@pass_context
def preflight_required_states(
    context: Context, required: Sequence[Dict[str, Any]], example_values: Sequence[str] = ()
) -> List[Dict[str, str]]:
    """The state of each required variable."""
    answers = []
    for item in required:
        value = item["value"] if item.get("value") is not None else context.resolve(item["name"])
        examples = [*(item.get("example_values") or ()), *(example_values if item.get("secret") else ())]
        state = value_state(value, examples, _is_undefined)
        answers.append({"name": str(item["name"]), "state": state, "fix": str(item.get("fix") or "")})
    return answers


class FilterModule:
    """The one filter of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"preflight_required_states": preflight_required_states}
