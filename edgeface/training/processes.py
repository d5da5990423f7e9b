"""The processes of one run: how they find each other, and that they agree."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import torch
from torch import distributed

from edgeface.data import FaceSet
from edgeface.errors import CheckpointError, ConfigError, DataError, EdgefaceError, TrainingError
from edgeface.files import new_folder, sha256
from edgeface.losses.ranks import ALONE, Ranks
from edgeface.training.config import TrainConfig, changed_keys
from edgeface.training.device import pick_device

PATIENCE: Final = timedelta(hours=1)
"""How long a process waits for another: as long as the first may verify faces. One that died is noticed at once."""

LOST: Final = (
    "another process of this run ended or cannot be reached; if it was not killed, its own message says why. The last "
    "checkpoint stays: go on with --resume, with as many processes as you like"
)

_ENDED: Final[list[Any]] = []
"""Groups that were left, kept to the end of the process: the destructor of one waits, holding the interpreter's lock,
for a thread of gloo that may need that lock to let go of its last message. Later that thread is idle."""


@contextmanager
def join(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Meet the other processes that `torchrun` or `edgeface train --nproc` started, if they did.

    Args:
        device: as `pick_device`; each process of a machine takes a GPU of its own.

    Raises:
        ConfigError: the device does not exist, or the others cannot be found.
        TrainingError: another process died.
    """
    if not is_one_of_many():
        yield ALONE, pick_device(device)
        return
    count = int(os.environ["WORLD_SIZE"])
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    chosen = pick_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // machine_share()))
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"the {count} processes of this run cannot find each other ({reason}); start them with "
            "edgeface train --nproc N, or all of them with the same torchrun command"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), count), chosen
    except distributed.DistError as error:
        raise TrainingError(LOST) from error
    except RuntimeError as error:
        # Gloo has no error of its own.
        if not any(word in str(error) for word in ("gloo", "Connection closed", "NCCL")):
            raise
        raise TrainingError(LOST) from error
    finally:
        _ENDED.append(distributed.group.WORLD)
        distributed.destroy_process_group()


def leave() -> NoReturn:
    """End a process of torchrun's whose work is done and told, with exit code 0.

    The interpreter is not taken down: under load a thread of gloo may still hold the last message, and one that asks
    for the interpreter's lock by then aborts the process. Processes of `edgeface.training.launch` end like this anyway.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def is_one_of_many() -> bool:
    """Return whether this process was started as one of several, as the variables of `torchrun` tell."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Return whether this process is the one that reports."""
    return not is_one_of_many() or os.environ["RANK"] == "0"


def machine_share() -> int:
    """Return how many processes of the run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_one_of_many() else 1


@contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """Do the block in every process; where it fails in one, all fail, instead of waiting for it for ever.

    Raises:
        EdgefaceError: the block's own error where it failed.
        SystemExit: the first process fails in the same way, and says so.
        TrainingError: it failed in another process, whose message is told.
    """
    failed: EdgefaceError | None = None
    try:
        yield
    except EdgefaceError as error:
        failed = error
    messages = gather_objects(str(failed) if failed else None, ranks)
    if failed and ranks.rank and messages[0] == str(failed):
        time.sleep(1)  # whoever watches the processes ends all when one has ended: let the first speak
        raise SystemExit(1)
    if failed:
        raise failed
    for rank, message in enumerate(messages):
        if message is not None:
            raise TrainingError(f"process {rank} of this run could not start: {message}")


def assert_same_run(ranks: Ranks, config: TrainConfig, faces: FaceSet, step: int) -> None:
    """Check that all processes train on the same faces, with one configuration, from the same step.

    Raises:
        DataError: the faces differ.
        ConfigError: the configuration differs.
        CheckpointError: the checkpoint to go on from differs.
    """
    if ranks.count == 1:
        return
    content = "\n".join(f"{s.key}\t{s.identity}" for s in faces.samples)
    facts = (config.to_dict(), step, len(faces), len(faces.identities), sha256(content.encode()))
    for rank, theirs in enumerate(gather_objects(facts, ranks)):
        changed = changed_keys(facts[0], theirs[0])
        if changed:
            key, ours, other = changed[0]
            raise ConfigError(
                f"process {rank} of this run has {key} = {other!r}, this one {ours!r}; start all with the same command"
            )
        if theirs[1] != step:
            raise CheckpointError(
                f"process {rank} would go on from step {theirs[1]}, this one from {step}; all need the same --out, on "
                "a disk that they share"
            )
        if theirs[2:] != facts[2:]:
            raise DataError(
                f"process {rank} sees {theirs[2]} faces of {theirs[3]} identities in its data, this one "
                f"{facts[2]} of {facts[3]} in {faces.name}"
                + (", under other names" if theirs[2:4] == facts[2:4] else "")
                + "; give all processes the same data"
            )


def gather_objects(value: Any, ranks: Ranks) -> list[Any]:
    """Return what every process gave, in their order."""
    values = [value] * ranks.count
    if ranks.count > 1:
        distributed.all_gather_object(values, value)
    return values


def tell(value: Any, ranks: Ranks) -> Any:
    """Return what the first process gave."""
    values = [value]
    if ranks.count > 1:
        distributed.broadcast_object_list(values)
    return values[0]


@contextmanager
def shared_folder(path: Path, ranks: Ranks) -> Iterator[Path]:
    """Give every process the same empty folder; it takes the name `path` when all are done. See `new_folder`."""
    if ranks.rank == 0:
        with new_folder(path) as temporary:
            yield Path(tell(str(temporary), ranks))
            gather_objects(None, ranks)
    else:
        yield Path(tell(None, ranks))
        gather_objects(None, ranks)
