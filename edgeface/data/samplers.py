"""Orders of faces for losses that need more than chance gives: several faces of a person, or rare people often.

Like `EpochBatches` they depend on seed and step only, so a resumed run sees the batches it would have seen.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from edgeface.data.faceset import UNKNOWN
from edgeface.data.loader import EpochBatches, Place, occurrences
from edgeface.errors import ConfigError, DataError


class IdentityBatches(EpochBatches):
    """Base of the samplers that choose identities first; faces without identity are left out.

    The faces of an identity come in turn, in a new order each epoch, and again from the first when all have
    come. An epoch has as many steps as `EpochBatches` of the faces that take part.

    Args:
        labels: (N,) int64, `UNKNOWN` for no identity.
        batch_size: faces in a step.
        epochs: number of epochs.
        seed: of the orders.
        first_step: steps that were done before.
        least: faces an identity needs to take part.

    Raises:
        DataError: too few faces take part to fill a batch.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        batch_size: int,
        epochs: int,
        seed: int,
        first_step: int = 0,
        *,
        least: int = 1,
    ) -> None:
        names, counts = np.unique(labels[labels != UNKNOWN], return_counts=True)
        self.labels = labels
        self.identities: npt.NDArray[np.int64] = names[counts >= least]
        self.faces: npt.NDArray[np.int64] = np.flatnonzero(np.isin(labels, self.identities))
        super().__init__(len(self.faces), batch_size, epochs, seed, first_step)
        if not self.steps_per_epoch:
            raise DataError(
                f"{len(self.faces)} faces are of identities with at least {least}, fewer than a batch of "
                f"{batch_size}; make run.batch_size smaller or bring more faces a person"
            )

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the faces of one epoch by index, batch after batch."""
        rng = np.random.default_rng((self.seed, epoch))
        people = self.identity_order(rng)  # index into identities, one for each face of the epoch
        shuffled = rng.permutation(self.faces)
        shuffled = shuffled[np.argsort(self.labels[shuffled], kind="stable")]  # faces of a person side by side
        starts = np.searchsorted(self.labels[shuffled], self.identities)
        counts = np.diff(starts, append=len(shuffled))
        result: npt.NDArray[np.int64] = shuffled[starts[people] + occurrences(people) % counts[people]]
        return result

    def identity_order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the identity of each face of an epoch, an index into `identities`."""
        return _rounds(rng, len(self.identities), self.steps_per_epoch * self.batch_size)


class BalancedBatches(IdentityBatches):
    """Every identity equally often, however many faces it has; arguments as `IdentityBatches`."""


class PKBatches(IdentityBatches):
    """K faces of each of P identities in every batch, side by side (Hermans et al., 2017, arXiv 1703.07737).

    Identities with one face are left out: they offer no pair. Those with fewer than K faces give some of them
    twice, augmented in another way.

    Args:
        labels: (N,) int64, `UNKNOWN` for no identity.
        batch_size: P * K faces in a step.
        epochs: number of epochs.
        seed: of the orders.
        first_step: steps that were done before.
        faces_per_identity: K >= 2.

    Raises:
        ConfigError: K does not divide the batch size.
        DataError: fewer than P identities have two faces.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        batch_size: int,
        epochs: int,
        seed: int,
        first_step: int = 0,
        *,
        faces_per_identity: int = 4,
    ) -> None:
        people, rest = divmod(batch_size, max(1, faces_per_identity))
        if faces_per_identity < 2 or rest or people < 2:
            raise ConfigError(
                f"run.faces_per_identity = {faces_per_identity} does not divide run.batch_size = {batch_size} into at "
                "least 2 identities of at least 2 faces; try run.faces_per_identity=4 and a multiple of it"
            )
        self.faces_per_identity = faces_per_identity
        super().__init__(labels, batch_size, epochs, seed, first_step, least=2)
        if len(self.identities) < people:
            raise DataError(
                f"{len(self.identities)} identities have at least 2 faces, a batch needs {people}; make "
                f"run.batch_size smaller, at most {len(self.identities) * faces_per_identity}"
            )

    def identity_order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return P different identities for each step, each K times."""
        people = self.batch_size // self.faces_per_identity
        whole = len(self.identities) // people * people  # of a round through all, so that no batch has one twice
        steps = _rounds(rng, len(self.identities), self.steps_per_epoch * people, whole)
        return steps.repeat(self.faces_per_identity)


class RankBatches(Sampler[list[Place]]):
    """The share of one process in the batches of all: as many steps in every process, each face in one of them.

    Process r takes the r-th part of every batch, so together they see what a single process would, and faces of one
    identity that `PKBatches` put side by side stay together.

    Args:
        batches: of all processes together.
        rank: number of this process, in [0, world_size).
        world_size: number of processes.

    Raises:
        ConfigError: a batch, or its identities, cannot be divided evenly.
    """

    def __init__(self, batches: EpochBatches, rank: int, world_size: int) -> None:
        unit = batches.faces_per_identity if isinstance(batches, PKBatches) else 1
        assert 0 <= rank < world_size
        if batches.batch_size % (world_size * unit):
            raise ConfigError(
                f"run.batch_size = {batches.batch_size} cannot be divided among {world_size} processes; make it "
                f"a multiple of {world_size * unit}"
            )
        self.batches = batches
        self.rank = rank
        self.batch_size = batches.batch_size // world_size

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in an epoch, the same in every process."""
        return self.batches.steps_per_epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Place]]:
        first = self.rank * self.batch_size
        for places in self.batches:
            yield places[first : first + self.batch_size]


def _rounds(rng: np.random.Generator, count: int, wanted: int, whole: int | None = None) -> npt.NDArray[np.int64]:
    """Return `wanted` indices below `count`: rounds through all in changing order, of each the first `whole`."""
    whole = count if whole is None else whole
    return np.concatenate([rng.permutation(count)[:whole] for _ in range(-(-wanted // whole))])[:wanted]
