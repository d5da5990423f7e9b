"""What Ctrl-C and SIGTERM do: end the program with 130 or 143, or a run after the frame in work."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from edgeface.commands.first_moments import heeded, leave_at_once

_AGAIN_S: Final = 0.1
_raised: list[SystemExit] = []


def end_on_signals() -> None:
    """Let the first signal raise SystemExit with its exit code, so that all is cleaned up; the second ends at once.

    It is not KeyboardInterrupt, after which Python would die of the signal itself wherever a library had run code that
    it interrupted, whatever is done about it. Where something swallows the exception, as some do that try an import, it
    is raised again.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if _raised:
            os._exit(128 + number)
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, look_again)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)
        end(128 + number)

    def look_again(number: int, frame: FrameType | None) -> None:
        if not _is_under_way(sys.exception()):
            end(_raised[0].code)

    def end(code: Any) -> None:
        _raised.append(SystemExit(code))
        raise _raised[-1]

    for number in heeded():
        signal.signal(number, handle)
    # The last to run, as it is the first to be registered: when Python takes itself apart, the result stands.
    atexit.register(_ignore)


def _is_under_way(error: BaseException | None) -> bool:
    """Whether what is being handled here and now is the end of the program, or came of it."""
    while error is not None:
        if any(error is raised for raised in _raised):
            return True
        error = error.__context__
    return False


def exit_code() -> int | None:
    """Return the exit code of a process that a signal ends, None of another one; nothing is raised from now on."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    leave_at_once()
    return int(str(_raised[0].code)) if _raised else None


def code_of(interruption: KeyboardInterrupt) -> int:
    """Return the exit code that goes with an interruption; one that names no signal was Ctrl-C."""
    name = str(interruption)
    return 128 + (signal.Signals[name] if name in signal.Signals.__members__ else signal.SIGINT)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT or SIGTERM sets; a second signal ends the process as usual. Ignored ones stay so."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in heeded()}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


def _ignore() -> None:
    for number in heeded():
        signal.signal(number, signal.SIG_IGN)
