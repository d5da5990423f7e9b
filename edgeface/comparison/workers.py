"""Jobs on several cores, each in a process with one thread; what fails is told, and does not stop the others."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Final

import cv2
import torch

from edgeface.children import deaf_children
from edgeface.comparison.jobs import Job, Value
from edgeface.comparison.people import People
from edgeface.errors import EdgefaceError, TrainingError

POLL_S: Final = 0.5

_people: People | None = None
"""In a worker process, the people of all its jobs: sent once, not with each job."""


class Stopped(Exception):
    """The caller asked to stop."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finish(
    jobs: Sequence[Job], people: People, workers: int, stop: Callable[[], bool]
) -> Iterator[tuple[Job, Value | str]]:
    """Do jobs in any order, and yield each with its value, or with what went wrong, as soon as it is done.

    Args:
        jobs: what to do.
        people: for all of them.
        workers: processes; 1 works in this one.
        stop: is asked now and then whether to stop; workers are ended at once, a job in this process is finished.

    Raises:
        Stopped: `stop` said so.
        TrainingError: a worker died, for example because memory ran out.
    """
    if workers == 1 or len(jobs) <= 1:
        with one_thread():
            for job in jobs:
                if stop():
                    raise Stopped
                yield job, _attempt(job, people)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _start, (people,))
    try:
        with deaf_children():
            waiting: dict[Future[Value | str], Job] = {pool.submit(_work, job): job for job in jobs}
        while waiting:
            if stop():
                raise Stopped
            done, _ = wait(waiting, POLL_S, FIRST_COMPLETED)
            for future in done:
                job = waiting.pop(future)
                try:
                    yield job, future.result()
                except BrokenProcessPool:
                    raise TrainingError(
                        f"a worker process died during {job.label}; if memory ran out, go on with --resume and fewer "
                        "--jobs"
                    ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
            child.join()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, as the workers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(people: People) -> None:
    global _people
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where a blocked signal is not inherited, this must do
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _people = people


def _work(job: Job) -> Value | str:
    assert _people is not None  # set by _start
    return _attempt(job, _people)


def _attempt(job: Job, people: People) -> Value | str:
    """Do a job; an error that a loss or the machine can cause becomes its text, our own bugs stay errors."""
    try:
        return job.work(people)
    except (EdgefaceError, RuntimeError, MemoryError) as error:  # torch raises RuntimeError, also for lack of memory
        return " ".join(f"{error or type(error).__name__}".split())
