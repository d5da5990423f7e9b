"""Requests to a camera over HTTP: one connection that is kept, redirects, user name and password."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from typing import Any, Final

from edgeface import __version__
from edgeface.errors import SourceError
from edgeface.runtime.cameras.address import Address
from edgeface.runtime.cameras.authorization import Authorization
from edgeface.runtime.cameras.faults import cannot_connect, refusal, stream_error
from edgeface.runtime.cameras.redaction import redact

MAX_REDIRECTS: Final = 5

_CHUNK: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class HttpClient:
    """Asks for pictures.

    Args:
        address: of the pictures.
        limit_s: how long an answer may take to begin.
        any_certificate: take any certificate; else https:// verifies them.
    """

    def __init__(self, address: Address, limit_s: float, *, any_certificate: bool = False) -> None:
        self.name = address.name
        self._address = address
        self.limit_s = limit_s
        """How long an answer may take to begin."""
        self._any_certificate = any_certificate
        self._authorization = Authorization(address.username, address.password)
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._started_s = 0.0
        self._is_connected = self._is_timed_out = False

    def get(self) -> http.client.HTTPResponse:
        """Ask for the pictures; returns the answer, whose body is read with `read`.

        Raises:
            SourceError: there is no answer, or it is no success.
        """
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._ask_with_credentials()
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location:
                if 200 <= answer.status < 300:
                    self._authorization.accepted()
                    return answer
                raise self._error(refusal(answer.status, self._address, http.client.responses.get(answer.status, "")))
            self._leave_for(location)
        raise self._error(f"leads from one address to the next, more than {MAX_REDIRECTS} times; give the last one")

    def read(self, answer: http.client.HTTPResponse, until_s: float) -> bytes:
        """Return the next bytes of an answer, none at its end; `until_s` is by `time.monotonic`.

        Raises:
            TimeoutError: there were none in time.
            OSError, http.client.HTTPException: the connection broke off.
        """
        if answer.isclosed() or answer.length == 0:
            return b""
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if self._socket is not None:
            self._socket.settimeout(left_s)
        if answer.chunked:
            return answer.read1(_CHUNK)
        ready = answer.peek(1)  # read1 does not know the end of a body in some versions of Python
        if not ready and answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        return answer.read(len(ready))

    def read_all(self, answer: http.client.HTTPResponse, until_s: float, limit: int) -> bytes | None:
        """Return the rest of a body, None if it has more than `limit` bytes; all else is as in `read`."""
        data = bytearray()
        while more := self.read(answer, until_s):
            data += more
            if len(data) > limit:
                return None
        return bytes(data)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask_with_credentials(self) -> http.client.HTTPResponse:
        answer = self._ask()
        for _ in range(2):  # a challenge, and one whose nonce has become too old
            if answer.status != 401 or not self._authorization.take(answer.headers.get_all("WWW-Authenticate") or ()):
                break
            answer = self._ask()
        return answer

    def _ask(self) -> http.client.HTTPResponse:
        """Send one request, over the connection that is there if it still is."""
        is_used = self._connection is not None
        try:
            return self._exchange()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            why = self._why(error)
            self.close()
            if not is_used or not isinstance(error, ConnectionError):
                raise self._error(why) from None
        try:  # a server may close an idle connection at any time; that is no failure
            return self._exchange()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            why = self._why(error)
            self.close()
            raise self._error(why) from None

    def _exchange(self) -> http.client.HTTPResponse:
        self._started_s, self._is_connected, self._is_timed_out = time.monotonic(), False, False
        self._finish_last()
        if self._connection is None:
            self._connection = self._connect()
            self._connection.connect()
            self._socket = self._connection.sock
        self._is_connected = True
        assert self._socket is not None
        self._socket.settimeout(self.limit_s)
        headers: dict[str, str | bytes] = {"User-Agent": f"edgeface/{__version__}", "Accept": "*/*"}
        if (credentials := self._authorization.header("GET", self._address.target)) is not None:
            headers["Authorization"] = credentials.encode()
        # Time-outs of sockets start anew with every byte; a header that drips would never end.
        alarm = threading.Timer(self.limit_s, self._stop)
        alarm.daemon = True
        alarm.start()
        try:
            self._connection.request("GET", self._address.target, headers=headers)
            answer = self._connection.getresponse()
        finally:
            alarm.cancel()
        if self._is_timed_out:  # the end of the connection looks like that of the header
            raise TimeoutError
        return answer

    def _finish_last(self) -> None:
        """Read what is left of the last answer, so that its connection can be used again, or close that."""
        last, self._answer = self._answer, None
        if last is None or (last.isclosed() and self._connection is not None and self._connection.sock is not None):
            return
        left = last.length
        if left is not None and left <= _CHUNK and not last.will_close:
            with contextlib.suppress(OSError, http.client.HTTPException):
                last.read(left)
                return
        self._answer = last
        self.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        connection: http.client.HTTPConnection
        if self._address.scheme == "https":
            context = ssl.create_default_context()
            if self._any_certificate:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(host, port, timeout=self.limit_s, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.limit_s)
        connection.response_class = self._begin_answer  # type: ignore[assignment]
        return connection

    def _begin_answer(self, *arguments: Any, **more: Any) -> http.client.HTTPResponse:
        # Kept, to know how far an answer came that did not end.
        self._answer = http.client.HTTPResponse(*arguments, **more)
        return self._answer

    def _leave_for(self, location: str) -> None:
        """Ask at another address from now on."""
        try:
            there = self._address.leading_to(location)
        except SourceError:
            where = redact(location)[:200]
            raise self._error(f"leads to {where}, where no camera can be; check the address") from None
        if there.scheme not in ("http", "https"):
            raise self._error(f"leads to {there.name}; give that address")
        if (there.scheme, there.host, there.port) != (self._address.scheme, self._address.host, self._address.port):
            self.close()
            self._authorization = Authorization(there.username, there.password)
        self._address = there

    def _stop(self) -> None:
        self._is_timed_out = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                # The plain socket's: that of a TLS socket would pull the state away from under the other thread.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _why(self, error: Exception) -> str:
        took_s = time.monotonic() - self._started_s
        has_status = self._answer is not None and isinstance(self._answer.status, int)
        if self._is_connected and (self._is_timed_out or isinstance(error, TimeoutError)):
            what = "the header of its answer does not end" if has_status else "it said nothing"
            return (
                f"gave no picture in {took_s:.1f} s (limit {self.limit_s:g} s): {what}; "
                "check the address and the port, and that the camera is well"
            )
        if isinstance(error, http.client.LineTooLong) or "headers" in str(error):
            return "sends a header without end; check the address and the port, and that this is a camera"
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            return "does not answer with HTTP; check the port and the kind of address (rtsp:// or http://)"
        if isinstance(error, http.client.HTTPException | OSError):
            return cannot_connect(error)
        return "has a host that no name can be; check the address"

    def _error(self, what: str) -> SourceError:
        return stream_error(self.name, what)
