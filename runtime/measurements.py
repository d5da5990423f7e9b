"""What `edgeface bench` found, as it is told."""

from dataclasses import dataclass
from typing import Any

from edgeface.runtime.batches import BatchGain
from edgeface.runtime.placement import int8_speed


@dataclass(frozen=True, slots=True)
class Row:
    """One stage as it was measured.

    Attributes:
        stage: `detect` for one frame, `align` for one face, `embed` for `faces` faces.
        precision: of the network; empty for a stage that has no choice of them.
        provider: short name; empty for a stage without a network.
        threads: of the CPU.
        faces: in a call.
        p50_ms: time of a call that half, and with `p95_ms` and `p99_ms` 95 and 99 of a hundred, do not exceed.
        memory_mb: what opening the network and running it once added to the process, in 1e6 bytes; None where the
            system does not tell.
        nodes: of the network by the provider that runs them; None where onnxruntime does not tell.
    """

    stage: str
    precision: str
    provider: str
    threads: int
    faces: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    memory_mb: float | None
    nodes: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether int8 is faster here than the best float precision.

    Attributes:
        provider: on which.
        threads: of the CPU.
        against: that float precision.
        ratio: median over the rounds of its time by that of int8 in the same round: above 1 int8 is faster.
        causes: why it is not faster, if it is not.
    """

    provider: str
    threads: int
    against: str
    ratio: float
    causes: tuple[str, ...]

    def __str__(self) -> str:
        where = f"on {self.provider} with {self.threads} thread{'s' if self.threads > 1 else ''}"
        return int8_speed(self.ratio, self.against, self.causes, where)


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured.

    Attributes:
        device: facts of the machine.
        rows: one for each stage, precision, provider and number of threads.
        verdicts: whether int8 pays, for each provider and number of threads that ran it.
        batches: whether several faces are faster in one run, by precision.
        skipped: what could not be measured, and why.
        warnings: what a provider does not run although it was asked to.
        auto: the precision that `auto` takes from now on.
    """

    device: dict[str, Any]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    batches: tuple[BatchGain, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    auto: str
