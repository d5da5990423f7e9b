"""What the user asked networks to run on."""

from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.runtime.providers.table import PROVIDERS, Provider, no_options


@dataclass(frozen=True, slots=True)
class PluginLibrary:
    """A provider in a library of its own, which only the user may name: loading it runs its code.

    Attributes:
        name: what the user calls it; `--provider` takes it.
        path: of the library.
    """

    name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> "PluginLibrary":
        """Read `NAME=PATH`.

        Raises:
            ConfigError: it has another form, or the name is one that edgeface uses.
        """
        name, separator, path = text.partition("=")
        if not separator or not path or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"--provider-library takes NAME=PATH, such as rtx=/opt/ep/libep.so; got {text!r}")
        if name in ("auto", *PROVIDERS):
            raise ConfigError(f"--provider-library: {name} is the name of a provider already; choose another one")
        return cls(name, Path(path))


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """What runs networks, as the user asked for it.

    Attributes:
        name: `auto`, a key of `PROVIDERS`, or the name of a library.
        device: number of the GPU or other device; None for the provider's first.
        memory_limit_mb: for the provider's arena on the device, in 1e6 bytes.
        cuda_graph: replay recorded launches on CUDA where it can be done.
        build_engines: build TensorRT engines that are not there yet.
        libraries: providers in libraries of their own.
    """

    name: str = "auto"
    device: int | None = None
    memory_limit_mb: int | None = None
    cuda_graph: bool = True
    build_engines: bool = False
    libraries: tuple[PluginLibrary, ...] = ()

    def __post_init__(self) -> None:
        names = ("auto", *PROVIDERS, *(library.name for library in self.libraries))
        if self.name not in names:
            raise UnknownNameError("provider", self.name, names)
        if self.device is not None and self.device < 0:
            raise ConfigError(f"--device takes a number from 0 up, got {self.device}")
        if self.memory_limit_mb is not None and self.memory_limit_mb < 1:
            raise ConfigError(f"--memory-limit takes megabytes from 1 up, got {self.memory_limit_mb}")

    @property
    def memory_limit(self) -> int | None:
        """The limit in bytes."""
        return None if self.memory_limit_mb is None else self.memory_limit_mb * 10**6


ProviderLike = str | ProviderChoice
"""The name of a provider, or all that was said of it."""


def as_choice(provider: ProviderLike) -> ProviderChoice:
    """Return a choice, of a name alone with everything else as it is by default.

    Raises:
        UnknownNameError: no provider has that name.
    """
    return provider if isinstance(provider, ProviderChoice) else ProviderChoice(provider)


def plugin_row(library: PluginLibrary, ort_name: str) -> Provider:
    """Return a row for a provider that came with a library."""
    return Provider(library.name, ort_name, str(library.path), "", no_options)
