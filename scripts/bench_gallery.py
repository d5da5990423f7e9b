"""Time and memory of loading and searching galleries, NumPy against FAISS and plain against encrypted.

usage: bench_gallery.py [--templates 10000 100000 500000] [--dimension 512] [--each 5] [--load]

Times are those of the processor, as the machine may be busy: run it with OMP_NUM_THREADS=1. Each row runs in a process
of its own, so that its peak memory is its own. Templates are random, which changes neither time nor memory.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.runtime.gallery.comparison import People
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.importing import take_in
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.records import TemplateRow

LOOKS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--load", action="store_true", help="write galleries and load them, too")
    options = parser.parse_args()
    for count in options.templates:
        size_mb = count * options.dimension * 4 / 2**20
        print(f"{count} templates of {options.dimension} numbers, {size_mb:.0f} MB")
        rows = {kind: apart(search, count, options.dimension, options.each, kind) for kind in ("numpy", "faiss")}
        for kind, (milliseconds, megabytes) in rows.items():
            print(f"  {kind:6} one face {milliseconds:8.2f} ms, memory {megabytes / size_mb:.2f} of the templates")
        print(f"  faiss takes {rows['faiss'][0] / rows['numpy'][0]:.2f} of the time of numpy")
        if options.load:
            loads = [apart(load, count, options.dimension, options.each, sealed) for sealed in (False, True)]
            for name, (seconds, megabytes) in zip(("plain", "encrypted"), loads, strict=True):
                print(f"  {name:9} loaded in {seconds:6.2f} s, memory {megabytes / size_mb:.2f} of the templates")
            print(f"  encrypted takes {loads[1][0] / loads[0][0]:.2f} of the time of plain")


def search(count: int, dimension: int, each: int, kind: str) -> tuple[float, float]:
    """Return the milliseconds of one face, the best of many, and the megabytes that the templates took."""
    before = peak_mb()
    matrix = random_rows(count, dimension)
    people = People([f"person {row // each}" for row in range(count)], matrix, kind)
    del matrix
    faces = random_rows(LOOKS + 1, dimension)
    times = []
    for face in faces:
        start = process_time()
        people.compare(face[None])
        times.append(1000 * (process_time() - start))
    return min(times[1:]), peak_mb() - before


def load(count: int, dimension: int, each: int, sealed: bool) -> tuple[float, float]:
    """Return the seconds of `Gallery.templates`, the best of three, and its megabytes; written by another process."""
    key = GalleryKey(os.urandom(32), "bench") if sealed else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.db"
        apart(write, path, count, dimension, each, key)
        before = peak_mb()
        with Gallery(path, key=key) as gallery:
            times = []
            for _ in range(3):
                start = process_time()
                gallery.templates()
                times.append(process_time() - start)
            return min(times), peak_mb() - before


def write(path: Path, count: int, dimension: int, each: int, key: GalleryKey | None) -> None:
    with Gallery(path, "a" * 64, dimension, create=True, key=key) as gallery:
        for start in range(0, count, 50_000):
            people: dict[str, list[TemplateRow]] = {}
            for offset, face in enumerate(random_rows(min(50_000, count - start), dimension)):
                row = TemplateRow(face.tobytes(), 0.5, "a.jpg", "fp32", "2026-01-01T00:00:00+00:00")
                people.setdefault(f"person {(start + offset) // each}", []).append(row)
            take_in(gallery, people, "bench", join=True)


def random_rows(count: int, dimension: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((count, dimension), np.float32)
    for part in np.array_split(rows, max(1, count // 10_000)):  # no second copy of all of it
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def _send(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
