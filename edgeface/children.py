"""Processes that this one starts, and Ctrl-C, which a terminal sends to all of them at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_children() -> Iterator[None]:
    """Start processes in here that Ctrl-C does not reach: this one ends them, and they do not complain on their way.

    A blocked signal is inherited, also by a process that is still importing what it needs; here it waits until the
    block ends. Without effect on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
