"""Months in minutes: the real loop on a looping stream, with everything going wrong by a schedule and a seed.

usage: soak.py [--frames N] [--seed S] [--faults N] [--rate FPS] [--bundle BUNDLE] [--plain] [--json FILE]
               [--keep FOLDER]

Events go through the project's own sinks into files, to a web server and to a command, over a disk and a network that
fail; each must be in the files once and have reached the server, in order, as a late one where its time was over.
Without --bundle, frames are noise with grey patches for faces, and finding and embedding them costs nothing; with it,
they are drawn people, and the files of the bundle are damaged and replaced while it is in use. Prints what was seen
against what must be, and ends with 1 if they differ.
"""

import argparse
import json
import logging
import math
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from soak_device import ODDITIES, OUTAGES, Device
from soak_gallery import Writers
from soak_outputs import FAULTS as OUTPUTS
from soak_outputs import Outputs
from soak_worlds import World, drawn, patches

from edgeface.runtime import loop
from edgeface.runtime.cameras.live import LiveSource
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.cameras.watch import WatchSettings
from edgeface.runtime.deciding.tracker import TrackerSettings
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import make_key, read_key
from edgeface.runtime.loop import RunSettings, run

FAULTS = (
    *OUTAGES,
    *ODDITIES,
    *OUTPUTS,
    "wall clock",
    "gallery changed",
    "enrolment killed",
)
WITH_BUNDLE = (*FAULTS, "bundle damaged", "bundle replaced")
MAX_RECOVERY_S = 3.0
SAMPLES = 200
TRACKER = TrackerSettings(max_missed_s=0.02)  # who leaves is soon told of, so that there are many events
MAX_AGE_S = 0.5  # shorter than most faults of the server, so that matches come late
JUDGED_FRAMES = 100_000


class WallClock(datetime):
    """`datetime` for the loop, which jumps."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> "WallClock":
        return super().now(tz) + cls.ahead


class Swapped:
    """The files of a bundle that is in use, which somebody damages and replaces."""

    def __init__(self, bundle: Path, folder: Path, seed: int) -> None:
        self.path = folder / "used.bundle"
        self._original = bundle
        self._random = random.Random(seed)
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(bundle, self.path)

    def damage(self) -> None:
        """Write something else into the same files, as a copy that breaks off does."""
        for path in self.path.iterdir():
            path.write_bytes(self._random.randbytes(1000))

    def replace(self) -> None:
        """Put other files in the place of these, as an update does."""
        for path in self._original.iterdir():
            shutil.copy(path, self.path / "new")
            os.replace(self.path / "new", self.path / path.name)


class Conductor:
    """Stands before the detector: counts the frames, takes the memory, and orders the faults when they are due."""

    def __init__(
        self, world: World, device: Device, outputs: Outputs, writers: Writers, swapped: Swapped | None
    ) -> None:
        self.frames = 0
        self.ordered: Counter[str] = Counter()
        self.memory: list[tuple[int, float]] = []
        self._world = world
        self._device, self._outputs, self._writers, self._swapped = device, outputs, writers, swapped
        self._schedule: list[tuple[int, str, float]] = []
        self._every = 1

    def plan(self, frames: int, faults: int, seed: int) -> None:
        """Spread the faults, each kind equally often, over the frames but the first and last twentieth."""
        rng = random.Random(seed)
        all_kinds = WITH_BUNDLE if self._swapped else FAULTS
        kinds = [all_kinds[i % len(all_kinds)] for i in range(faults)]
        rng.shuffle(kinds)
        at = sorted(rng.randrange(frames // 20, frames - frames // 20) for _ in kinds)
        self._schedule = [(when, kind, rng.random()) for when, kind in zip(at, kinds, strict=True)]
        self._every = max(1, frames // SAMPLES)

    @property
    def outages(self) -> int:
        return sum(self.ordered[kind] for kind in OUTAGES)

    @property
    def left(self) -> int:
        return len(self._schedule)

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        if self.frames % self._every == 0:
            self.memory.append((self.frames, resident_mb()))
        self.frames += 1
        # One outage at a time, or they could not be told apart.
        self._outputs.tick()
        is_well = self._outputs.account.counts["camera_back"] == self.outages
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
        elif kind in OUTPUTS:
            self._outputs.order(kind, chance)
        elif kind == "gallery changed":
            self._writers.change()
        elif kind == "enrolment killed":
            self._writers.kill()
        elif self._swapped is not None:
            self._swapped.damage() if kind == "bundle damaged" else self._swapped.replace()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=300, help=f"in all, of {len(FAULTS)} kinds")
    parser.add_argument("--rate", type=float, default=4000.0, help="frames a second that the camera gives")
    parser.add_argument("--bundle", type=Path, help="drawn people and this bundle, a folder, instead of patches")
    parser.add_argument("--plain", action="store_true", help="do not encrypt the gallery")
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
    for pattern in ("gallery.*", "outbox.*", "events.*", "moved-*", "told.txt", "arrived.txt"):
        for old in folder.glob(pattern):
            old.unlink()
    path, key_path, key = folder / "gallery.db", None, None
    if not options.plain:
        key_path = folder / "gallery.key"
        make_key(str(key_path))
        key = read_key(key_path)
    swapped = Swapped(options.bundle, folder, options.seed) if options.bundle else None
    world = drawn(path, key, swapped.path, options.seed) if swapped else patches(path, key, options.seed)
    device = Device(world.pictures, options.rate, options.seed)
    outputs = Outputs(folder, device, options.seed, lambda: WallClock.now(UTC).timestamp())
    writers = Writers(path, key_path, options.seed)
    conductor = Conductor(world, device, outputs, writers, swapped)
    conductor.plan(options.frames, options.faults, options.seed)
    vars(loop)["datetime"]  # a KeyError here: the loop takes its wall clock from somewhere else now
    vars(loop)["datetime"] = WallClock
    before = world.probe()

    # Time-outs are short, so that a hung read is found in a second; the pauses between attempts are the usual ones.
    settings = LiveSettings(1.0, 0.5, wait_at_start=True, watch=WatchSettings(frozen_after_s=0.3))
    started_s = time.monotonic()
    with (
        LiveSource("soak camera", device.open, settings, rng=random.Random(options.seed)) as source,
        Gallery(path, world.space, world.dimension, timeout_s=30.0, key=key) as gallery,
    ):
        run_settings = RunSettings(world.decision, world.gate, TRACKER, max_frames=options.frames, max_age_s=MAX_AGE_S)
        summary = run(source, conductor, world.embedder, gallery, run_settings, outputs.sinks)
    seconds = time.monotonic() - started_s
    writers.wait()
    outputs.finish()
    seen_outside, wrong = outputs.verdict(summary.sinks)
    slope, slope_se = trend(conductor.memory)
    account = outputs.account
    outages = conductor.outages
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith(("capture", "courier"))]
    recovery_s = max(account.recoveries_s, default=0.0)
    checks = {
        f"it ended with {summary.ended}: {summary.error}": summary.ended == "max_frames",
        f"{account.counts['camera_lost']} losses told of {outages}": account.counts["camera_lost"] == outages,
        f"{account.counts['camera_back']} returns told of {outages}": account.counts["camera_back"] == outages,
        f"recovery took {recovery_s:.2f} s": recovery_s <= MAX_RECOVERY_S,
        f"{summary.skipped_frames} damaged frames skipped of {device.damaged}": (
            # Those that come while nobody reads any more are seen by nobody.
            device.damaged - 5 <= summary.skipped_frames <= device.damaged
        ),
        f"{summary.failures} frames failed": summary.failures == 0,
        f"threads are left: {threads}": not threads,
        f"{conductor.left} faults were not ordered": conductor.left == 0,
        f"{writers.kills} enrolments killed of {conductor.ordered['enrolment killed']}": (
            writers.kills == conductor.ordered["enrolment killed"]
        ),
        "the same face has another embedding now": np.array_equal(before, world.probe()),
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
        **seen_outside,
        "events by kind": dict(sorted(account.counts.items())),
        "frame p50, p99 ms": [round(summary.stage_ms["total"].p50, 2), round(summary.stage_ms["total"].p99, 2)],
        "gallery encrypted": key is not None,
        "gallery changes, writers killed": [writers.changes, writers.kills],
        "RSS first, last MB": [round(conductor.memory[0][1], 1), round(conductor.memory[-1][1], 1)],
        "RSS slope, s.e. MB/100k frames": [round(slope, 3), round(slope_se, 3)],
    }
    wrong += [what for what, is_right in checks.items() if not is_right]
    wrong += [f"gallery: {fault}" for fault in writers.faults(set(world.people))]
    return {"seen": seen, "recoveries_s": account.recoveries_s, "memory": conductor.memory, "wrong": wrong}


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
