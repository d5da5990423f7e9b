"""Opening a bundle: every byte that is used was hashed first."""

import zipfile
from pathlib import Path
from typing import Final

from edgeface.errors import BundleError
from edgeface.files import sha256
from edgeface.manifest import MANIFEST_NAME, Manifest

MAX_FILE_BYTES: Final = 1 << 30
"""No file of a bundle may be larger: protobuf's limit is 2 GB, and face networks are far smaller."""

DEFAULT_BUNDLE: Final = Path(__file__).parent / "bundles" / "default"
BUILT_IN_DETECTOR: Final = Path(__file__).parent / "bundles" / "detector.onnx"


class Bundle:
    """A verified bundle. Its files are read, checked against their hashes and handed out as bytes."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def read(self, name: str) -> bytes:
        """Return the content of a file of the bundle.

        Raises:
            BundleError: the manifest does not list it, it is missing, or its size or hash differs.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"bundle {self.path} does not list {name}; it has: {', '.join(self.manifest.files)}")
        data = _read(self.path, name)
        if len(data) != entry.bytes:
            raise BundleError(
                f"{name} of bundle {self.path} has {len(data)} bytes, its manifest says {entry.bytes}; copy it again"
            )
        if sha256(data) != entry.sha256:
            raise BundleError(
                f"{name} of bundle {self.path} was changed: its hash is not the one in the manifest; copy it again"
            )
        return data

    def embedder(self, precision: str) -> bytes:
        """Return the embedder network of a precision.

        Raises:
            BundleError: the bundle has no such precision; else as `read`.
        """
        entry = self.manifest.precisions.get(precision)
        if entry is None:
            choices = ", ".join(self.manifest.precisions)
            raise BundleError(f"bundle {self.path} has no {precision}; it has: {choices}")
        return self.read(entry.file)

    def detector(self) -> bytes:
        """Return the face detector network.

        Raises:
            BundleError: the bundle has none; else as `read`.
        """
        if self.manifest.detector is None:
            raise BundleError(f"bundle {self.path} has no face detector; export it again with --detector")
        return self.read(self.manifest.detector.file)

    def resolve_precision(self, precision: str) -> str:
        """Turn `auto` into the precision that was measured to be the fastest; any other name stays as it is."""
        return self.manifest.fastest_precision() if precision == "auto" else precision

    def verify(self) -> None:
        """Check the size and hash of every file that the manifest lists.

        Raises:
            BundleError: as `read`.
        """
        for name in self.manifest.files:
            self.read(name)


def open_bundle(path: Path | str) -> Bundle:
    """Open a bundle: a folder, a zip of one, or the word `default`.

    Raises:
        BundleError: there is no bundle, or its manifest is not valid.
    """
    if str(path) == "default":
        path = DEFAULT_BUNDLE
        if not path.exists():
            raise BundleError(
                "this edgeface carries no default bundle; make one with `edgeface export` and pass --bundle PATH"
            )
    path = Path(path)
    if not path.exists():
        raise BundleError(f"bundle not found: {path}; make one with `edgeface export`")
    return Bundle(path, Manifest.parse(_read(path, MANIFEST_NAME), f"{path / MANIFEST_NAME}"))


def _read(bundle: Path, name: str) -> bytes:
    """Read one file of a folder or zip. `name` is a plain file name, so it cannot leave the bundle."""
    try:
        if bundle.is_dir():
            file = bundle / name
            if file.is_symlink():
                raise BundleError(f"{name} of bundle {bundle} is a symbolic link; bundles hold plain files only")
            if file.stat().st_size > MAX_FILE_BYTES:
                raise BundleError(f"{name} of bundle {bundle} is larger than {MAX_FILE_BYTES} bytes; refused")
            return file.read_bytes()
        with zipfile.ZipFile(bundle) as archive:
            if archive.getinfo(name).file_size > MAX_FILE_BYTES:
                raise BundleError(f"{name} of bundle {bundle} is larger than {MAX_FILE_BYTES} bytes; refused")
            return archive.read(name)
    except (FileNotFoundError, KeyError):
        raise BundleError(f"{name} is missing from bundle {bundle}; copy or export the bundle again") from None
    except zipfile.BadZipFile as error:
        raise BundleError(f"{bundle} is neither a bundle folder nor an intact zip of one: {error}") from None
    except OSError as error:
        raise BundleError(f"{name} of bundle {bundle} cannot be read: {error.strerror}") from error
