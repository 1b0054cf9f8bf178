# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans 200 hosts with 8 GPUs each for 20 models on one core, and prints the seconds of each kind of fleet.

    python tests/benchmarks/plan.py

Each plan starts with empty memories, as a run of Ansible does. The fleets: one kind of host, three, and eight; users of
each model at once: 10 (one host each), 40, and 120 (several hosts each).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    _AnsibleCollectionFinder(paths=[str(ROOT / ".collections")])._install()

from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan import plan  # noqa: E402
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues  # noqa: E402
from ansible_collections.baremetal.llm.plugins.plugin_utils.catalogue import catalogues  # noqa: E402

LIMIT_S = 2.0
HOSTS = 200
CARDS = (
    *("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA H200", "NVIDIA L40S"),
    *("NVIDIA A40", "NVIDIA B200", "NVIDIA H100 PCIe", "NVIDIA H100 NVL"),
)
MODELS = (
    *("deepseek-r1:70b", "deepseek-r1:32b", "deepseek-r1:14b", "deepseek-r1:8b", "deepseek-r1:7b", "deepseek-r1:1.5b"),
    *("llama3.3:70b", "llama3.1:8b", "llama3.2:3b", "qwen2.5:72b", "qwen2.5:32b", "qwen2.5:14b", "qwen2.5:7b"),
    *("qwen3:32b", "qwen3:14b", "qwen3:30b-a3b", "gpt-oss:20b", "gpt-oss:120b", "gemma3:27b", "llama3.1:405b"),
)


def measured(kinds: int, users: int) -> tuple[float, dict[str, Any]]:
    """Seconds of processor time, and the plan."""
    goals = [
        {"name": name, "users": users, "context_length": 8192, "min_tokens_per_second": 2 if "405b" in name else 5}
        for name in MODELS
    ]
    hosts = [{"name": f"gpu{number}", "gpus": [{"name": CARDS[number % kinds], "count": 8}]} for number in range(HOSTS)]
    warm = catalogues()
    fresh = Catalogues(warm.gpus, warm.models, warm.quantizations)
    start = time.process_time()
    found = plan(goals, hosts, fresh)
    return time.process_time() - start, found


def main() -> int:
    # Imports, the data files and the shapes of models are read once by any run.
    measured(1, 1)
    print(f"{HOSTS} hosts x 8 GPUs x {len(MODELS)} models, at most {LIMIT_S:g} s each")
    print(f"{'kinds of host':>14} {'users a model':>14} {'seconds':>8} {'hosts used':>11}  feasible")
    slowest = 0.0
    for kinds in (1, 3, 8):
        for users in (10, 40, 120):
            seconds, found = measured(kinds, users)
            used = sum(1 for host in found["hosts"] if host["models"])
            print(f"{kinds:>14} {users:>14} {seconds:>8.2f} {used:>11}  {'yes' if found['feasible'] else 'no'}")
            slowest = max(slowest, seconds)
    print(f"slowest {slowest:.2f} s")
    return 0 if slowest < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
