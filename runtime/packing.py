"""Bundles as zips that are the same, byte for byte, wherever they are packed."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edgeface.errors import BundleError
from edgeface.files import write_bytes
from edgeface.manifest import MANIFEST_NAME, SIGNATURE_NAME
from edgeface.runtime.bundle import Bundle

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_UNIX: Final = 3
_PLAIN_FILE: Final = 0o100644


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files, in the order given.

    They are stored, not compressed: weights hardly shrink, and what deflate writes differs between versions of zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _PLAIN_FILE << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def bundle_files(bundle: Bundle, signature: bytes | None) -> dict[str, bytes]:
    """Return what belongs into a zip of a bundle: manifest, signature if there is one, and the listed files by name.

    Raises:
        BundleError: as `Bundle.read`.
    """
    files = {MANIFEST_NAME: bundle.manifest_bytes}
    if signature is not None:
        files[SIGNATURE_NAME] = signature
    return files | {name: bundle.read(name) for name in sorted(bundle.manifest.files)}


def pack_bundle(bundle: Bundle, out: Path) -> int:
    """Write a bundle as a zip, after checking all of it. Files that the manifest does not list stay out.

    Args:
        bundle: a folder or a zip.
        out: the zip to write; one that is there is replaced.

    Returns:
        The size of the zip in bytes.

    Raises:
        BundleError: the bundle is not whole, or `out` is not a name for a zip.
    """
    if out.suffix != ".zip" or out.is_dir():
        raise BundleError(f"cannot pack into {out}; give a file name that ends in .zip")
    bundle.verify()
    data = zip_files(bundle_files(bundle, bundle.signature()))
    write_bytes(out, data)
    return len(data)
