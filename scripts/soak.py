"""Months in minutes: the real loop on a looping stream, with everything going wrong by a schedule and a seed.

usage: soak.py [--frames N] [--seed S] [--faults N] [--rate FPS] [--bundle BUNDLE] [--json FILE] [--keep FOLDER]

Without --bundle, frames are noise with grey patches for faces, and finding and embedding them costs nothing; with it,
they are drawn people. Prints what was seen against what must be, and ends with 1 if they differ.
"""

import argparse
import errno
import json
import logging
import math
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from soak_device import ODDITIES, OUTAGES, Device
from soak_gallery import Writers
from soak_worlds import World, drawn, patches

from edgeface.runtime import loop
from edgeface.runtime.detections import Detections
from edgeface.runtime.events import Event, FileSink
from edgeface.runtime.gallery import Gallery
from edgeface.runtime.live import LiveSource
from edgeface.runtime.live_settings import LiveSettings
from edgeface.runtime.loop import RunSettings, run
from edgeface.runtime.watch import WatchSettings

FAULTS = (
    *OUTAGES,
    *ODDITIES,
    "wall clock",
    "full disk",
    "slow disk",
    "gallery changed",
    "enrolment killed",
)
MAX_RECOVERY_S = 3.0
SAMPLES = 200
JUDGED_FRAMES = 100_000


class WallClock(datetime):
    """`datetime` for the loop, which jumps."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> "WallClock":
        return super().now(tz) + cls.ahead


class Disk:
    """A sink for a file on a disk that is full or slow at times."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = 0
        self.full_for = self.slow_for = 0  # events
        self._file = FileSink(path)

    def write(self, event: Event) -> None:
        if self.full_for:
            self.full_for -= 1
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.slow_for:
            self.slow_for -= 1
            time.sleep(0.05)
        self._file.write(event)

    def close(self) -> None:
        self._file.close()


class Account:
    """A sink that counts, and knows how long the camera took to be seen again after it was there again."""

    def __init__(self, device: Device) -> None:
        self.counts: Counter[str] = Counter()
        self.recoveries_s: list[float] = []
        self._device = device
        self._lost_s = 0.0

    def write(self, event: Event) -> None:
        self.counts[event.event] += 1
        if event.event == "camera_lost":
            self._lost_s = time.monotonic()
        elif event.event == "camera_back":
            there_s = max(self._device.returned_s, self._lost_s)
            self.recoveries_s.append(time.monotonic() - there_s)

    def close(self) -> None:
        pass


class Conductor:
    """Stands before the detector: counts the frames, takes the memory, and orders the faults when they are due."""

    def __init__(self, world: World, device: Device, disk: Disk, account: Account, writers: Writers) -> None:
        self.frames = 0
        self.ordered: Counter[str] = Counter()
        self.memory: list[tuple[int, float]] = []
        self._world = world
        self._device, self._disk, self._account, self._writers = device, disk, account, writers
        self._schedule: list[tuple[int, str, float]] = []
        self._every = 1

    def plan(self, frames: int, faults: int, seed: int) -> None:
        """Spread the faults, each kind equally often, over the frames but the first and last twentieth."""
        rng = random.Random(seed)
        kinds = [FAULTS[i % len(FAULTS)] for i in range(faults)]
        rng.shuffle(kinds)
        at = sorted(rng.randrange(frames // 20, frames - frames // 20) for _ in kinds)
        self._schedule = [(when, kind, rng.random()) for when, kind in zip(at, kinds, strict=True)]
        self._every = max(1, frames // SAMPLES)

    @property
    def outages(self) -> int:
        return sum(self.ordered[kind] for kind in OUTAGES)

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        if self.frames % self._every == 0:
            self.memory.append((self.frames, resident_mb()))
        self.frames += 1
        # One outage at a time, or they could not be told apart.
        is_well = self._account.counts["camera_back"] == self.outages
        if is_well and self._schedule and self.frames >= self._schedule[0][0]:
            _, kind, chance = self._schedule.pop(0)
            self._order(kind, chance)
        return self._world.detector.detect(image)

    def _order(self, kind: str, chance: float) -> None:
        self.ordered[kind] += 1
        if kind in OUTAGES:
            self._device.break_down(kind, 0.8 + 1.5 * chance)
        elif kind in ODDITIES:
            self._device.act_up(kind)
        elif kind == "wall clock":
            WallClock.ahead = timedelta(days=round(800 * chance - 400))
        elif kind == "full disk":
            self._disk.full_for = 1 + round(10 * chance)
        elif kind == "slow disk":
            self._disk.slow_for = 5
        elif kind == "gallery changed":
            self._writers.change()
        else:
            self._writers.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=220, help=f"in all, of {len(FAULTS)} kinds")
    parser.add_argument("--rate", type=float, default=4000.0, help="frames a second that the camera gives")
    parser.add_argument("--bundle", help="drawn people and this bundle instead of patches")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the events and the gallery")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = soak(folder, options)
    for name, value in result["seen"].items():
        print(f"{name:34} {value}")
    print(f"{'frame':>10} {'RSS MB':>8}")
    for frame, mb in result["memory"][:: max(1, len(result["memory"]) // 20)]:
        print(f"{frame:10} {mb:8.1f}")
    for line in result["wrong"]:
        print(f"WRONG: {line}")
    print("soak passed" if not result["wrong"] else "soak FAILED")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(bool(result["wrong"]))


def soak(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    for name in ("gallery.db", "gallery.db-wal", "gallery.db-shm", "events.jsonl"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "gallery.db"
    world = drawn(path, options.bundle, options.seed) if options.bundle else patches(path, options.seed)
    device = Device(world.pictures, options.rate, options.seed)
    disk, account, writers = Disk(folder / "events.jsonl"), Account(device), Writers(path, options.seed)
    conductor = Conductor(world, device, disk, account, writers)
    conductor.plan(options.frames, options.faults, options.seed)
    vars(loop)["datetime"]  # a KeyError here: the loop takes its wall clock from somewhere else now
    vars(loop)["datetime"] = WallClock

    # Time-outs are short, so that a hung read is found in a second; the pauses between attempts are the usual ones.
    settings = LiveSettings(1.0, 0.5, wait_at_start=True, watch=WatchSettings(frozen_after_s=0.3))
    started_s = time.monotonic()
    with (
        LiveSource("soak camera", device.open, settings, rng=random.Random(options.seed)) as source,
        Gallery(path, world.space, world.dimension, timeout_s=30.0) as gallery,
    ):
        run_settings = RunSettings(world.decision, world.quality, max_frames=options.frames)
        summary = run(source, conductor, world.embedder, gallery, run_settings, [account, disk])
    seconds = time.monotonic() - started_s
    writers.wait()
    disk.close()
    lines = events_in(folder / "events.jsonl")
    slope, slope_se = trend(conductor.memory)
    handed = sum(account.counts.values())
    outages = conductor.outages
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("capture")]
    recovery_s = max(account.recoveries_s, default=0.0)
    checks = {
        f"it ended with {summary.ended}: {summary.error}": summary.ended == "max_frames",
        f"{account.counts['camera_lost']} losses told of {outages}": account.counts["camera_lost"] == outages,
        f"{account.counts['camera_back']} returns told of {outages}": account.counts["camera_back"] == outages,
        f"recovery took {recovery_s:.2f} s": recovery_s <= MAX_RECOVERY_S,
        f"{lines} events in the file, {handed - disk.refused} handed to it": lines == handed - disk.refused,
        f"{summary.lost_events} events lost by account, {disk.refused} refused": summary.lost_events == disk.refused,
        f"{summary.skipped_frames} damaged frames skipped of {device.damaged}": (
            # Those that come while nobody reads any more are seen by nobody.
            device.damaged - 5 <= summary.skipped_frames <= device.damaged
        ),
        f"{summary.failures} frames failed": summary.failures == 0,
        f"threads are left: {threads}": not threads,
        f"{writers.kills} enrolments killed of {conductor.ordered['enrolment killed']}": (
            writers.kills == conductor.ordered["enrolment killed"]
        ),
        f"memory grows by {slope:.2f} +- {slope_se:.2f} MB in 100 000 frames": (
            # A short run has not yet seen the largest of everything.
            options.frames < JUDGED_FRAMES or slope < max(1.0, 3 * slope_se)
        ),
    }
    seen = {
        "frames": summary.frames,
        "seconds": round(seconds, 1),
        "faults ordered": dict(sorted(conductor.ordered.items())),
        "camera lost / back": f"{account.counts['camera_lost']} / {account.counts['camera_back']}",
        "recovery median, max s": [round(float(np.median(account.recoveries_s or [0])), 2), round(recovery_s, 2)],
        "sessions opened, most at once": [device.opened, device.most_open],
        "damaged frames skipped": summary.skipped_frames,
        "frames dropped for newer ones": source.dropped,
        "events handed, refused, in file": [handed, disk.refused, lines],
        "events by kind": dict(sorted(account.counts.items())),
        "gallery changes, writers killed": [writers.changes, writers.kills],
        "RSS first, last MB": [round(conductor.memory[0][1], 1), round(conductor.memory[-1][1], 1)],
        "RSS slope, s.e. MB/100k frames": [round(slope, 3), round(slope_se, 3)],
    }
    wrong = [what for what, is_right in checks.items() if not is_right]
    wrong += [f"gallery: {fault}" for fault in writers.faults(set(world.people))]
    return {"seen": seen, "recoveries_s": account.recoveries_s, "memory": conductor.memory, "wrong": wrong}


def events_in(path: Path) -> int:
    """Count the lines, each of which must be a whole JSON object."""
    with path.open() as file:
        return sum(1 for line in file if json.loads(line)["event"])


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def trend(memory: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return slope and its standard error in MB for 100 000 frames, by least squares; the first tenth warms up."""
    points = np.array(memory[len(memory) // 10 :], float)
    if len(points) < 3:
        return math.nan, math.nan
    x, y = points[:, 0] / 1e5, points[:, 1]
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    return slope, float(np.sqrt(residual @ residual / (len(y) - 2) / (x @ x)))


if __name__ == "__main__":
    main()
