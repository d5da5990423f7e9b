"""Runs on noise before the first frame, so that what a provider does only once is not done in it."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ProviderError
from edgeface.runtime.providers.network import Session, Sizes

_RUNS: Final = 4  # plain, then a graph's warm-up, its recording and a replay
_TYPES: Final = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}


def rehearse(session: Session, sizes: Sizes) -> None:
    """Run on the usual sizes: what is searched, compiled or recorded at first is done then.

    Raises:
        ProviderError: a run fails, or a recorded one says another thing than a plain one.
    """
    feeds = _noise(session, sizes, 1)
    runs = [session.run(feeds) for _ in range(_RUNS)]
    for result in runs[1:]:
        for first, again in zip(runs[0], result, strict=True):
            if not np.allclose(first, again, rtol=1e-2, atol=1e-2, equal_nan=True):
                raise ProviderError(
                    f"provider {session.provider} says another thing when it is asked the same again; use another one"
                )


def run_range(session: Session, sizes: Sizes) -> None:
    """Run on the least, the largest and the usual sizes, which builds what was left for the first run of each.

    Raises:
        ProviderError: a run fails.
    """
    for which in (0, 2, 1):
        session.run(_noise(session, sizes, which))


def _noise(session: Session, sizes: Sizes, which: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    feeds = {}
    for tensor in session.inputs:
        shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
        values = rng.integers(0, 256, sizes.shapes(shape)[which], np.uint8)
        feeds[tensor.name] = values.astype(_TYPES.get(tensor.dtype, np.float32))
    return feeds
