"""The same work on many pictures, on all cores and in order."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(work: Callable[[int], T], count: int, workers: int = 0) -> Iterator[T]:
    """Yield `work(0)`, `work(1)`, ... `work(count - 1)`, several at a time in threads.

    OpenCV and onnxruntime work without the interpreter's lock, so that threads are enough. What was not begun is
    dropped when the caller stops or an error comes.

    Args:
        work: safe to call from several threads.
        count: how often to call it.
        workers: threads; 0 is one a core.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = workers or cores
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index in range(count):
                waiting.append(pool.submit(work, index))
                if len(waiting) >= 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
