# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the sizing engine and remembers its answers: memory, speed, and what Ollama itself predicts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Tuple

from ansible_collections.baremetal.llm.plugins.module_utils.sizing import estimate as estimates
from ansible_collections.baremetal.llm.plugins.module_utils.sizing import request as requests
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.plan_goals import Goal, Option
from ansible_collections.baremetal.llm.plugins.module_utils.sizing.request import Catalogues

Answer = Mapping[str, Any]
Ask = Callable[[Mapping[str, Any], Catalogues], Answer]
MIB = 1 << 20
# A step of nine sequences can be faster than one of eight (other kernels): a promise for nine holds for eight too.
LAST_SMALL_BATCH = 8
ALL_LAYERS = 65536


def _speed(request: Mapping[str, Any], catalogues: Catalogues) -> Answer:
    found: Answer = estimates.tokens_per_second(request, catalogues)
    return found


def _predicted_mib(request: Mapping[str, Any], catalogues: Catalogues) -> float:
    model = requests.read_model(request, catalogues)
    return estimates.predicted_bytes(model, request["context_length"] * request["parallel"]) / MIB


@dataclass(frozen=True)
class Devices:
    """What one server sees: for each device its request as JSON and its free MiB; whether it must use all of them."""

    requests: Tuple[str, ...]
    free_mib: Tuple[float, ...]
    spread: bool


@dataclass(frozen=True)
class Engine:
    """The functions that are asked; the real ones unless a test gives others.

    C(estimate) and C(speed): contract of the filters vram_estimate and tokens_per_second. C(predicted_mib): what Ollama
    believes the model needs, MiB.
    """

    catalogues: Catalogues
    estimate: Ask = estimates.estimate
    speed: Ask = _speed
    predict: Callable[[Mapping[str, Any], Catalogues], float] = _predicted_mib
    fit_target_mib: int = 1024
    _known: Dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def memory(self, goal: Goal, option: Option, parallel: int, devices: Devices) -> Answer:
        """The contract's estimate."""
        key = (goal.identity, goal.context_length, option, parallel, devices)
        if key not in self._known:
            self._known[key] = self.estimate(self.request(goal, option, parallel, devices), self.catalogues)
        found: Answer = self._known[key]
        return found

    def whole(self, goal: Goal, option: Option, parallel: int, devices: Devices) -> Answer:
        """The estimate with all layers forced onto the GPUs: quick, as what fits is not searched for.

        Where that leaves what the fit target asks for, it is what memory() gives.
        """
        key = ("whole", goal.identity, goal.context_length, option, parallel, devices)
        if key not in self._known:
            asked = self.request(goal, option, parallel, devices)
            self._known[key] = self.estimate(_forced(asked), self.catalogues)
        found: Answer = self._known[key]
        return found

    def decode(self, goal: Goal, option: Option, parallel: int, devices: Devices, batch: int) -> Answer:
        """The contract's speed; its decode_per_user is the lowest of up to C(batch) sequences at once."""
        key = (goal.identity, goal.context_length, goal.prompt_tokens, option, parallel, devices, batch)
        if key not in self._known:
            asked = _forced(self.request(goal, option, parallel, devices))
            asked["prompt_tokens"] = goal.prompt_tokens
            # A conversation has about a prompt behind it while it is answered.
            asked["depth_tokens"] = goal.prompt_tokens
            found = dict(self.speed({**asked, "batch": batch}, self.catalogues))
            if batch > LAST_SMALL_BATCH:
                small = self.decode(goal, option, parallel, devices, LAST_SMALL_BATCH)
                found["decode_per_user"] = min(found["decode_per_user"], small["decode_per_user"])
                found["time_to_first_token_s"] = max(found["time_to_first_token_s"], small["time_to_first_token_s"])
            self._known[key] = found
        answer: Answer = self._known[key]
        return answer

    def predicted_mib(self, goal: Goal, option: Option, parallel: int) -> float:
        """Ollama's own prediction, MiB."""
        key = ("predicted", goal.identity, goal.context_length, option, parallel)
        if key not in self._known:
            asked = self.request(goal, option, parallel, Devices((), (), False))
            self._known[key] = self.predict(asked, self.catalogues)
        return float(self._known[key])

    def request(self, goal: Goal, option: Option, parallel: int, devices: Devices) -> Dict[str, Any]:
        """A request of the contract."""
        asked = goal.request()
        if option.quantization:
            asked["quantization"] = option.quantization
        asked["context_length"] = goal.context_length
        asked["parallel"] = parallel
        asked["kv_cache_type"] = option.kv_cache_type
        asked["flash_attention"] = True
        asked["placement"] = "spread" if devices.spread else "ollama"
        asked["fit_target_mib"] = self.fit_target_mib
        asked["gpus"] = [
            {**_parsed(request), "memory_free_mib": free} for request, free in zip(devices.requests, devices.free_mib)
        ]
        return asked


def _forced(request: Dict[str, Any]) -> Dict[str, Any]:
    return {**request, "gpu_layers": ALL_LAYERS} if request["gpus"] else request


_PARSED: Dict[str, Any] = {}


def _parsed(text: str) -> Mapping[str, Any]:
    if text not in _PARSED:
        _PARSED[text] = json.loads(text)
    found: Mapping[str, Any] = _PARSED[text]
    return found
