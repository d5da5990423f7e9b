"""Standard input, output and error, whatever is behind them: another encoding, a full disk, nobody, nothing."""

import codecs
import contextlib
import io
import json
import os
import sys
from typing import Any, Final

ERRORS: Final = "edgeface-escape"
"""Name of the error handler that writes what an encoding lacks as JSON does, `\\u00e9`: JSON stays JSON."""
_ASCII: Final = "edgeface-ascii"
"""ASCII under a name that nobody takes for a mistake of the system, to be mended by writing UTF-8."""


def write_anything() -> None:
    """Let standard output and error take every text: what their encoding lacks, or is no character, is escaped."""
    if not os.environ.get("TERMINAL_WIDTH", "0").isdecimal():
        del os.environ["TERMINAL_WIDTH"]  # typer stumbles over what is no number
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_ASCII if is_ascii else None, errors=ERRORS)


def replace_missing() -> None:
    """Put the null device where this process was started without one of its standard streams, as by `>&-`.

    Otherwise the next file that is opened would take the stream's number, and a library that prints would write into
    it. `sys.stdout` stays None, which says that nobody wants the output; the others can be used.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115  # for as long as the process lasts
    sys.stderr = _Forgiving(io.FileIO(2, "wb", closefd=False) if sys.stderr is None else sys.stderr.buffer)


def drop_output() -> None:
    """Turn standard output to the null device if it takes nothing any more, so that no flush at the end fails."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _turn_to_null(sys.stdout)


class _Forgiving(io.TextIOWrapper):
    """Standard error that goes nowhere once it cannot be written: a result must not fail because of a remark."""

    def __init__(self, buffer: Any) -> None:
        before = sys.stderr
        encoding = "utf-8" if before is None else before.encoding
        super().__init__(buffer, encoding=encoding, errors=ERRORS, line_buffering=True, write_through=True)

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            _turn_to_null(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _turn_to_null(self)


def _turn_to_null(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError):  # not every stream has a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != _ASCII:
        return None
    ascii_ = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii_.encode,
        ascii_.decode,
        ascii_.streamreader,
        ascii_.streamwriter,
        ascii_.incrementalencoder,
        ascii_.incrementaldecoder,
        _ASCII,
    )


codecs.register_error(ERRORS, _escape)
codecs.register(_find_codec)
