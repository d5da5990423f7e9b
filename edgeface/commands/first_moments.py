"""Signals while the program is being imported; this imports next to nothing itself, so that it is there at once."""

import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_at_once() -> None:
    """End the process with its exit code at a signal, for as long as there is nothing to clean up."""
    for number in heeded():
        signal.signal(number, lambda number, frame: os._exit(128 + number))


def heeded() -> list[signal.Signals]:
    """Return the signals that are not ignored: a shell starts a job in the background with Ctrl-C ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
