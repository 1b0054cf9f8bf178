# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches one file of a known sha256, goes on where an earlier attempt stopped, and replaces the old file at once."""

from __future__ import annotations

import hashlib
import http.client
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Dict, Optional
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

CHUNK_BYTES = 1 << 20
USER_AGENT = "baremetal.llm"

# (url, headers) -> an answer as urllib gives it; raises HTTPError or OSError.
OpenHttp = Callable[[str, Dict[str, str]], Any]


class DownloadError(Exception):
    """The file could not be fetched; the message is one sentence and holds no credentials."""


@dataclass(frozen=True)
class Downloaded:
    """Sizes in bytes; C(resumed_from_bytes) came from the part file of an earlier attempt."""

    size_bytes: int
    resumed_from_bytes: int


@dataclass(frozen=True)
class _Source:
    """An open answer: its bytes begin at C(offset); C(remaining_bytes) is None where the server does not say."""

    stream: BinaryIO
    offset: int
    remaining_bytes: Optional[int]


def public_url(url: str) -> str:
    """The URL without user, password and query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?..." if parts.query else "")


def check_url(url: str) -> None:
    """Raises DownloadError where the URL is none of http, https and file."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname:
        return
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return
    raise DownloadError(f"url {public_url(url)!r} cannot be fetched: write http://, https:// or file:///absolute/path")


def free_bytes_at(path: str) -> int:
    """Space that is left for an ordinary user on the file system of C(path); raises OSError."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def download(
    url: str,
    dest: str,
    sha256: str,
    open_http: OpenHttp,
    replace: Callable[[str, str], None] = os.replace,
    free_bytes: Callable[[str], int] = free_bytes_at,
) -> Downloaded:
    """Puts the content of C(url) at C(dest) if its sha256 (64 lower-case hex digits) is right.

    Until then only C(dest).part is written; C(dest) stays as it was on every failure. Raises DownloadError.
    """
    check_url(url)
    folder = os.path.dirname(os.path.abspath(dest))
    if not os.path.isdir(folder):
        raise DownloadError(f"the folder {folder} does not exist: create it before {os.path.basename(dest)} is fetched")
    if os.path.isdir(dest):
        raise DownloadError(f"dest {dest} is a folder: give the full path of the file")
    part = dest + ".part"
    try:
        resumed_from_bytes, got = _fetch(url, part, sha256, open_http, free_bytes)
        if got != sha256 and resumed_from_bytes:
            # The part may stem from another version of the file: only a fetch from the start can blame the source.
            os.unlink(part)
            resumed_from_bytes, got = _fetch(url, part, sha256, open_http, free_bytes)
        if got != sha256:
            os.unlink(part)
            raise DownloadError(
                f"{public_url(url)} has sha256 {got}, expected {sha256}: nothing was installed; "
                "correct the pin or fetch from a source you trust"
            )
        size_bytes = os.path.getsize(part)
        replace(part, dest)
    except OSError as exc:
        raise DownloadError(
            f"cannot write {exc.filename or part}: {exc.strerror or exc}; correct the path, its owner or its space"
        ) from exc
    return Downloaded(size_bytes, resumed_from_bytes)


def _fetch(url: str, part: str, sha256: str, open_http: OpenHttp, free_bytes: Callable[[str], int]) -> tuple[int, str]:
    """Completes the part file; gives the bytes that were already there and the sha256 of the whole."""
    digest = hashlib.sha256()
    have_bytes = _hash_existing(part, digest)
    if have_bytes and digest.hexdigest() == sha256:
        return have_bytes, sha256
    source = _open(url, have_bytes, open_http)
    try:
        if source.offset != have_bytes:
            digest, have_bytes = hashlib.sha256(), 0
        _check_space(url, part, source.remaining_bytes, free_bytes)
        with _open_part(part) as target:
            target.seek(have_bytes)
            target.truncate()
            received_bytes = _copy(url, source.stream, target, digest)
            target.flush()
            os.fsync(target.fileno())
    finally:
        source.stream.close()
    if source.remaining_bytes is not None and received_bytes < source.remaining_bytes:
        raise DownloadError(
            f"{public_url(url)} ended after {have_bytes + received_bytes} of "
            f"{have_bytes + source.remaining_bytes} bytes: run again to go on from there"
        )
    return have_bytes, digest.hexdigest()


def _open_part(part: str) -> BinaryIO:
    # O_NOFOLLOW: in a folder that others can write to, a link here would let them choose what is overwritten.
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")


def _hash_existing(part: str, digest: Any) -> int:
    try:
        with open(part, "rb") as stream:
            for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
                digest.update(chunk)
            return stream.tell()
    except FileNotFoundError:
        return 0


def _copy(url: str, stream: BinaryIO, target: BinaryIO, digest: Any) -> int:
    received_bytes = 0
    while True:
        try:
            chunk = stream.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise DownloadError(f"{public_url(url)} broke off ({exc}): run again to go on from there") from exc
        if not chunk:
            return received_bytes
        digest.update(chunk)
        target.write(chunk)
        received_bytes += len(chunk)


def _check_space(url: str, part: str, needed_bytes: Optional[int], free_bytes: Callable[[str], int]) -> None:
    folder = os.path.dirname(os.path.abspath(part))
    free = free_bytes(folder)
    if needed_bytes is not None and needed_bytes > free:
        raise DownloadError(
            f"{public_url(url)} needs {needed_bytes} bytes and {folder} has {free} free: "
            "free some space or choose another dest"
        )


def _open(url: str, offset: int, open_http: OpenHttp) -> _Source:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _open_file(unquote(parts.path), offset)
    # A compressed transfer would be another content than the one whose sha256 is known.
    headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        answer = open_http(url, headers)
    except HTTPError as exc:
        exc.close()
        if exc.code == 416 and offset:
            return _open(url, 0, open_http)
        raise DownloadError(
            f"{public_url(url)} answered {exc.code} {exc.reason}: check the address, or the mirror "
            "that should hold the file"
        ) from exc
    except (OSError, ValueError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise DownloadError(
            f"{public_url(url)} cannot be reached ({reason}): check the network, or use a mirror"
        ) from exc
    length = answer.headers.get("Content-Length")
    begins = offset if answer.getcode() == 206 and _content_range_begins(answer.headers) == offset else 0
    if answer.getcode() == 206 and not begins:
        answer.close()
        raise DownloadError(
            f"{public_url(url)} answered another range than bytes {offset} and on: delete the "
            "part file or use another server"
        )
    return _Source(answer, begins, int(length) if length and length.isdigit() else None)


def _content_range_begins(headers: Any) -> int:
    unit, _space, span = (headers.get("Content-Range") or "").partition(" ")
    begin = span.partition("-")[0]
    return int(begin) if unit == "bytes" and begin.isdigit() else -1


def _open_file(path: str, offset: int) -> _Source:
    try:
        stream = open(path, "rb")
        size_bytes = os.fstat(stream.fileno()).st_size
    except OSError as exc:
        raise DownloadError(f"file://{path} cannot be read ({exc.strerror}): check the path on the host") from exc
    if offset > size_bytes:
        offset = 0
    stream.seek(offset)
    return _Source(stream, offset, size_bytes - offset)
