"""How a run tells where it stands; the library itself prints nothing."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run stands.

    Attributes:
        step: steps done, of `steps`.
        epoch: epochs begun, of `epochs`.
        loss: mean over the last steps.
        lr: learning rate of the last step.
        faces_per_s: training speed over the last steps.
        data_wait: share of that time spent waiting for faces, in [0, 1].
        eta_s: seconds to go, without evaluations.
        val_accuracy: of the last evaluation, in [0, 1]; None before the first.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    lr: float
    faces_per_s: float
    data_wait: float
    eta_s: float
    val_accuracy: float | None


class Progress(Protocol):
    """Is told how training goes, every few steps."""

    def update(self, status: Status) -> None:
        """Show the status."""


class NoProgress:
    """Shows nothing."""

    def update(self, status: Status) -> None:
        """Do nothing."""
