# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Header backups: what is kept of an image, and that it does not change while the key slots do not."""

from __future__ import annotations

import json
import random

import pytest
from ansible_collections.baremetal.llm.plugins.module_utils import luks_header
from hypothesis import given
from hypothesis import strategies as st

KIB = 1024
HEADER = 16 * KIB
SLOT = 256 * KIB
UUID = "11111111-2222-3333-4444-555555555555"


def image(slots: dict[int, int], noise: int = 0, size: int = 4096 * KIB) -> bytes:
    """A header with key slots at these places; all else is noise, as luksFormat leaves it."""
    out = bytearray(random.Random(noise).randbytes(size))
    areas = {str(slot): {"area": {"offset": str(at), "size": str(SLOT)}} for slot, at in slots.items()}
    text = json.dumps({"keyslots": areas}).encode()
    head = bytearray(4096)
    head[:6] = b"LUKS\xba\xbe"
    head[6:8] = (2).to_bytes(2, "big")
    head[8:16] = HEADER.to_bytes(8, "big")
    head[168 : 168 + len(UUID)] = UUID.encode()
    one = bytes(head) + text.ljust(HEADER - 4096, b"\0")
    out[: 2 * HEADER] = one + one
    for slot, at in slots.items():
        out[at : at + SLOT] = bytes([slot + 1]) * SLOT
    return bytes(out)


def test_headers_and_used_slots_are_kept_and_the_rest_is_zeros() -> None:
    whole = image({0: 32 * KIB, 3: 1024 * KIB})
    small = luks_header.compact(whole)
    assert len(small) == len(whole)
    assert small[: 2 * HEADER] == whole[: 2 * HEADER]
    assert small[1024 * KIB : 1024 * KIB + SLOT] == b"\x04" * SLOT
    assert not small[32 * KIB + SLOT : 1024 * KIB].strip(b"\0")
    assert not small[1024 * KIB + SLOT :].strip(b"\0")


def test_unused_bytes_make_no_difference_but_a_slot_does() -> None:
    def digest(slots: dict[int, int], noise: int) -> str:
        return luks_header.digest(luks_header.compact(image(slots, noise)))

    assert digest({0: 32 * KIB}, 1) == digest({0: 32 * KIB}, 2)
    assert digest({0: 32 * KIB}, 1) != digest({0: 32 * KIB, 1: 512 * KIB}, 1)


def test_packed_and_unpacked_it_is_the_same() -> None:
    small = luks_header.compact(image({0: 32 * KIB}))
    text = luks_header.pack(small)
    assert luks_header.unpack(text) == small and luks_header.pack(small) == text
    assert luks_header.uuid_of(small) == UUID


@pytest.mark.parametrize("bad", [b"", b"\0" * HEADER, b"LUKS\xba\xbe\0\1" + b"\0" * HEADER])
def test_anything_else_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="no backup of a LUKS2 header"):
        luks_header.compact(bad)


def test_damaged_metadata_are_refused() -> None:
    broken = bytearray(image({0: 32 * KIB}))
    broken[4096:4200] = b"\xff" * 104
    with pytest.raises(ValueError, match="damaged"):
        luks_header.compact(bytes(broken))


def test_a_slot_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        luks_header.compact(image({0: 32 * KIB}, size=2 * HEADER + SLOT - KIB)[: 2 * HEADER + KIB])


@given(st.text(max_size=50))
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        luks_header.unpack(text)
