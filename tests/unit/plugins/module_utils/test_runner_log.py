# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""runner_log: recorded logs are read as they were, and what belongs to nobody is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import runner_log
from ansible_collections.baremetal.llm.plugins.module_utils.ollama_store import Store
from ansible_collections.baremetal.llm.plugins.module_utils.runner_log import Process, Section, Stored
from ansible_collections.baremetal.llm.tests.unit.standin_ollama import manifest_bytes, sha256
from hypothesis import given, settings
from hypothesis import strategies as st

LOGS = Path(__file__).parents[3] / "fixtures" / "runner"
BLOB_7B = "a5cd86e17574a2ad87d279f0fbf89fa6940f3c4ea0278ed694bd4b33aea73132"


def lines(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


def section(name: str) -> Section:
    found = runner_log.parse(lines(name))
    assert len(found) == 1
    return found[0]


def buffers(found: Section) -> dict[tuple[str, str], float]:
    return {(one.device, one.kind): one.mib for one in found.buffers}


def test_processor() -> None:
    found = section("cpu-smollm2")
    assert buffers(found) == {
        ("CPU", "weights"): 92.1,
        ("CPU", "output"): 0.38,
        ("CPU", "kv_cache"): 90.0,
        ("CPU", "compute"): 15.51,
    }
    command = found.command
    assert (command.context_total, command.slots, command.batch_size, command.ubatch_size) == (4096, 2, 512, 512)
    assert (command.kv_cache_type_k, command.kv_cache_type_v, command.flash_attention) == ("f16", "f16", "auto")
    assert command.blob_sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert (found.layers_offloaded, found.layers_total, found.flash_attention) == (None, None, True)
    assert (found.ready, found.mixed) == (True, False)


def test_gpu() -> None:
    found = section("h200-7b")
    assert buffers(found) == {
        ("CPU_Mapped", "weights"): 292.36,
        ("CUDA0", "weights"): 4168.09,
        ("CUDA_Host", "output"): 0.58,
        ("CUDA0", "compute"): 136.01,
        ("CUDA_Host", "compute"): 18.01,
        ("CUDA0", "kv_cache"): 224.0,
    }
    assert (found.layers_offloaded, found.layers_total, found.command.gpu_layers) == (29, 29, None)
    assert found.fit[1] == (
        "common_params_fit_impl: projected to use 4528 MiB of device memory vs. 142629 MiB of free device memory"
    )


def test_two_caches_of_sliding_windows_add_up() -> None:
    assert buffers(section("h200-gemma3-27b"))["CUDA0", "kv_cache"] == 640 + 832


def test_two_gpus() -> None:
    found = buffers(section("h200-x2-32b"))
    assert (found["CUDA0", "weights"], found["CUDA1", "weights"]) == (9211.25, 9297.1)
    assert (found["CUDA0", "kv_cache"], found["CUDA1", "kv_cache"]) == (4224.0, 3968.0)


def test_layers_on_the_processor() -> None:
    found = section("h200-7b-partly")
    assert (found.layers_offloaded, found.layers_total) == (27, 29)
    assert buffers(found)["CPU", "kv_cache"] == 16.0


def test_compute_buffers_that_are_reserved_anew_replace_the_old() -> None:
    again = "sched_reserve:      CUDA0 compute buffer size =   140.00 MiB"
    assert buffers(runner_log.parse([*lines("h200-7b"), again])[0])["CUDA0", "compute"] == 140.0


def test_quantized_cache_and_asked_layers() -> None:
    start = lines("h200-7b")[0].replace("--flash-attn", "--cache-type-k q8_0 --cache-type-v q4_0 -ngl 20 --flash-attn")
    command = runner_log.parse([start])[0].command
    assert (command.kv_cache_type_k, command.kv_cache_type_v, command.gpu_layers) == ("q8_0", "q4_0", 20)


@pytest.mark.parametrize(
    ("line", "used"),
    [
        ("resolve_fused_ops: Flash Attention enabled", True),
        ("resolve_fused_ops: Flash Attention not supported, set to disabled", False),
        ("llama_context: flash_attn            = disabled", False),
        ("llama_context: flash_attn            = auto", None),
    ],
)
def test_flash_attention(line: str, used: bool | None) -> None:
    assert runner_log.parse([lines("h200-7b")[0], line])[0].flash_attention is used


def test_a_path_with_spaces_and_quotes() -> None:
    start = lines("h200-7b")[0].replace("/models/", '/srv/my \\"own\\" models/')
    assert runner_log.parse([start])[0].command.model_path == f'/srv/my "own" models/blobs/sha256-{BLOB_7B}'


def test_each_start_has_its_own_section_and_lines_before_the_first_have_none() -> None:
    found = runner_log.parse([*lines("h200-7b")[5:], *lines("h200-7b"), *lines("cpu-smollm2")])
    assert [one.command.port for one in found] == [37497, 46565]
    assert buffers(found[0])["CUDA0", "weights"] == 4168.09
    assert not any(one.mixed for one in found)


def test_runners_that_start_at_once_are_mixed() -> None:
    first, second = lines("h200-7b"), lines("cpu-smollm2")
    found = runner_log.parse([*first[:5], *second[:5], *first[5:], *second[5:]])
    assert [one.mixed for one in found] == [True, True]


def test_a_runner_that_never_got_ready_does_not_mix() -> None:
    found = runner_log.parse([*lines("h200-7b")[:5], *lines("cpu-smollm2")])
    assert [(one.ready, one.mixed) for one in found] == [(False, False), (True, False)]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(lines("h200-7b") + lines("cpu-smollm2")) | st.text(max_size=60), max_size=60))
def test_no_order_of_lines_breaks_it_and_what_is_left_out_changes_nothing(some: list[str]) -> None:
    assert runner_log.parse(some) == runner_log.parse([line for line in some if runner_log.is_of_interest(line)])


def process_folder(root: Path, pid: int, argv: list[str], status: str = "VmRSS:\t  223492 kB\n") -> None:
    folder = root / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join(argv).encode() + b"\0")
    (folder / "status").write_text(status)


def test_processes(tmp_path: Path) -> None:
    process_folder(
        tmp_path, 20, ["/opt/ollama/lib/llama-server", "--model", "/m", "--port", "5", "-c", "8", "-np", "2"]
    )
    process_folder(tmp_path, 7, ["/opt/ollama/lib/llama-server", "--model", "/n", "--port", "6"], "Name:\tx\n")
    process_folder(tmp_path, 8, ["vi", "llama-server", "--model"])
    process_folder(tmp_path, 9, [""])
    (tmp_path / "10").mkdir()
    (tmp_path / "self").mkdir()
    found = runner_log.processes(tmp_path)
    assert [(one.pid, one.rss_mib, one.command.model_path, one.command.port) for one in found] == [
        (7, None, "/n", 6),
        (20, 218, "/m", 5),
    ]
    assert (found[1].command.context_total, found[1].command.slots) == (8, 2)


def test_names_by_blob(tmp_path: Path) -> None:
    data = manifest_bytes([("model", b"GGUF"), ("template", b"T")], b"{}")
    for name in ("registry.ollama.ai/library/a/1", "example.com:5000/team/b/x", "registry.ollama.ai/library/a/2"):
        path = tmp_path / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "manifests/registry.ollama.ai/library/a/broken").write_text("no")
    (tmp_path / "manifests/stray").write_text("no")
    digest = sha256(data)
    assert runner_log.names_by_blob(Store(str(tmp_path))) == {
        sha256(b"GGUF"): (
            Stored("a:1", digest),
            Stored("a:2", digest),
            Stored("example.com:5000/team/b:x", digest),
        )
    }
    with pytest.raises(OSError):
        runner_log.names_by_blob(Store(str(tmp_path / "absent")))


STORED = {BLOB_7B: (Stored("r1:7b", "d1"),)}
PS = [{"name": "r1:7b", "digest": "d1", "size": 1}, {"name": "other", "digest": "d2"}]


def asked(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["pid"], one["names"], one["logged"], len(one["buffers"]), len(one["loaded"])) for one in found]


def test_a_runner_is_what_runs() -> None:
    sections = runner_log.parse(lines("h200-7b") + lines("cpu-smollm2"))
    running = [Process(4, sections[0].command, 100)]
    found = runner_log.runners(sections, running, STORED, PS)
    assert asked(found) == [(4, ["r1:7b"], True, 6, 1)]
    assert (found[0]["context_total"], found[0]["slots"], found[0]["context_length"]) == (4096, 1, 4096)


def test_context_is_that_of_one_slot() -> None:
    sections = runner_log.parse(lines("h200-x2-32b"))
    row = runner_log.runners(sections, [Process(4, sections[0].command, 100)], {}, [])[0]
    assert (row["context_total"], row["slots"], row["context_length"]) == (32768, 4, 8192)


def test_a_start_that_is_no_longer_in_the_log() -> None:
    command = section("h200-7b").command
    assert asked(runner_log.runners((), [Process(4, command, 100)], STORED, PS)) == [(4, ["r1:7b"], False, 0, 1)]


def test_without_processes_the_last_start_of_what_is_loaded_counts() -> None:
    older = [line.replace("37497", "40000").replace("4168.09", "1.00") for line in lines("h200-7b")]
    sections = runner_log.parse([*older, *lines("h200-7b"), *lines("cpu-smollm2")])
    found = runner_log.runners(sections, [], STORED, PS)
    assert asked(found) == [(None, ["r1:7b"], True, 6, 1)]
    assert {"device": "CUDA0", "kind": "weights", "mib": 4168.09} in found[0]["buffers"]


class Journal:
    """A journalctl in PATH that prints a log backwards, with what it says to standard error and its arguments kept."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def says(self, text: list[str], err: str = "", then: str = "") -> None:
        (self.root / "lines").write_text("".join(f"{line}\n" for line in reversed(text)))
        program = self.root / "journalctl"
        program.write_text(
            f'#!/bin/sh\necho "$*" > {self.root}/asked\necho "{err}" >&2\n/bin/cat {self.root}/lines\n{then}\n'
        )
        program.chmod(0o755)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("PATH", str(tmp_path))
    return Journal(tmp_path)


def test_the_journal_is_read_backwards_to_the_start_of_what_runs(journal: Journal) -> None:
    journal.says([*lines("h200-7b"), *lines("cpu-smollm2"), "[GIN] a request"])
    found = runner_log.journal_lines("ollama", frozenset({46565}), 20)
    assert runner_log.parse(found) == (section("cpu-smollm2"),)
    assert len(runner_log.journal_lines("ollama", frozenset({46565, 37497}), 20)) > len(found)
    assert len(runner_log.parse(runner_log.journal_lines("ollama", frozenset(), 20))) == 2
    assert (journal.root / "asked").read_text() == "-u ollama -o cat --no-pager -b -r\n"


def test_a_found_start_needs_no_more_of_the_journal(journal: Journal) -> None:
    journal.says(lines("h200-7b"), then="exec /bin/sleep 600")
    assert runner_log.journal_lines("ollama", frozenset({37497}), 300)


def test_a_journal_that_does_not_end(journal: Journal) -> None:
    journal.says(lines("h200-7b"), then="exec /bin/sleep 600")
    with pytest.raises(runner_log.RunnerLogError, match="read for 1 s .* raise timeout"):
        runner_log.journal_lines("ollama", frozenset({1}), 1)


@pytest.mark.parametrize(
    "err",
    [
        "Hint: You are currently not seeing messages from other users and the system.",
        "No journal files were opened due to insufficient permissions.",
    ],
)
def test_a_journal_that_may_not_be_read(journal: Journal, err: str) -> None:
    journal.says(["-- No entries --"], err)
    with pytest.raises(runner_log.RunnerLogError, match="may not be read by this user: run the task with become"):
        runner_log.journal_lines("ollama", frozenset({1}), 20)


def test_a_unit_that_wrote_nothing(journal: Journal) -> None:
    journal.says(["-- No entries --"])
    with pytest.raises(runner_log.RunnerLogError, match="no line of unit lama since boot: set unit"):
        runner_log.journal_lines("lama", frozenset({1}), 20)


def test_no_journal(journal: Journal) -> None:
    with pytest.raises(runner_log.RunnerLogError, match="journalctl cannot be run .*: set log_path"):
        runner_log.journal_lines("ollama", frozenset({1}), 20)


def test_a_file_in_place_of_the_journal(tmp_path: Path) -> None:
    assert runner_log.parse(runner_log.file_lines(str(LOGS / "h200-7b.log"))) == runner_log.parse(lines("h200-7b"))
    with pytest.raises(runner_log.RunnerLogError, match="cannot be read .*correct log_path"):
        runner_log.file_lines(str(tmp_path / "absent"))
    assert runner_log.log_lines(str(tmp_path / "absent"), "ollama", [], [], 1) == []
