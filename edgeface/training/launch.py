"""Starting the processes of a run on this machine, by torch's elastic agent, which is what `torchrun` runs."""

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from edgeface.children import deaf_children
from edgeface.errors import TrainingError


def launch(count: int, work: Callable[..., None], *arguments: Any) -> bool:
    """Run `work(*arguments)` in `count` new processes, and wait for all of them.

    The first process writes to this terminal; what the others say is shown when one of them fails.

    Args:
        count: processes, at least 2.
        work: a function of a module, so that it can be found again; an error that a user can mend it prints itself, as
            `error: ...`, and exits.
        arguments: anything that can be pickled.

    Returns:
        True when all are done, False when the first failed and has said why.

    Raises:
        TrainingError: another process failed or was killed.
        KeyboardInterrupt: it was interrupted; all have ended.
    """
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they report what is told below
    with tempfile.TemporaryDirectory(prefix="edgeface-") as folder:
        logs = DefaultLogsSpecs(log_dir=folder, redirects=dict.fromkeys(range(1, count), Std.ALL))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id="edgeface",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            start_method="spawn",
            monitor_interval=0.1,
            signals_to_handle="SIGTERM,SIGHUP,SIGQUIT",
            logs_specs=logs,
        )
        try:
            with _ctrl_c_as_sigterm() as pressed:
                elastic_launch(config, work)(*arguments)
        except SignalException as error:
            raise KeyboardInterrupt("SIGINT" if pressed.is_set() else error.sigval.name) from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if rank == 0 and failure.exitcode > 0:
                return False
            raise TrainingError(
                f"process {rank} of {count} {_ending(failure, Path(folder), rank)}; the run has ended. Its last "
                "checkpoint stays: go on with --resume, with as many processes as you like"
            ) from None
    return True


@contextmanager
def _ctrl_c_as_sigterm() -> Iterator[threading.Event]:
    """Keep Ctrl-C from the processes, and make SIGTERM of it here; give an event that says so.

    Only a blocked signal is kept from a process that is still importing, so a thread waits for it in this one's place.
    """
    pressed, is_over = threading.Event(), threading.Event()

    def wait() -> None:
        while not is_over.is_set():
            if signal.sigtimedwait([signal.SIGINT], 0.2) is not None:
                pressed.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    if not hasattr(signal, "sigtimedwait"):
        yield pressed
        return
    with deaf_children():
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        try:
            yield pressed
        finally:
            is_over.set()
            waiting.join()


def _ending(failure: ProcessFailure, folder: Path, rank: int) -> str:
    if failure.exitcode < 0:
        return f"was killed ({failure.signal_name()})"
    said = [
        line for path in folder.glob(f"**/{rank}/stderr.log") for line in path.read_text(errors="replace").splitlines()
    ]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return f"stopped: {(errors or said or ['without a word'])[-1].removesuffix('.')}"
