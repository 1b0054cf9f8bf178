# Copyright (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a LUKS2 header backup small enough for a text file.

A backup is 16 MiB, nearly all of it random bytes that no key slot uses. With those as zeros it compresses to what is
used, restores to the same volume, and is equal for as long as no key slot changes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from typing import Any, Dict

MAGIC = b"LUKS\xba\xbe"
BINARY_HEADER = 4096
VERSION_AT = 6
SIZE_AT = 8
UUID_AT = 168


def metadata(image: bytes) -> Dict[str, Any]:
    """The JSON area of a LUKS2 header; raises ValueError for anything else."""
    if image[:6] != MAGIC or int.from_bytes(image[VERSION_AT : VERSION_AT + 2], "big") != 2:
        raise ValueError("this is no backup of a LUKS2 header")
    size = int.from_bytes(image[SIZE_AT : SIZE_AT + 8], "big")
    try:
        found = json.loads(image[BINARY_HEADER:size].rstrip(b"\0"))
    except ValueError:
        raise ValueError("the header's metadata are damaged; it cannot be backed up") from None
    if not isinstance(found, dict):
        raise ValueError("the header's metadata are damaged; it cannot be backed up")
    return found


def uuid_of(image: bytes) -> str:
    metadata(image)
    return image[UUID_AT : UUID_AT + 40].rstrip(b"\0").decode()


def compact(image: bytes) -> bytes:
    """The same image with zeros wherever neither the two headers nor a key slot lie."""
    data = metadata(image)
    size = int.from_bytes(image[SIZE_AT : SIZE_AT + 8], "big")
    kept = [(0, 2 * size)]
    for slot in data.get("keyslots", {}).values():
        kept.append((int(slot["area"]["offset"]), int(slot["area"]["size"])))
    out = bytearray(len(image))
    for offset, length in kept:
        if offset + length > len(image):
            raise ValueError("a key slot lies outside of the header; it cannot be backed up")
        out[offset : offset + length] = image[offset : offset + length]
    return bytes(out)


def pack(image: bytes) -> str:
    """Compressed and as text; equal images give equal texts."""
    return base64.b64encode(gzip.compress(image, mtime=0)).decode()


def unpack(text: str) -> bytes:
    """The image again; raises ValueError for a text that is damaged or no header."""
    try:
        image = gzip.decompress(base64.b64decode(text, validate=True))
    except (ValueError, OSError, EOFError):
        raise ValueError("the header backup is damaged; use another one") from None
    metadata(image)
    return image


def digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
