"""The options that say what runs networks, put together."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeface.runtime.providers.choice import ProviderChoice


def chosen(
    provider: str,
    *,
    device: int | None = None,
    memory_limit: int | None = None,
    libraries: list[str] | None = None,
    build_engines: bool = False,
    cuda_graph: bool = True,
) -> "ProviderChoice":
    """Return what was asked for.

    Raises:
        ConfigError: an option cannot be used.
    """
    from edgeface.runtime.providers.choice import PluginLibrary, ProviderChoice

    return ProviderChoice(
        provider,
        device=device,
        memory_limit_mb=memory_limit,
        cuda_graph=cuda_graph,
        build_engines=build_engines,
        libraries=tuple(PluginLibrary.parse(text) for text in libraries or ()),
    )
