"""What is wrong with a stream that does not open, and what to do about it: one line for each kind."""

import errno
import http.client
import socket
import ssl
import time
from typing import Final

from edgeface.errors import SourceError
from edgeface.runtime.cameras.address import Address
from edgeface.runtime.cameras.authorization import Authorization
from edgeface.runtime.outages import outage

WEB_PAGE: Final = "answers with a web page, not with pictures"

_UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_SPOKEN: Final = ("rtsp", "rtsps")
_ASKED: Final = (*_SPOKEN, "rtmp", "tcp")  # HTTP has answered before FFmpeg; the others have no connection
_MAX_HEADER: Final = 64 * 1024


def cannot_connect(error: OSError | http.client.HTTPException | UnicodeError) -> str:
    """Return what went wrong with a connection and what to do, as the rest of a sentence about the stream."""
    if isinstance(error, socket.gaierror):
        advice = "check the name in the address and the DNS of this network, or give the camera's IP address"
    elif isinstance(error, UnicodeError):
        return "has a host that no name can be; check the address"
    elif isinstance(error, ssl.SSLCertVerificationError):
        advice = (
            "name the camera's certificate, or that of your authority, in the variable SSL_CERT_FILE, "
            "or take any with --any-certificate"
        )
    elif isinstance(error, ssl.SSLError):
        reason = (error.reason or "no TLS").replace("_", " ").lower()
        return f"cannot be opened: TLS fails ({reason}); check the port, or give http:// if the camera has no TLS"
    elif isinstance(error, ConnectionRefusedError):
        advice = "check the port, and that the camera is on"
    elif isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno in _UNREACHABLE):
        return "cannot be reached; check the address, the network, and that the camera is on"
    elif isinstance(error, ConnectionError):
        advice = "check the address, and that the camera has room for another viewer"
    else:
        advice = "check the address"
    return f"cannot be opened: {outage(error)}; {advice}"


def refusal(status: int, address: Address, reason: str = "") -> str:
    """Return what a status of HTTP or RTSP says and what to do, as the rest of a sentence about the stream."""
    said = " ".join(word for word in (str(status), reason) if word)
    if status == 401 and address.username is None:
        example = f"{address.scheme}://NAME:PASSWORD@..."
        return f"wants a user name and a password ({said}); give {example}, with %XX for @ : / ? #"
    if status == 401:
        return f"refuses the user name or the password ({said}); check both, as %XX where they hold @ : / ? #"
    if status == 403:
        return f"is forbidden ({said}); check what this user may see in the settings of the camera, and the path"
    if status in (404, 410):
        return f"has nothing at this path ({said}); check it in the manual of the camera"
    if status in (429, 453, 503):
        return f"is too busy ({said}); close other viewers, or ask for fewer pictures"
    return f"answers {said}; check the address and the camera"


def explain(url: str, limit_s: float) -> str | None:
    """Ask a server why FFmpeg got no picture from it.

    Args:
        url: of the stream.
        limit_s: how long this may take, but for the look-up of the name.

    Returns:
        The rest of a sentence about the stream; None where nothing is wrong that could be seen.

    Raises:
        SourceError: the address is none.
    """
    if url.partition("://")[0].lower() not in _ASKED:
        return None
    address = Address.of(url)
    try:
        if not address.port:
            return None
        deadline_s = time.monotonic() + limit_s
        with socket.create_connection((address.host, address.port), limit_s) as plain:
            if address.scheme not in _SPOKEN:
                return None
            if address.scheme == "rtsp":
                return _describe(plain, address, deadline_s)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # FFmpeg does not verify it either
            with context.wrap_socket(plain, server_hostname=address.host) as secure:
                return _describe(secure, address, deadline_s)
    except (OSError, UnicodeError) as error:
        return cannot_connect(error)


def _describe(connection: socket.socket, address: Address, deadline_s: float) -> str | None:
    """Ask an RTSP server for the stream (RFC 2326, 10.2)."""
    authorization = Authorization(address.username, address.password)
    uri = address.without_credentials
    for number in range(1, 4):
        header = authorization.header("DESCRIBE", uri)
        lines = [f"DESCRIBE {uri} RTSP/1.0", f"CSeq: {number}", "Accept: application/sdp"]
        lines += [f"Authorization: {header}"] if header else []
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = _head(connection, deadline_s)
        if answer is None:
            return None  # silent: what FFmpeg's time-out says says it all
        first, *fields = answer.split("\r\n")
        version, _, rest = first.partition(" ")
        status, _, reason = rest.partition(" ")
        if not version.startswith("RTSP/") or not (status.isdecimal() and len(status) == 3):
            what = "a web server" if version.startswith("HTTP/") else "something else"
            return f"is {what}, no RTSP server; check the port and the kind of address"
        pairs = [field.partition(":") for field in fields]
        challenges = [value.strip() for name, _, value in pairs if name.lower() == "www-authenticate"]
        if int(status) == 401 and authorization.take(challenges):
            continue
        return None if 200 <= int(status) < 300 else refusal(int(status), address, _plain(reason))
    return None


def _head(connection: socket.socket, deadline_s: float) -> str | None:
    """Read an answer up to its empty line; None if none comes in time."""
    data = b""
    while b"\r\n\r\n" not in data:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or len(data) > _MAX_HEADER:
            return None
        connection.settimeout(left_s)
        try:
            more = connection.recv(4096)
        except TimeoutError:
            return None
        if not more:
            return data.decode("latin-1") if data else None
        data += more
    return data.partition(b"\r\n\r\n")[0].decode("latin-1")


def _plain(text: str) -> str:
    """Return words of a server as they can be shown."""
    return "".join(letter for letter in text if letter.isascii() and letter.isprintable())[:60].strip()


def stream_error(name: str, what: str) -> SourceError:
    """Return the error of a stream: its name without credentials, what is wrong, what to do."""
    return SourceError(f"stream {name} {what}")
