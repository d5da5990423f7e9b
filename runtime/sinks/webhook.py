"""Events to a web server: one POST each.

On the standard library: a device needs one kind of request over one connection, and an HTTP package would bring several
more, all of which had to be kept current on the device.
"""

import base64
import binascii
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urljoin, urlsplit

from edgeface import __version__
from edgeface.errors import ConfigError
from edgeface.runtime.cameras.redaction import redact
from edgeface.runtime.clock import steady_s
from edgeface.runtime.outages import outage
from edgeface.runtime.sinks.courier import Reply
from edgeface.runtime.sinks.credentials import plain_address
from edgeface.runtime.sinks.outbox import Letter
from edgeface.runtime.sinks.promptness import forget_unsent, limit_delivery

logger = logging.getLogger(__name__)

TOKEN: Final = "EDGEFACE_WEBHOOK_TOKEN"
SECRET: Final = "EDGEFACE_WEBHOOK_SECRET"

_PORTS: Final = {"https": 443, "http": 80}
_BUSY: Final = frozenset({408, 425, 429})  # 4xx that say nothing about the request
_AWAY: Final = frozenset({502, 503, 504})  # 5xx that say nothing about it either
_KEEPS_METHOD: Final = frozenset({307, 308})
_MAX_REDIRECTS: Final = 3
_MAX_BODY: Final = 64 * 1024
_LONGEST_RETRY_AFTER_S: Final = 3600.0


class _TooLate(Exception):
    """A letter may not leave any more."""


class Webhook:
    """A server that takes events by POST, `application/json`, one in a request.

    Headers, after the "Standard Webhooks" specification, so that receivers can use its libraries: `webhook-id` is the
    event's id, `webhook-timestamp` the time of sending in seconds since 1970, and, with a secret, `webhook-signature`
    is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. `Idempotency-Key` is the id again.

    2xx is success. 408, 425, 429 and 5xx, no answer, and one that breaks off are tried again; `Retry-After` is heeded.
    Everything else is a refusal, also a redirect, unless it keeps the method (307, 308) and leads to the same server.

    Args:
        url: https://, or http:// without a token or to this machine.
        token: for `Authorization: Bearer`.
        secret: for the signature; after `whsec_` in base64, otherwise the text itself.
        timeout_s: for the whole exchange.
        context: for TLS; by default certificates are verified with the system's authorities, or with those that the
            variable SSL_CERT_FILE names.
        clock: seconds since 1970.
        steady: seconds that never go back, which letters' `until_s` goes by.

    Raises:
        ConfigError: the address, the token or the secret cannot be used.
    """

    kind = "webhook"

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        secret: str | None = None,
        timeout_s: float = 10.0,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        parts, port = plain_address(url, _PORTS, "--webhook", TOKEN)
        host = parts.hostname or ""
        self.place = f"{parts.scheme}://{host if port == _PORTS[parts.scheme] else f'{host}:{port}'}"
        if token is not None and not token.isascii():
            raise ConfigError(f"the token in {TOKEN} holds characters that no HTTP header can; check it")
        if parts.scheme == "http" and not _is_this_machine(host):
            if token is not None:
                raise ConfigError(f"--webhook: {self.place} would get the token in clear; use https://")
            logger.warning("events go to %s in clear, names and times of people with them; https:// hides them", host)
        self._host, self._port = host, port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._token = token
        self._key = None if secret is None else _key(secret)
        self._timeout_s = timeout_s
        self._context = None
        if parts.scheme == "https":
            self._context = context or ssl.create_default_context()
        self._clock = clock
        self._steady = steady
        self._connection: http.client.HTTPConnection | None = None
        self._is_aborted = threading.Event()

    def send(self, letter: Letter) -> Reply:
        """POST one event; takes little more than `timeout_s`, most of the excess being the look-up of the host."""
        started_s = time.monotonic()
        self._is_aborted.clear()
        # Time-outs of sockets start anew with every byte; a server that drips would hold the queue for hours.
        alarm = threading.Timer(self._timeout_s, self.abort)
        alarm.daemon = True
        alarm.start()
        try:
            return self._follow(letter)
        except _TooLate:
            return Reply("late")
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if isinstance(error, TimeoutError) or time.monotonic() - started_s >= self._timeout_s:
                return Reply("again", f"no answer within {self._timeout_s:g} s")
            if self._is_aborted.is_set():
                return Reply("again", "no answer before the end of the run")
            return Reply("again", outage(error))
        except (ValueError, TypeError) as error:  # no HTTP request can be made of it, now or later
            self.close()
            return Reply("refused", f"it cannot be sent as it is: {' '.join(str(error).split())[:100]}")
        finally:
            alarm.cancel()

    def abort(self) -> None:
        """End a `send` in another thread soon."""
        self._is_aborted.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            forget_unsent(connection.sock)  # now, as http.client itself closes what breaks off
            with contextlib.suppress(OSError):
                # The plain socket's: that of a TLS socket would pull the state away from under the other thread.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _drop(self) -> None:
        """Close the connection, and let nothing arrive that did not arrive before."""
        if self._connection is not None and self._connection.sock is not None:
            forget_unsent(self._connection.sock)
        self.close()

    def _follow(self, letter: Letter) -> Reply:
        target = self._target
        for _ in range(1 + _MAX_REDIRECTS):
            status, headers = self._exchange(target, letter)
            location = headers.get("Location")
            if status in _KEEPS_METHOD and location and (here := self._same_server(target, location)):
                target = here
                continue
            return self._reply(status, headers, location)
        return Reply("refused", f"more than {_MAX_REDIRECTS} redirects")

    def _exchange(self, target: str, letter: Letter) -> tuple[int, http.client.HTTPMessage]:
        """Send one request and return status and headers of the whole answer."""
        is_used = self._connection is not None
        try:
            return self._ask(target, letter)
        except (ConnectionError, http.client.BadStatusLine):
            # A server may close an idle connection at any time; that is no failure.
            self._drop()
            if not is_used or self._is_aborted.is_set():
                raise
            return self._ask(target, letter)

    def _ask(self, target: str, letter: Letter) -> tuple[int, http.client.HTTPMessage]:
        if self._connection is None:
            self._connection = self._connect()
        if self._connection.sock is None:
            self._connection.connect()
        left_s = None if letter.until_s is None else letter.until_s - self._steady()
        if left_s is not None and left_s <= 0:
            raise _TooLate
        limit_delivery(self._connection.sock, left_s)
        self._connection.request("POST", target, letter.body, self._headers(letter))
        response = self._connection.getresponse()
        body = response.read(_MAX_BODY + 1)
        if len(body) <= _MAX_BODY and response.length:  # told only where all is read at once
            raise http.client.IncompleteRead(body, response.length)
        if len(body) > _MAX_BODY or response.will_close:
            self.close()
        return response.status, response.headers

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _headers(self, letter: Letter) -> dict[str, str]:
        sent = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgeface/{__version__}",
            "Idempotency-Key": letter.event,
            "webhook-id": letter.event,
            "webhook-timestamp": sent,
        }
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, letter.event, sent, letter.body)
        return headers

    def _same_server(self, target: str, location: str) -> str | None:
        """Return the target of a redirect if it stays on this server."""
        scheme = "http" if self._context is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            there = urlsplit(urljoin(f"{scheme}://{host}:{self._port}{target}", location))
            port = there.port or _PORTS.get(there.scheme)
        except ValueError:
            return None
        if (there.scheme, there.hostname, port) != (scheme, self._host, self._port):
            return None
        path = (there.path or "/") + (f"?{there.query}" if there.query else "")
        return path if all("!" <= character <= "~" for character in path) else None

    def _reply(self, status: int, headers: http.client.HTTPMessage, location: str | None) -> Reply:
        # The server's own words stay out of the log: it may have been told a secret.
        why = f"HTTP {status} {http.client.responses.get(status, '')}".rstrip()
        if 200 <= status < 300:
            return Reply("sent")
        if status in _BUSY or status >= 500:
            # By the server's own clock if it tells it: that of a device may be years behind.
            now_s = _seconds(headers.get("Date") or "")
            after_s = _retry_after_s(headers.get("Retry-After"), now_s or self._clock())
            return Reply("again", why, after_s, answered=status >= 500 and status not in _AWAY)
        if 300 <= status < 400 and location:
            why += f": not followed to {redact(location)[:200]}; give the final address"
        if status in (401, 403):
            why += f": check the token in {TOKEN}"
        return Reply("refused", why)


def signature(key: bytes, event: str, timestamp: str, body: bytes) -> str:
    """Return the value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `event.timestamp.body`."""
    signed = b".".join((event.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ConfigError(f"the secret in {SECRET} begins with whsec_ but is not base64 after that") from error


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after_s(value: str | None, now_s: float) -> float:
    """Read `Retry-After`, seconds or a date; 0 for what is neither."""
    if value is None:
        return 0.0
    value = value.strip()
    if value.isascii() and value.isdigit():
        wait_s = float(value[:9])
    else:
        until_s = _seconds(value)
        if until_s is None:
            return 0.0
        wait_s = until_s - now_s
    return min(max(0.0, wait_s), _LONGEST_RETRY_AFTER_S)


def _seconds(date: str) -> float | None:
    """Read a date of a header as seconds since 1970; None for what is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
