"""Bytes that leave now or never.

What was written to a socket waits in the kernel until the other side has it, for many minutes where the network is
down, and even after the socket was closed. A match must not arrive that way.
"""

import contextlib
import socket
import struct
import sys
from typing import Final

# TCP_USER_TIMEOUT (RFC 5482), which Linux has: how long sent bytes may stay unacknowledged, in milliseconds.
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
_NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def limit_delivery(connection: socket.socket, seconds: float | None) -> None:
    """Have the kernel give up a connection whose bytes do not arrive within `seconds`; None is its own patience."""
    if _USER_TIMEOUT is not None:
        with contextlib.suppress(OSError):  # not every socket is one of TCP
            connection.setsockopt(
                socket.IPPROTO_TCP, _USER_TIMEOUT, 0 if seconds is None else max(1, round(seconds * 1e3))
            )


def forget_unsent(connection: socket.socket) -> None:
    """Have the kernel throw away what did not arrive when the socket is closed, which is to follow."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
