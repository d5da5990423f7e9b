"""Aligned faces in, unit embeddings out."""

import logging
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError, ImageError, ProviderError
from edgeface.files import parse_json
from edgeface.manifest import EmbedderContract
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.providers.choice import ProviderLike, as_choice
from edgeface.runtime.providers.session import Announce, Session, Sizes, first_that_works, open_session
from edgeface.runtime.providers.table import PROVIDERS, Provider
from edgeface.runtime.speed import fastest_batch

logger = logging.getLogger(__name__)

CONTRACT_KEY: Final = "edgeface.contract"
SPACE_KEY: Final = "edgeface.space"
MAX_BATCH: Final = 32
"""More faces than this are embedded in several runs, which bounds the memory."""
FACES: Final = Sizes(batch=(1, 1, 8))
"""What providers that compile are told of the number of faces: mostly one, and up to as many as a frame may show."""


class Embedder:
    """An embedding network that meets the contract of the project. Make it with `open_embedder`."""

    def __init__(self, session: Session, contract: EmbedderContract, space: str, most: int | None = None) -> None:
        self.session = session
        self.contract = contract
        self.space = space
        """Identifies the embedding space, 64 hexadecimal digits."""
        batch = session.inputs[0].shape[0]
        self.batch = batch if isinstance(batch, int) else None
        """Number of faces that every run takes, None if that is free."""
        self.most = min(limit for limit in (MAX_BATCH, session.max_batch, most) if limit is not None)
        """So many faces at most are put into one run: as many as fit, or as were measured to be the fastest."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.contract.dimension

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed aligned faces.

        Args:
            faces: (N, 112, 112, 3) uint8 RGB, N >= 0.

        Returns:
            (N, D) float32 of unit length.

        Raises:
            ImageError: the array has another shape or type.
        """
        size = self.contract.size
        if faces.dtype != np.uint8 or faces.shape[1:] != (size, size, 3):
            raise ImageError(
                f"aligned faces are (N, {size}, {size}, 3) uint8, got {faces.shape} {faces.dtype}; align them first"
            )
        if not len(faces):  # onnxruntime would accept it too, but not every provider
            return np.zeros((0, self.dimension), np.float32)
        step = self.batch or self.most
        missing = -len(faces) % step if self.batch else 0
        filled = np.concatenate([faces, np.zeros((missing, *faces.shape[1:]), np.uint8)]) if missing else faces
        batches = [filled[start : start + step] for start in range(0, len(filled), step)]
        results: list[npt.NDArray[Any]] = [self.session.run({self.contract.input: batch})[0] for batch in batches]
        return np.concatenate(results)[: len(faces)]


def open_embedder(
    model: bytes,
    *,
    provider: ProviderLike = "auto",
    threads: int = 1,
    name: str = "embedder",
    precision: str = "",
    most: int | None = None,
    announce: Announce = logger.warning,
    why: str = "as asked",
) -> Embedder:
    """Load an embedder and check that it meets the contract written into it.

    Args:
        model: the ONNX file's bytes, already verified.
        provider: as `edgeface.runtime.providers.session.open_session`, and so are `threads`, `name`, `precision`,
            `announce` and `why`.
        threads: of the CPU.
        name: of the network.
        precision: of the network.
        most: so many faces at most are put into one run; None for as many as fit.
        announce: is told before something takes minutes.
        why: how the provider came to be chosen.

    Raises:
        BundleError: the network has no contract, or does not do what its contract says.
        ProviderError: as `edgeface.runtime.providers.session.open_session`.
    """
    session = open_session(
        model,
        provider=provider,
        threads=threads,
        name=name,
        sizes=FACES,
        precision=precision,
        announce=announce,
        why=why,
    )
    if CONTRACT_KEY not in session.metadata:
        raise BundleError(
            f"{name} carries no edgeface contract, so its preprocessing is unknown; "
            "bring it in with: edgeface export --onnx FILE --input-layout ... --out BUNDLE"
        )
    try:
        contract = EmbedderContract.model_validate(parse_json(session.metadata[CONTRACT_KEY]))
    except ValueError as error:
        raise BundleError(f"the contract in {name} is not one that this edgeface knows: {error}") from None
    faces, embeddings = session.inputs[0], session.outputs[0]
    seen = (len(session.inputs), faces.name, faces.dtype, faces.shape[1:], embeddings.name, embeddings.shape[1:])
    size = contract.size
    asked = (1, contract.input, "tensor(uint8)", (size, size, 3), contract.output, (contract.dimension,))
    if seen != asked:
        raise BundleError(f"{name} does not meet its contract: it should have {asked}, it has {seen}; export it again")
    return Embedder(session, contract, session.metadata.get(SPACE_KEY, ""), most)


def bundle_embedder(
    bundle: Bundle,
    *,
    precision: str = "auto",
    provider: ProviderLike = "auto",
    threads: int = 1,
    announce: Announce = logger.warning,
) -> tuple[Embedder, str]:
    """Load the embedder of a bundle; returns it with the precision that was taken.

    `auto` takes the precision that suits the provider: on the CPU the fastest one measured.

    Raises:
        BundleError: no such precision, a changed file, or a network of another embedding space.
        ProviderError: as `edgeface.runtime.providers.session.open_session`, or the provider does not run that
            precision well.
    """
    choice = as_choice(provider)

    def attempt(candidate: str, why: str) -> tuple[Embedder, str]:
        chosen = suited_precision(bundle, precision, PROVIDERS.get(candidate))
        name = f"{bundle.manifest.name} {chosen}"
        embedder = open_embedder(
            bundle.embedder(chosen),
            provider=replace(choice, name=candidate),
            threads=threads,
            name=name,
            precision=chosen,
            most=fastest_batch(bundle.manifest, chosen) if candidate == "cpu" else None,
            announce=announce,
            why=why,
        )
        if embedder.space != bundle.manifest.space:
            raise BundleError(f"{name} belongs to another embedding space than its manifest; export the bundle again")
        return embedder, chosen

    if choice.name != "auto":
        return attempt(choice.name, "as asked")
    return first_that_works(choice, attempt, bundle.manifest.name)


def suited_precision(bundle: Bundle, precision: str, provider: Provider | None) -> str:
    """Return the precision to run on a provider: the one asked for, or for `auto` the best of the bundle's.

    Args:
        bundle: that has them.
        precision: as asked for.
        provider: None for one of which nothing is known.

    Raises:
        ProviderError: the provider does not run it well, or none that the bundle has.
    """
    if precision == "auto":
        if provider is None or not provider.precisions:
            return bundle.resolve_precision("auto")
        suited = [name for name in provider.precisions if name in bundle.manifest.precisions]
        precision = suited[0] if suited else bundle.resolve_precision("auto")
    if provider is not None and precision in provider.refused:
        raise ProviderError(f"{precision} is not run on {provider.name}: {provider.refused[precision]}")
    return precision
