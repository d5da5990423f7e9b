"""Building ahead what a provider compiles, so that no camera waits for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeface.errors import BundleError, ConfigError
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.detection.detector import open_detector
from edgeface.runtime.embedder import bundle_embedder, suited_precision
from edgeface.runtime.providers.choice import ProviderChoice
from edgeface.runtime.providers.session import Announce, Session
from edgeface.runtime.providers.table import PROVIDERS


@dataclass(frozen=True, slots=True)
class Warmed:
    """One network that is ready.

    Attributes:
        network: `detector`, or `embedder` and its precision.
        built_s: seconds that it took, 0 if it was there already.
        folder: where it lies.
        bytes: its size.
    """

    network: str
    built_s: float
    folder: Path
    bytes: int


def warm(
    bundle: Bundle,
    choice: ProviderChoice,
    *,
    precisions: Sequence[str] = (),
    max_side: int = 640,
    announce: Announce = lambda text: None,
    advance: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> tuple[Warmed, ...]:
    """Build the engines of a bundle for a provider that compiles.

    Args:
        bundle: whose networks are compiled.
        choice: the provider, and for which device.
        precisions: of the embedder; by default what `auto` takes on this provider.
        max_side: longest side of the pictures that faces are looked for in, in pixels; engines are made for it.
        announce: is told of each one.
        advance: is told how many networks are done, of how many, and which is next.

    Raises:
        ConfigError: the provider compiles nothing that is kept.
        BundleError: the bundle has no such precision.
        ProviderError: the provider does not work here, or cannot run the network.
    """
    row = PROVIDERS.get(choice.name)
    if row is None or not row.keeps_engines:
        able = ", ".join(name for name, entry in PROVIDERS.items() if entry.keeps_engines)
        raise ConfigError(f"provider {choice.name} needs nothing built ahead; only this one does: {able}")
    choice = replace(choice, build_engines=True)
    names = tuple(precisions) or (suited_precision(bundle, "auto", row),)
    for name in names:
        if name not in bundle.manifest.precisions:
            raise BundleError(f"bundle {bundle.path} has no {name}; it has: {', '.join(bundle.manifest.precisions)}")
    total = len(names) + (bundle.manifest.detector is not None)
    done: list[Warmed] = []
    if bundle.manifest.detector is not None:
        advance(0, total, "detector")
        detector = open_detector(bundle.detector(), provider=choice, max_side=max_side, announce=announce)
        done.append(_warmed("detector", detector.session))
    for name in names:
        advance(len(done), total, f"embedder {name}")
        embedder, _ = bundle_embedder(bundle, precision=name, provider=choice, announce=announce)
        done.append(_warmed(f"embedder {name}", embedder.session))
    advance(total, total, "")
    return tuple(done)


def _warmed(network: str, session: Session) -> Warmed:
    engines = session.engines
    if engines is None:
        raise AssertionError("a provider that keeps engines gave a session without one")
    size = sum(path.stat().st_size for path in engines.folder.rglob("*") if path.is_file())
    return Warmed(network, engines.built_s, engines.folder, size)
