"""One file of known size over HTTP, into a `PartialFile`.

On the standard library, through whatever proxy the environment names. The size is known beforehand, so nothing else is
taken and nothing more is read; whether the bytes are right is for the caller to find out. Redirects are followed to
https only: what carries the file may change, but nobody on the way may change it for another address.
"""

import http.client
import re
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from edgeface import __version__
from edgeface.runtime.cameras.redaction import redact
from edgeface.runtime.fetching.partial_file import PartialFile
from edgeface.runtime.outages import outage

Advance = Callable[[int, int], None]
"""Told of bytes that are there and of all bytes."""

LFS_BEGINNING: Final = b"version https://git-lfs.github.com/spec/"

_CONTENT_RANGE: Final = re.compile(r"(?i:bytes) +([0-9]{1,18})-([0-9]{1,18})/(\*|[0-9]{1,18})")
_BLOCK_BYTES: Final = 1 << 16
_POINTER_BYTES: Final = 512  # a Git LFS pointer has about 130
_CONNECTIONS: Final = 5
"""So often one address is asked, as long as every time brings something."""
_SLOWEST_BYTES_PER_S: Final = 256


class RefusedError(Exception):
    """An address did not give the file. The text goes behind "ADDRESS: "."""


class _BrokenOffError(Exception):
    """The transfer ended before the file did."""


class _NoRangeError(Exception):
    """The server has no such part; it may have the whole."""


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a 206 answer carries: bytes `first` to `last`, both included, of `total`; None if the server cannot tell."""

    first: int
    last: int
    total: int | None


def content_range(value: str | None) -> ContentRange | None:
    """Read a `Content-Range` header (RFC 9110, section 14.4); None for what is no range of bytes."""
    found = _CONTENT_RANGE.fullmatch((value or "").strip(" \t"))
    if found is None:
        return None
    first, last, total = int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])
    if first > last or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def download(
    address: str,
    part: PartialFile,
    size_bytes: int,
    *,
    advance: Advance = lambda done, total: None,
    timeout_s: float = 30.0,
    context: ssl.SSLContext | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Fetch what is missing of a file.

    What is there is gone on with, over several connections if one breaks off. A server that knows no ranges, or
    another length, starts again. Whether what was there is the beginning of this very file shows when it is whole.

    Args:
        address: https://, or http:// if the user named it: then redirects may lead to that same server too.
        part: what is there of the file; at most as long as the file.
        size_bytes: of the whole file.
        advance: told how it goes.
        timeout_s: for a connection and for each wait; in as long at least 256 bytes a second must come.
        context: for TLS; by default certificates are verified with the system's authorities.
        clock: seconds, from any beginning.

    Raises:
        RefusedError: the address does not give such a file, or not all of it; what came is kept.
        FetchError: `part` cannot be written.
    """
    opener = _opener(address, context)
    uses_range, why = True, "its ranges of bytes do not fit"
    for _ in range(_CONNECTIONS):
        before = part.size_bytes
        try:
            with _open(opener, address, before if uses_range else 0, timeout_s) as response:
                block = _first_block(response, part, size_bytes, timeout_s)
                _copy(response, block, part, size_bytes, advance, timeout_s, clock)
            return
        except _NoRangeError:
            uses_range = False
        except _BrokenOffError as error:
            if part.size_bytes <= before:
                raise RefusedError(str(error)) from error
            why = str(error)
    raise RefusedError(f"{why}; run it again and it goes on from byte {part.size_bytes}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def __init__(self, address: str) -> None:
        self._named = urlsplit(address)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # or all of its body would be read
        there = urlsplit(newurl)
        is_named_server = (there.scheme, there.netloc) == (self._named.scheme, self._named.netloc)
        if there.scheme != "https" and not is_named_server:
            raise RefusedError(f"it leads to {redact(newurl)[:200]}, which is not https:// and is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(address: str, context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # not build_opener: that also opens file: and ftp:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context or ssl.create_default_context()),
        _Redirects(address),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _open(
    opener: urllib.request.OpenerDirector, address: str, start: int, timeout_s: float
) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"edgeface/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = opener.open(urllib.request.Request(address, headers=headers), timeout=timeout_s)
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            raise _NoRangeError from error
        # The server's own words are left out: they may be long, or in any language.
        why = f"HTTP {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        raise RefusedError(f"too many redirects, {why}" if 300 <= error.code < 400 else why) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error, timeout_s)) from error
    except ValueError as error:  # of a redirect; urllib takes it apart
        raise RefusedError("it leads to something that is no address") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _first_block(response: http.client.HTTPResponse, part: PartialFile, size_bytes: int, timeout_s: float) -> bytes:
    """Judge an answer by its headers, and one with the whole file by its first bytes too; return those."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        found = content_range(response.headers.get("Content-Range"))
        if found is None or found.first != part.size_bytes or found.total not in (None, size_bytes):
            raise _NoRangeError
        if found.last >= size_bytes:
            raise _NoRangeError
        return b""
    if response.status != HTTPStatus.OK:
        raise RefusedError(f"HTTP {response.status} instead of a file")
    length = response.length
    try:
        block = response.read(min(_POINTER_BYTES, size_bytes))
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error, timeout_s)) from error
    if block.startswith(LFS_BEGINNING):
        raise RefusedError(
            "a Git LFS pointer lies there, not the file; take an address that gives what is stored, "
            "such as media.githubusercontent.com/media/..."
        )
    if length is not None and length != size_bytes:
        what = "a web page" if response.headers.get_content_type() == "text/html" else "a file"
        raise RefusedError(f"{what} of {length} bytes lies there; the right one has {size_bytes}")
    part.clear()
    return block


def _copy(
    response: http.client.HTTPResponse,
    block: bytes,
    part: PartialFile,
    size_bytes: int,
    advance: Advance,
    timeout_s: float,
    clock: Callable[[], float],
) -> None:
    """Append `block` and what follows until the file is whole."""
    since_s, since_bytes = clock(), part.size_bytes
    try:
        while True:
            part.append(block)
            advance(part.size_bytes, size_bytes)
            if part.size_bytes >= size_bytes:
                return
            # A time-out starts anew with every byte; a server that drips would hold us for days.
            if (now_s := clock()) - since_s >= timeout_s:
                if part.size_bytes - since_bytes < _SLOWEST_BYTES_PER_S * timeout_s:
                    raise _BrokenOffError(f"only {part.size_bytes - since_bytes} bytes came in {now_s - since_s:.0f} s")
                since_s, since_bytes = now_s, part.size_bytes
            block = response.read1(min(_BLOCK_BYTES, size_bytes - part.size_bytes))
            if not block:
                raise _BrokenOffError(f"it broke off after {part.size_bytes} of {size_bytes} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error, timeout_s)) from error


def _reason(error: OSError | http.client.HTTPException, timeout_s: float) -> str:
    if isinstance(error, URLError):
        if not isinstance(error.reason, OSError):
            return str(error.reason)
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return outage(error)
