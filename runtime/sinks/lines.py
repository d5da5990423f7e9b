"""Events as lines of an open stream: standard output, as a rule."""

import contextlib
import os
from collections.abc import Callable
from typing import TextIO

from edgeface.runtime.events import Event, SinkState


class LinesSink:
    """Writes lines to an open text stream, flushed one by one; standard output, as a rule.

    When the reader has gone (`| head`), the stream's descriptor is turned to the null device: what is printed later,
    and Python's own flush at the end, then go nowhere instead of failing. A name that the stream's encoding does not
    have is written with escapes, as `\\u0141`.

    Args:
        stream: where lines go.
        render: turns an event into a line, or None to leave it out; JSON by default.
        name: what to call the stream in the summary.
    """

    def __init__(
        self, stream: TextIO, render: Callable[[Event], str | None] = Event.to_json, name: str = "standard output"
    ) -> None:
        self._stream = stream
        self._render = render
        self._name = name
        self._sent = 0

    def write(self, event: Event) -> None:
        """Write and flush one line; BrokenPipeError once the reader has gone or the stream is closed."""
        if self._stream.closed:
            raise BrokenPipeError("the stream for events is closed")
        try:
            line = self._render(event)
            if line is not None:
                self._stream.write(self._encodable(line) + "\n")
                self._stream.flush()
                self._sent += 1
        except BrokenPipeError:
            with contextlib.suppress(OSError):  # not every stream has a descriptor
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
            raise

    def _encodable(self, line: str) -> str:
        """Return a line as the stream can take it: what its encoding does not have is escaped."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)

    def catch_up(self) -> None:
        """Nothing is kept: what a stream does not take is lost."""

    def state(self) -> SinkState:
        """Count the lines."""
        return SinkState(self._name, sent=self._sent)

    def close(self) -> None:
        """Leave the stream open: it belongs to the caller."""
