#!/usr/bin/env python3
"""Change valid files of every format that edgeface parses itself, and see that nothing but its own errors comes of it.

usage: fuzz_parsers.py [--seconds S | --count N] [--seed S] [--only NAME ...] [--save FOLDER]

A finding is an exception that is no EdgefaceError, a crash, more than 2 s of processor time, or more than 300 MB of
memory. One of each kind is listed with its last frames, and saved; ends with 1 if there are any.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from byte_mutations import mutate
from parser_targets import TARGETS, Target

from edgeface.errors import EdgefaceError

ROUND = 40
"""Changed files of one format in one process."""
MAX_S = 2.0
MAX_BYTES = 300 << 20
WALL_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, help="rounds, instead of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[target.name for target in TARGETS])
    parser.add_argument("--save", type=Path, help="folder for what is found")
    options = parser.parse_args()
    targets = [target for target in TARGETS if not options.only or target.name in options.only]
    work = Path(tempfile.mkdtemp(prefix="edgeface-"))
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    tally, findings = Counter[str](), dict[str, str]()
    try:
        for target in targets:
            (work / target.name).mkdir()
            target.seeds(work / target.name)
            target.read(work / target.name)  # what nobody changed is read
        end, number = time.monotonic() + options.seconds, options.seed * 1_000_000
        first = number
        while number - first < options.count if options.count else time.monotonic() < end:
            target = targets[number % len(targets)]
            for seed, outcome in attempt(work, target, number):
                kind = outcome.splitlines()[0]
                tally[kind if kind in ("read", "refused") else "FOUND"] += 1
                if kind not in ("read", "refused") and f"{target.name}: {kind}" not in findings:
                    findings[f"{target.name}: {kind}"] = outcome
                    if options.save:
                        rebuild(work / target.name, options.save / f"{target.name}-{seed}", target, seed)
            number += 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for outcome, count in sorted(tally.items()):
        print(f"{count:8d} {outcome}")
    for place, outcome in sorted(findings.items()):
        print(f"FOUND {place}\n" + "\n".join(f"    {line}" for line in outcome.splitlines()[1:]))
    return 1 if findings else 0


def rebuild(source: Path, folder: Path, target: Target, seed: int) -> None:
    """Put a copy of sound files into a folder and change one of them, as the seed says."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    rng = random.Random(seed)
    mutate(folder / rng.choice(target.files), rng)
    if target.mend is not None:
        target.mend(folder)


def attempt(work: Path, target: Target, number: int) -> Iterator[tuple[int, str]]:
    """Change and read files in a child process; one that dies is followed by another."""
    place = 0
    while place < ROUND:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _work(work, target, number, place, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                yield number * ROUND + place, json.loads(line)
                place += 1
        _, status = os.waitpid(child, 0)
        if place < ROUND:
            ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
            yield number * ROUND + place, f"the process ended: {ended}"
            place += 1


def _work(work: Path, target: Target, number: int, place: int, writer: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    folder = work / f"{target.name}-{os.getpid()}"
    warnings.simplefilter("ignore")
    for seed in range(number * ROUND + place, (number + 1) * ROUND):
        try:
            rebuild(work / target.name, folder, target, seed)
        except Exception:  # the change cannot be made
            shutil.copytree(work / target.name, folder, dirs_exist_ok=True)
        signal.alarm(WALL_S)
        os.write(writer, f"{json.dumps(_try(target, folder))}\n".encode())
        signal.alarm(0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _try(target: Target, folder: Path) -> str:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = _memory("VmRSS"), time.process_time()
    try:
        target.read(folder)
        outcome = "read"
    except EdgefaceError as error:
        outcome = "refused" if "\n" not in str(error) else f"an error of several lines\n{error}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "edgeface" in frame.filename or "/runtime/" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
        told = "".join(traceback.format_list(frames[-4:])) + f"{error}"[:300]
        outcome = f"{type(error).__name__} in {where}\n{told}"
    if (spent := time.process_time() - started) > MAX_S:
        return f"it takes more than {MAX_S:g} s\n{spent:.1f} s; {outcome}"
    if (grown := _memory("VmHWM") - before) > MAX_BYTES:
        return f"it takes more than {MAX_BYTES >> 20} MiB\n{grown >> 20} MiB; {outcome}"
    return outcome


def _memory(what: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    sys.exit(main())
