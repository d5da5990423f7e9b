"""Opening a bundle: every byte that is used was hashed first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgeface.cohort import MAX_COHORT_BYTES, Cohort, read_cohort
from edgeface.errors import BundleError
from edgeface.files import sha256
from edgeface.fitness import FitnessAllowance
from edgeface.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME, Manifest
from edgeface.operating_points import ScoreTable
from edgeface.runtime.archive import Container, Shipped, Zip, open_container
from edgeface.runtime.inspecting.inspection import inspect_model
from edgeface.runtime.signature import MAX_SIGNATURE_BYTES, check_signature, required_keys
from edgeface.runtime.speed import fastest
from edgeface.scores import MAX_SCORES_BYTES, read_scores
from edgeface.scoring import COSINE, Scoring

_BUNDLES: Final = Path(__file__).parent / "bundles"
SHIPPED: Final = {name: _BUNDLES / name for name in ("default", "default-edge")}
"""The bundles that come with the package, by the word that names them wherever a bundle can be given."""
BUILT_IN_DETECTOR: Final = _BUNDLES / "detector.onnx"
BUILT_IN_QUALITY: Final = _BUNDLES / "quality.onnx"


class Bundle:
    """A verified bundle. Its files are read, checked against their hashes and handed out as bytes."""

    def __init__(self, container: Container, manifest_bytes: bytes, signed_by: str | None) -> None:
        self.path = container.path
        self.manifest = Manifest.parse(manifest_bytes, f"{container.path / MANIFEST_NAME}")
        self.manifest_bytes = manifest_bytes
        """The manifest as it was read, which is what a signature is over."""
        self.signed_by = signed_by
        """Fingerprint of the key that signed the manifest, or None."""
        self._container = container

    def read(self, name: str) -> bytes:
        """Return the content of a file of the bundle.

        Raises:
            BundleError: the manifest does not list it, it is missing, or its size or hash differs.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"bundle {self.path} does not list {name}; it has: {', '.join(self.manifest.files)}")
        data = self._container.read(name, entry.bytes)
        if len(data) != entry.bytes:
            raise BundleError(
                f"{name} of bundle {self.path} has {len(data)} bytes, its manifest says {entry.bytes}; "
                f"{self._container.remedy}"
            )
        if sha256(data) != entry.sha256:
            raise BundleError(
                f"{name} of bundle {self.path} was changed: its hash is not the one in the manifest; "
                f"{self._container.remedy}"
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

    def quality(self) -> bytes | None:
        """Return the quality network, None if the bundle has none.

        Raises:
            BundleError: as `read`.
        """
        return None if self.manifest.quality is None else self.read(self.manifest.quality.file)

    def scores(self) -> tuple[ScoreTable, ...]:
        """Return the score tables that thresholds are read off, none if the bundle has none.

        Raises:
            BundleError: they are larger than such tables are, or malformed; else as `read`.
        """
        name = self.manifest.scores
        if name is None:
            return ()
        if self.manifest.files[name].bytes > MAX_SCORES_BYTES:
            raise BundleError(f"{name} of bundle {self.path} is larger than the {MAX_SCORES_BYTES} bytes it may have")
        return read_scores(self.read(name), f"{name} of bundle {self.path}")

    def scoring(self) -> Scoring:
        """Return how faces are compared with the bundle: by its cohort if it has one, else by cosine.

        Raises:
            BundleError: the cohort is larger than one may be, malformed or of another space; else as `read`.
        """
        entry, manifest = self.manifest.cohort, self.manifest
        if entry is None:
            return COSINE
        if manifest.files[entry.file].bytes > MAX_COHORT_BYTES:
            raise BundleError(
                f"{entry.file} of bundle {self.path} is larger than the {MAX_COHORT_BYTES} bytes it may have"
            )
        name = f"{entry.file} of bundle {self.path}"
        cohort = read_cohort(self.read(entry.file), manifest.space, manifest.embedder.dimension, name)
        return bundle_scoring(manifest, cohort)

    def resolve_precision(self, precision: str) -> str:
        """Turn `auto` into the precision that was measured to be the fastest, here or else at the export.

        Any other name stays as it is.
        """
        return fastest(self.manifest) if precision == "auto" else precision

    def unlisted(self) -> tuple[str, ...]:
        """Return the names of what lies in the bundle but not in its manifest. It is never read."""
        known = {*self.manifest.files, MANIFEST_NAME, SIGNATURE_NAME}
        return tuple(name for name in self._container.names() if name not in known)

    def signature(self) -> bytes | None:
        """Return the content of the signature file, None if there is none."""
        return _signature(self._container)

    def verify(self) -> None:
        """Check the size and hash of every file that the manifest lists, inspect every network, read scores and cohort.

        Raises:
            BundleError: as `read`, `scores`, `scoring` and `edgeface.runtime.inspecting.inspection.inspect_model`.
        """
        networks = {entry.file for entry in self.manifest.precisions.values()}
        if self.manifest.detector is not None:
            networks.add(self.manifest.detector.file)
        if self.manifest.quality is not None:
            networks.add(self.manifest.quality.file)
        self.scores()
        self.scoring()
        for name in self.manifest.files:
            data = self.read(name)
            if name in networks or name.endswith(".onnx"):
                inspect_model(data, f"{name} of bundle {self.path}")


def bundle_scoring(manifest: Manifest, cohort: Cohort | None) -> Scoring:
    """Return how faces are compared by what a manifest says, with its cohort; by cosine if it lists none."""
    quality = manifest.quality
    if manifest.cohort is None or cohort is None:
        return COSINE
    if quality is None or not quality.allowance:
        return Scoring(cohort)
    return Scoring(cohort, FitnessAllowance(quality.enrol_fitness, quality.allowance))


def open_bundle(path: Path | str, *, require_keys: Sequence[Path] = ()) -> Bundle:
    """Open a bundle: a folder, a zip of one, or a word of `SHIPPED` such as `default`.

    Args:
        path: where it lies; a link to a bundle will do.
        require_keys: public key files of which one must have signed it; if there are none, those that the environment
            variable EDGEFACE_REQUIRE_KEY names count, see `edgeface.runtime.signature`.

    Raises:
        BundleError: there is no bundle, its signature is not the required one or does not fit, its manifest is not
            valid, or it is a zip with entries that do not belong there.
        ConfigError: a required key cannot be read.
    """
    trusted = required_keys(require_keys)
    container = _find(path)
    manifest = container.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)
    # Before the manifest is parsed: what nobody trusted signed is not even read.
    return _open(container, manifest, check_signature(manifest, _signature(container), trusted, str(container.path)))


def open_for_signing(path: Path | str) -> Bundle:
    """Open a bundle whatever its signature says, because it is to get a new one.

    Raises:
        BundleError: as `open_bundle`, but for the signature.
    """
    container = _find(path)
    return _open(container, container.read(MANIFEST_NAME, MAX_MANIFEST_BYTES), None)


def _find(path: Path | str) -> Container:
    if folder := SHIPPED.get(str(path)):
        return Shipped(folder)
    path = Path(path)
    if not path.exists():
        raise BundleError(f"bundle not found: {path}; make one with `edgeface export`")
    return open_container(path)


def _open(container: Container, manifest: bytes, signed_by: str | None) -> Bundle:
    try:
        bundle = Bundle(container, manifest, signed_by)
    except BundleError as error:
        if not isinstance(container, Shipped):
            raise
        reason = str(error).partition(";")[0]  # without what to do about other bundles
        raise BundleError(f"{reason}; {container.remedy}") from error
    if isinstance(container, Zip) and (stray := bundle.unlisted()):
        raise BundleError(
            f"zip {container.path} has an entry {stray[0]} that its manifest does not list; pack the bundle again"
        )
    return bundle


def _signature(container: Container) -> bytes | None:
    if SIGNATURE_NAME not in container.names():
        return None
    return container.read(SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
