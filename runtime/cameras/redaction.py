"""Addresses without their secrets."""

import re
from typing import Final

_SECRET_PAIR: Final = re.compile(
    r"(?i)(user(?:name)?|usr|login|pass(?:word|wd)?|pwd|token|auth|key|secret)(=|%3d)[^&;/]*"
)


def redact(url: str) -> str:
    """Return `url` without user name, password and query, on one line, fit for logs and errors.

    Also works on what is no proper URL: a mistyped scheme, a password with `@`, `/` or `?` in it.
    Where it cannot tell what is secret it hides more. It cannot know of a secret in a plain part of the path.
    """
    scheme, rest = "", url
    if found := re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/+", url):
        scheme, rest = found[0], url[found.end() :]
    head, *tail = re.split(r"[?#]", rest, maxsplit=1)
    if tail and "@" in tail[0]:
        return printable(scheme) + "***"
    before, at, after = head.rpartition("@")
    if at and (scheme or ":" in before):
        head = f"***@{after}"
    if scheme:
        head = _SECRET_PAIR.sub(r"\1\2***", head)
    if tail:
        head += "?***"
    return printable(scheme + head)


def printable(text: str) -> str:
    """Return `text` on one line, with `?` for characters that cannot be seen."""
    return "".join(c if c.isprintable() else "?" for c in text)
