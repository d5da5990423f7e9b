"""Signed bundles: who made this, and is it still what they made?

A bundle is signed with ed25519. The signature covers the exact bytes of the manifest, and the manifest lists the size
and SHA-256 of every file that is read, so it covers the networks, thresholds, licences and the model card. It lies
beside the manifest as `manifest.sig`, JSON with the public key and the signature.

A device that is told which keys to trust, by `--require-key` or by EDGEFACE_REQUIRE_KEY, checks the signature before
it reads the manifest, and refuses bundles that are not signed, signed by another key, or changed, and loose ONNX
files.

What this protects: a bundle on its way to the device and on its disk, against whoever can write there but holds no
signing key. What it does not: a device whose configuration, program or public key file can be changed (whoever does
that decides what is trusted); a return to an older bundle that the same key signed; the gallery, the camera and the
command line (`--threshold`); secrecy, as nothing is encrypted; and the network's own judgement. A signature says who,
not how good.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeface.errors import BundleError, ConfigError
from edgeface.files import sha256
from edgeface.ownership import writable_by_others

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_VARIABLE: Final = "EDGEFACE_REQUIRE_KEY"
MAX_KEY_BYTES: Final = 1 << 14
MAX_SIGNATURE_BYTES: Final = 1 << 12

PREFIX: Final = b"edgeface bundle manifest, signature 1\n"
"""Signed before the manifest, so that no signature made for something else fits a bundle, nor the other way round."""


class SignatureFile(BaseModel):
    """What `manifest.sig` holds. Key and signature are hexadecimal, of 32 and 64 bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    algorithm: Literal["ed25519"] = "ed25519"
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def to_json(self) -> bytes:
        """Write it as indented JSON, ending in a newline."""
        return self.model_dump_json(indent=2).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key (32 bytes) and the file that it came from."""

    raw: bytes
    path: Path

    @property
    def fingerprint(self) -> str:
        """Identifies the key, 32 hexadecimal digits."""
        return fingerprint(self.raw)


def fingerprint(public_key: bytes) -> str:
    """Return the first half of the SHA-256 of a raw public key, 32 hexadecimal digits."""
    return sha256(public_key)[:32]


def required_keys(paths: Sequence[Path] = ()) -> tuple[TrustedKey, ...]:
    """Return the keys of which one must have signed what is opened; none if anything may be opened.

    Args:
        paths: public key files; if there are none, those count that the environment variable names, separated as in
            PATH.

    Raises:
        ConfigError: the variable is set but empty, or a file is not an ed25519 public key.
    """
    if not paths and KEY_VARIABLE in os.environ:
        paths = [Path(part) for part in os.environ[KEY_VARIABLE].split(os.pathsep) if part]
        if not paths:  # a slip in a service file must not open the door
            raise ConfigError(f"{KEY_VARIABLE} is set but names no key; give it a public key file, or unset it")
    return tuple(read_public_key(path) for path in paths)


def read_public_key(path: Path) -> TrustedKey:
    """Read an ed25519 public key from a PEM file.

    Raises:
        ConfigError: it is missing, can be changed by others, or is not such a key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(read_key_file(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} is not an ed25519 public key; give the .pub file of `edgeface bundle keygen`")
    return TrustedKey(key.public_bytes_raw(), path)


def read_key_file(path: Path) -> bytes:
    """Return the content of a key file.

    Raises:
        ConfigError: it is missing, cannot be read, can be changed by others, or is too large for a key.
    """
    try:
        if reason := writable_by_others(path):
            raise ConfigError(f"key {path} is refused, others could put their own in its place: {reason}")
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"key not found: {path}; make one with `edgeface bundle keygen`") from None
    except OSError as error:
        raise ConfigError(f"key {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_KEY_BYTES:
        raise ConfigError(f"{path} is larger than any key; give the file of `edgeface bundle keygen`")
    return data


def sign_manifest(manifest: bytes, key: "Ed25519PrivateKey") -> SignatureFile:
    """Sign the exact bytes of a manifest."""
    return SignatureFile(
        public_key=key.public_key().public_bytes_raw().hex(), signature=key.sign(PREFIX + manifest).hex()
    )


def check_signature(manifest: bytes, signature: bytes | None, trusted: Sequence[TrustedKey], name: str) -> str | None:
    """Check who signed a manifest.

    Args:
        manifest: its exact bytes.
        signature: the content of `manifest.sig`, or None if there is none.
        trusted: keys of which one must have signed it; none to accept any key, or no signature.
        name: of the bundle, for errors.

    Returns:
        The fingerprint of the key, or None for a bundle that is not signed.

    Raises:
        BundleError: it is not signed as it must be, or the signature is malformed or does not fit.
    """
    if signature is None:
        if trusted:
            raise BundleError(f"bundle {name} is not signed, and this device requires {_named(trusted)}; sign it")
        return None
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        parsed = SignatureFile.model_validate_json(signature)
    except ValidationError:
        raise BundleError(f"the signature of bundle {name} is malformed; sign it again") from None
    raw = bytes.fromhex(parsed.public_key)
    if trusted and raw not in [key.raw for key in trusted]:
        raise BundleError(
            f"bundle {name} is signed by key {fingerprint(raw)}, and this device requires {_named(trusted)}; "
            "get one that is signed by it"
        )
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(bytes.fromhex(parsed.signature), PREFIX + manifest)
    except InvalidSignature:
        raise BundleError(
            f"bundle {name} was changed after it was signed: the signature does not fit its manifest; copy it again"
        ) from None
    return fingerprint(raw)


def refuse_loose(path: Path | str, keys: Sequence[Path] = (), what: str = "a loose ONNX file") -> None:
    """Refuse a network that lies outside a bundle where a signature is required; `what` it is, in words.

    Raises:
        BundleError: a key is required.
        ConfigError: as `required_keys`.
    """
    trusted = required_keys(keys)
    if trusted:
        raise BundleError(
            f"{path} is {what} that nobody can have signed, and this device requires {_named(trusted)}; "
            "put it into a bundle (edgeface export) and sign that"
        )


def _named(trusted: Sequence[TrustedKey]) -> str:
    return "key " + " or ".join(key.fingerprint for key in trusted)
