"""Encryption of the records of a gallery: AES-256-GCM, each record bound to where it belongs.

From the user's key, each gallery derives its own keys (HKDF-SHA256 with a random salt that lies in the gallery): one
for the records, one for the hashes by which names are found, one for the sum over all records
(`edgeface.runtime.gallery.record_sum`). Each record has a fresh random nonce of 96 bits and is
authenticated together with what it is, whose it is, the embedding space and the schema version. A record that was
altered, or moved to another person or gallery, does not open.

What stays readable without the key: how many people and templates there are, times, quality and precision of each
template, the embedding space, and from the log when what was done by which user and command. What encryption does
not notice: an older state of the file put back as a whole.
"""

import hashlib
import hmac
import json
import os
from typing import Final

from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.schema import AES_GCM

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SALT_BYTES: Final = 16

RECORD_SCHEMA: Final = 3
"""Schema version that says what records hold. A later one that changes them has to seal them anew."""


class SealError(Exception):
    """A record does not open: another key, or not the record that was sealed here."""


class Sealer:
    """Seals and opens the records of one gallery.

    Args:
        key: of the user.
        salt: `SALT_BYTES` random bytes of the gallery.
        space: embedding space id of the gallery.
        dimension: of its embeddings.
    """

    def __init__(self, key: GalleryKey, salt: bytes, space: str, dimension: int) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.salt = salt
        self._cipher = AESGCM(_derive(key, salt, "records"))
        self._names = _derive(key, salt, "names")
        self.sum_key = _derive(key, salt, "record sum")
        """32 bytes for the sum over all records."""
        self.key_id = _derive(key, salt, "key id").hex()[:16]
        """Tells keys apart without giving them away."""
        # The beginning of a JSON list, which `_bound` goes on with.
        self._context = json.dumps([AES_GCM, RECORD_SCHEMA, space, dimension])[:-1]

    @classmethod
    def new(cls, key: GalleryKey, space: str, dimension: int) -> "Sealer":
        """Return one with a new salt, for a gallery that is about to be encrypted."""
        return cls(key, os.urandom(SALT_BYTES), space, dimension)

    def seal(self, data: bytes, *belongs: str | float | None) -> bytes:
        """Encrypt a record; `belongs` says what and whose it is, and must be the same when it is opened."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, self._bound(belongs))

    def open(self, sealed: object, *belongs: str | float | None) -> bytes:
        """Decrypt a record.

        Raises:
            SealError: it is not what was sealed with this key and `belongs`.
        """
        from cryptography.exceptions import InvalidTag

        if not isinstance(sealed, bytes) or len(sealed) <= NONCE_BYTES:
            raise SealError
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound(belongs))
        except (InvalidTag, ValueError):
            raise SealError from None

    def blind(self, name: str) -> bytes:
        """Return 32 bytes by which a name is found, and from which nobody without the key can tell it."""
        return hmac.digest(self._names, name.encode(), hashlib.sha256)

    def _bound(self, belongs: tuple[str | float | None, ...]) -> bytes:
        return f"{self._context}, {json.dumps(belongs)[1:]}".encode()


def _derive(key: GalleryKey, salt: bytes, purpose: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt, f"edgeface gallery {purpose}".encode()).derive(key.raw)
