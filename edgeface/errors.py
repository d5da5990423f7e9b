"""Every error that a user can cause or meet.

    EdgefaceError
    ├── ConfigError               an option or a config key that cannot be used
    │   ├── UnknownNameError      a name that is not in a table; lists the choices
    │   └── PluginError           a plug-in that is missing, does not load, is not allowed, or refuses its options
    ├── ImageError                a picture that is missing, broken or of an unusable size
    ├── NoFaceError               no face, or more than one where exactly one is needed
    ├── DataError                 a data set that is missing, empty or malformed
    ├── TrainingError             training cannot go on, for example a loss that is not finite
    ├── CheckpointError           a checkpoint that is missing, broken or of another version
    ├── ExportError               a network that cannot be exported or quantized as asked
    ├── BundleError               a bundle that is missing, incomplete, changed or of another version
    ├── GalleryError              a gallery that is missing, broken, empty or of another embedding space
    │   └── NoGalleryError        no gallery yet: no file, or an empty one
    ├── SourceError               a camera, video or stream that cannot be opened or read
    ├── FetchError                a public model that cannot be fetched, or is another file than it should be
    ├── ProviderError             an execution provider that cannot run here
    └── MissingPackageError       an optional package that this command needs

A message says what was wrong, what was seen and what to do. The library raises; only `edgeface.cli`
prints and exits.
"""

from collections.abc import Iterable


class EdgefaceError(Exception):
    """Base of all errors that edgeface raises on purpose.

    Attributes:
        kind: what is the matter with a picture in a few words, by which pictures that are left out are counted: `HEIC`,
            `truncated JPEG`, ...
    """

    kind = "unusable picture"


class ConfigError(EdgefaceError):
    """An option or a config key cannot be used."""


class UnknownNameError(ConfigError):
    """A name is not in the table it was looked up in."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; choose one of: {', '.join(sorted(choices))}")


class PluginError(ConfigError):
    """A plug-in is missing, does not load, is not allowed, or refuses its options."""


class ImageError(EdgefaceError):
    """A picture is missing, broken or of an unusable size."""

    def __init__(self, message: str, kind: str = EdgefaceError.kind) -> None:
        super().__init__(message)
        self.kind = kind


class NoFaceError(EdgefaceError):
    """A picture has no face, or several where exactly one is needed."""

    kind = "no single face"


class DataError(EdgefaceError):
    """A data set is missing, empty or malformed, or a picture of it is of no use."""

    def __init__(self, message: str, kind: str = EdgefaceError.kind) -> None:
        super().__init__(message)
        self.kind = kind


class TrainingError(EdgefaceError):
    """Training cannot go on."""


class CheckpointError(EdgefaceError):
    """A checkpoint is missing, broken or of another version."""


class ExportError(EdgefaceError):
    """A network cannot be exported or quantized as asked."""


class BundleError(EdgefaceError):
    """A bundle is missing, incomplete, changed or of another version."""


class GalleryError(EdgefaceError):
    """A gallery is missing, broken, empty or of another embedding space."""


class NoGalleryError(GalleryError):
    """There is no gallery yet: no file, or an empty one."""


class SourceError(EdgefaceError):
    """A camera, video or stream cannot be opened or read."""


class FetchError(EdgefaceError):
    """A public model cannot be fetched, or is another file than it should be."""


class ProviderError(EdgefaceError):
    """An execution provider cannot run here."""


class MissingPackageError(EdgefaceError):
    """An optional package that a command needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this command needs the package {package!r}; install it with: pip install 'edgeface[{extra}]'"
        )
