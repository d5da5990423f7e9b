"""A disk that is full while a run writes: one sentence with advice that holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeface.errors import EdgefaceError, TrainingError
from edgeface.files import is_full
from edgeface.training.checkpoint import LAST


@contextmanager
def enough_room(run: Path, what: str) -> Iterator[None]:
    """Write in a run folder; what was whole before stays whole.

    Args:
        run: its folder.
        what: is written, in words.

    Raises:
        TrainingError: the disk, the quota or the largest size of a file is used up.
    """
    try:
        yield
    except EdgefaceError:
        raise
    except Exception as error:  # each library has its own for this
        if not is_full(error):
            raise
        advice = "nothing is lost: free some space and go on with --resume; the last checkpoint stays"
        if not (run / LAST).exists():
            advice = "there is no checkpoint yet: free some space and start again without --resume"
        raise TrainingError(f"there is no room for {what} in {run}; {advice}") from error
