"""The quality network of a bundle, opened: says how fit faces are to be recognised."""

import logging

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError, DataError
from edgeface.faces import FACE_SIZE
from edgeface.fitness import FORMAT, FORMAT_KEY, LIMITS_KEY, OUTPUTS, Fitness, FitnessLimits
from edgeface.runtime.providers.choice import ProviderLike
from edgeface.runtime.providers.session import Announce, Session, open_session

logger = logging.getLogger(__name__)


class FitnessNetwork:
    """Says how fit faces are. Make it with `open_fitness_network`."""

    def __init__(self, session: Session, limits: FitnessLimits) -> None:
        self.session = session
        self.limits = limits
        """The least fitness that it advises."""

    def judge(self, faces: npt.NDArray[np.uint8]) -> list[Fitness]:
        """Say how fit each of (N, 112, 112, 3) uint8 RGB aligned faces is; N may be 0."""
        if not len(faces):
            return []
        said = self.session.run({self.session.inputs[0].name: np.ascontiguousarray(faces)})[0]
        return [Fitness.of(row) for row in said]


def open_fitness_network(
    model: bytes,
    *,
    provider: ProviderLike = "auto",
    threads: int = 1,
    name: str = "quality network",
    announce: Announce = logger.warning,
) -> FitnessNetwork:
    """Load a quality network.

    Args:
        model: the ONNX file's bytes, already verified.
        provider: as `edgeface.runtime.providers.session.open_session`.
        threads: as there.
        name: what to call the network in an error.
        announce: as there.

    Raises:
        BundleError: it is not a quality network of this format.
        ProviderError: as `edgeface.runtime.providers.session.open_session`.
    """
    session = open_session(model, provider=provider, threads=threads, name=name, announce=announce)
    said = session.metadata.get(FORMAT_KEY)
    if said != FORMAT:
        raise BundleError(f"{name} is not a quality network of the format {FORMAT!r}: it says {said!r}")
    shapes = [tuple(tensor.shape[1:]) for tensor in (*session.inputs, *session.outputs)]
    if shapes != [(FACE_SIZE, FACE_SIZE, 3), (len(OUTPUTS),)] or session.inputs[0].dtype != "tensor(uint8)":
        raise BundleError(
            f"{name} should take (N, {FACE_SIZE}, {FACE_SIZE}, 3) uint8 faces and give (N, {len(OUTPUTS)}) numbers, it "
            f"has the shapes {shapes}"
        )
    try:
        return FitnessNetwork(session, FitnessLimits.parse(session.metadata.get(LIMITS_KEY, "0 0")))
    except DataError as error:
        raise BundleError(f"{name}: {error}") from None
