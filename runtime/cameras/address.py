"""The address of a stream, taken apart."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from edgeface.errors import SourceError
from edgeface.runtime.cameras.redaction import redact

_PORTS: Final = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}
_AS_THEY_ARE: Final = "%/?:@!$&'()*+,;=~-._[]"


@dataclass(frozen=True, slots=True)
class Address:
    """Parts of an address.

    Attributes:
        name: the address without credentials, for people.
        scheme: in small letters.
        host: name or IP address.
        port: 0 where neither the address nor the scheme says.
        target: path and query, as they are sent.
        username: None where there is none.
        password: likewise.
    """

    name: str
    scheme: str
    host: str
    port: int
    target: str
    username: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, url: str) -> "Address":
        """Take an address apart.

        Raises:
            SourceError: it is none.
        """
        name = redact(url)
        if not url.isprintable():
            raise SourceError(f"stream {name} has characters that cannot be in an address; check it")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            port, parts = None, None
        if parts is None or not parts.hostname:
            raise SourceError(
                f"stream {name} is no address; check host and port, and write @ : / ? # of a password as %XX"
            )
        target = quote(parts.path or "/", safe=_AS_THEY_ARE)
        if parts.query:
            target += "?" + quote(parts.query, safe=_AS_THEY_ARE)
        return cls(
            name,
            parts.scheme.lower(),
            parts.hostname,
            port or _PORTS.get(parts.scheme.lower(), 0),
            target,
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
        )

    @property
    def without_credentials(self) -> str:
        """The address as a server may be told it; unlike `name` with the query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"

    def leading_to(self, location: str) -> "Address":
        """Return where a redirect leads. Credentials stay with the host they were given for, and with its TLS.

        Raises:
            SourceError: it leads nowhere.
        """
        there = Address.of(urljoin(self.without_credentials, location))
        is_same = there.host == self.host and (there.scheme == "https" or self.scheme == "http")
        if there.username is not None or not is_same:
            return there
        return Address(there.name, there.scheme, there.host, there.port, there.target, self.username, self.password)
