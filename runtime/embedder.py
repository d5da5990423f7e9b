"""Aligned faces in, unit embeddings out."""

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError, ImageError
from edgeface.manifest import EmbedderContract
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.session import Session, open_session

CONTRACT_KEY: Final = "edgeface.contract"
SPACE_KEY: Final = "edgeface.space"
MAX_BATCH: Final = 32
"""More faces than this are embedded in several runs, which bounds the memory."""


class Embedder:
    """An embedding network that meets the contract of the project. Make it with `open_embedder`."""

    def __init__(self, session: Session, contract: EmbedderContract, space: str) -> None:
        self.session = session
        self.contract = contract
        self.space = space
        """Identifies the embedding space, 64 hexadecimal digits."""
        batch = session.inputs[0].shape[0]
        self.batch = batch if isinstance(batch, int) else None
        """Number of faces that every run takes, None if that is free."""

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
        step = self.batch or MAX_BATCH
        missing = -len(faces) % step if self.batch else 0
        filled = np.concatenate([faces, np.zeros((missing, *faces.shape[1:]), np.uint8)]) if missing else faces
        batches = [filled[start : start + step] for start in range(0, len(filled), step)]
        results: list[npt.NDArray[Any]] = [self.session.run({self.contract.input: batch})[0] for batch in batches]
        return np.concatenate(results)[: len(faces)]


def open_embedder(model: bytes, *, provider: str = "auto", threads: int = 1, name: str = "embedder") -> Embedder:
    """Load an embedder and check that it meets the contract written into it.

    Raises:
        BundleError: the network has no contract, or does not do what its contract says.
        ProviderError: as `edgeface.runtime.session.open_session`.
    """
    session = open_session(model, provider=provider, threads=threads, name=name)
    if CONTRACT_KEY not in session.metadata:
        raise BundleError(
            f"{name} carries no edgeface contract, so its preprocessing is unknown; "
            "bring it in with: edgeface export --onnx FILE --input-layout ... --out BUNDLE"
        )
    try:
        contract = EmbedderContract.model_validate(json.loads(session.metadata[CONTRACT_KEY]))
    except ValueError as error:
        raise BundleError(f"the contract in {name} is not one that this edgeface knows: {error}") from None
    faces, embeddings = session.inputs[0], session.outputs[0]
    seen = (len(session.inputs), faces.name, faces.dtype, faces.shape[1:], embeddings.name, embeddings.shape[1:])
    size = contract.size
    asked = (1, contract.input, "tensor(uint8)", (size, size, 3), contract.output, (contract.dimension,))
    if seen != asked:
        raise BundleError(f"{name} does not meet its contract: it should have {asked}, it has {seen}; export it again")
    return Embedder(session, contract, session.metadata.get(SPACE_KEY, ""))


def bundle_embedder(
    bundle: Bundle, *, precision: str = "auto", provider: str = "auto", threads: int = 1
) -> tuple[Embedder, str]:
    """Load the embedder of a bundle; returns it with the precision that was taken.

    Raises:
        BundleError: no such precision, a changed file, or a network of another embedding space.
        ProviderError: as `edgeface.runtime.session.open_session`.
    """
    chosen = bundle.resolve_precision(precision)
    name = f"{bundle.manifest.name} {chosen}"
    embedder = open_embedder(bundle.embedder(chosen), provider=provider, threads=threads, name=name)
    if chosen == "int8" and embedder.session.provider == "cuda":
        if precision == "int8" and provider == "cuda":
            raise BundleError(
                "int8 is not run on the CUDA provider: it has no quantized convolutions and would be several times "
                "slower; use --precision fp16 or fp32 there, or --provider cpu"
            )
        if precision == "int8":
            return bundle_embedder(bundle, precision="int8", provider="cpu", threads=threads)
        better = "fp16" if "fp16" in bundle.manifest.precisions else "fp32"
        return bundle_embedder(bundle, precision=better, provider=provider, threads=threads)
    if embedder.space != bundle.manifest.space:
        raise BundleError(f"{name} belongs to another embedding space than its manifest; export the bundle again")
    return embedder, chosen
