"""Is int8 faster here? Measured, and if not, why."""

from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.export.quantization.targets import Target, runs_here
from edgeface.runtime.embedder import Embedder
from edgeface.runtime.placement import NOTABLE, causes, int8_speed, placement, processor_instructions
from edgeface.runtime.timing import take_turns

ROUNDS: Final = 40
WARM_UP: Final = 6


def race(embedders: Mapping[str, Embedder], face: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the median time for one face (1, 112, 112, 3) of each network in ms.

    They take turns, so that what else the machine does meets them all alike.
    """
    works = [partial(embedder.embed, face) for embedder in embedders.values()]
    times = take_turns(works, ROUNDS, WARM_UP)
    return {name: float(np.median(measured)) for name, measured in zip(embedders, times, strict=True)}


def explain_speed(fp32_ms: float, int8_ms: float, data: bytes, target: Target) -> str:
    """Say whether int8 is faster than fp32 here, and if not, what it is that keeps it from it.

    Args:
        fp32_ms: median for one face.
        int8_ms: the same.
        data: the int8 network.
        target: that it was made for.
    """
    measured = f"int8 takes {int8_ms:.2f} ms, fp32 {fp32_ms:.2f} ms"
    if not runs_here(target):
        return f"{measured} on this machine, which is no {target.name}: measure there with edgeface bench"
    ratio = fp32_ms / int8_ms
    why = causes(placement(data, "the int8 network"), processor_instructions()) if ratio < NOTABLE else ()
    return f"{measured}: {int8_speed(ratio, 'fp32', why)}"
