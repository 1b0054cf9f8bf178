#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: xccdf_info
short_description: Read the rules and their results from a file of oscap
version_added: "0.3.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads on the host what C(oscap xccdf eval) wrote with C(--results) or C(--results-arf), tens of MB, and gives away
    what matters of it, some tens of KB.
options:
  path:
    description: The file.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Reads only.
seealso:
  - plugin: baremetal.llm.audit_result
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Count what failed
  baremetal.llm.xccdf_info:
    path: /var/lib/llm-audit/results.xml
  register: answer
  failed_when: answer.rows | selectattr('result', 'equalto', 'fail') | length > 15
"""

RETURN = r"""
rows:
  description:
    - All rules that the profile selects. C(result) is V(pass), V(fail), V(error) (also for what oscap calls unknown),
      V(notapplicable) or V(notchecked) (also for what it calls informational).
  type: list
  elements: dict
  returned: success
  contains:
    id:
      description: The rule's id, without what all ids of the content begin with.
      type: str
    title:
      description: Its title.
      type: str
    severity:
      description: V(info), V(unknown), V(low), V(medium) or V(high).
      type: str
    result:
      description: Its result.
      type: str
score:
  description: The default score of oscap, 0 to 100; it says nothing without the counts.
  type: float
  returned: success
tool:
  description: What evaluated the rules, as it names itself.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils.audit import xccdf
from ansible_collections.baremetal.llm.plugins.module_utils.audit.rows import AuditError


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True}}, supports_check_mode=True)
    try:
        with open(module.params["path"], "rb") as stream:
            answer = xccdf.read(stream)
    except AuditError as exc:
        module.fail_json(msg=f"{module.params['path']}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"cannot read {exc.filename}: {exc.strerror}; give the file that oscap wrote.")
    module.exit_json(changed=False, **answer.as_dict())


if __name__ == "__main__":
    main()
