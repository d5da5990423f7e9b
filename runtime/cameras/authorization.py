"""User name and password for a camera: HTTP's Basic and Digest (RFC 7617, RFC 7616), which RTSP has too.

urllib can do this, but only for requests of its own, each over another connection.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.request import parse_http_list, parse_keqv_list

_HASHES: Final = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_CHALLENGE: Final = re.compile(r"(?:^|,)\s*(Basic|Digest)\b", re.IGNORECASE)


class Authorization:
    """Answers challenges.

    Args:
        username: None where there is none; then nothing is answered.
        password: likewise.
    """

    def __init__(self, username: str | None, password: str | None) -> None:
        self.is_given = username is not None
        self._username, self._password = username or "", password or ""
        self._digest: Mapping[str, str] | None = None
        self._is_basic = False
        self._count = 0  # answers to one nonce
        self._is_proven = False  # an answer to the last challenge was right

    def take(self, challenges: Iterable[str]) -> bool:
        """Take the `WWW-Authenticate` headers of an answer; False if there is nothing new to say to them."""
        if not self.is_given:
            return False
        offers = [offer for text in challenges for offer in _offers(text)]
        for scheme, fields in offers:
            algorithm = fields.get("algorithm", "MD5").upper().removesuffix("-SESS")
            if scheme == "digest" and "nonce" in fields and algorithm in _HASHES:
                is_stale = self._is_proven or fields.get("stale", "").lower() == "true"
                was_refused = self._digest is not None and not is_stale
                self._digest, self._count, self._is_proven = fields, 0, False
                return not was_refused
        if any(scheme == "basic" for scheme, _ in offers) and not self._is_basic:
            self._is_basic = True
            return True
        return False

    def accepted(self) -> None:
        """Note that the last answer was right: the next challenge is about its age, whether it says so or not."""
        self._is_proven = True

    def header(self, method: str, target: str) -> str | None:
        """Return the value of `Authorization` for a request; None before there was a challenge."""
        if self._digest is not None:
            return self._answer(self._digest, method, target)
        if self._is_basic:
            return "Basic " + base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
        return None

    def _answer(self, fields: Mapping[str, str], method: str, target: str) -> str:
        algorithm = fields.get("algorithm", "MD5").upper()
        make = _HASHES[algorithm.removesuffix("-SESS")]

        def digest(*parts: str) -> str:
            return make(":".join(parts).encode()).hexdigest()

        self._count += 1
        nonce, client, count = fields["nonce"], secrets.token_hex(8), f"{self._count:08x}"
        realm = fields.get("realm", "")
        own = digest(self._username, realm, self._password)
        if algorithm.endswith("-SESS"):
            own = digest(own, nonce, client)
        request = digest(method, target)
        words = {"username": self._username, "realm": realm, "nonce": nonce, "uri": target}
        qop = "auth" if "auth" in re.split(r"[,\s]+", fields.get("qop", "")) else None
        words["response"] = digest(own, nonce, count, client, qop, request) if qop else digest(own, nonce, request)
        if "opaque" in fields:
            words["opaque"] = fields["opaque"]
        quoted = [f'{name}="{_escape(value)}"' for name, value in words.items()]
        if "algorithm" in fields:
            quoted.append(f"algorithm={fields['algorithm']}")
        if qop:
            quoted += [f"qop={qop}", f"nc={count}", f'cnonce="{client}"']
        return "Digest " + ", ".join(quoted)


def _offers(text: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Return scheme and fields of each challenge in one header, which may hold several."""
    found = list(_CHALLENGE.finditer(text))
    ends = [following.start() for following in found[1:]]
    for one, end in zip(found, [*ends, len(text)], strict=False):
        parts = [part for part in parse_http_list(text[one.end() : end]) if part.partition("=")[2]]
        yield one[1].lower(), {name.lower(): value for name, value in parse_keqv_list(parts).items()}


def _escape(value: str) -> str:
    return re.sub(r'([\\"])', r"\\\1", re.sub(r"[\r\n]", "", value))
