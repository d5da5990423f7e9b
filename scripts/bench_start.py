"""How long `edgeface run` takes from the start of the process to its first decision, on one thread of the CPU.

usage: bench_start.py VIDEO --bundle BUNDLE --portrait PICTURE [--runs N] [--json FILE]

The person in the picture is enrolled into a gallery of its own. Each run is a new process; that of Python alone, which
nothing here can make faster, is timed beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DECISIONS = ("match", "unknown", "rejected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--portrait", type=Path, required=True, help="its largest face is enrolled")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    edgeface = [sys.executable, "-m", "edgeface"]
    with tempfile.TemporaryDirectory() as folder:
        gallery = ["--bundle", str(options.bundle), "--gallery", f"{folder}/gallery.db"]
        subprocess.run(
            [*edgeface, "enroll", "Ada", "--image", str(options.portrait), "--largest", *gallery],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        command = [*edgeface, "run", "--source", str(options.video), *gallery, "--json", "--headless"]
        started = [first_decision(command) for _ in range(1 + options.runs)][1:]  # the first one fills the disk's cache
    python_s = statistics.median(seconds([sys.executable, "-c", ""]) for _ in range(options.runs))
    rows = {
        "Python alone": python_s,
        "first decision, median": statistics.median(run_s for run_s, _ in started),
        "first decision, slowest": max(run_s for run_s, _ in started),
    }
    for name, value in rows.items():
        print(f"{name:26} {value:6.2f} s")
    print(f"decided in frame {sorted({frame for _, frame in started})}; {options.runs} runs")
    if options.json:
        facts = {"python_s": python_s, "runs_s": [run_s for run_s, _ in started]}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


def first_decision(command: list[str]) -> tuple[float, int]:
    """Return the seconds until the first decision is printed, and the index of its frame; the run is ended then."""
    started_s = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as run:
        assert run.stdout is not None
        try:
            for line in run.stdout:
                event = json.loads(line)
                if event.get("event") in DECISIONS:
                    return time.monotonic() - started_s, int(event["frame"])
        finally:
            run.terminate()
    sys.exit("the run ended without a decision; take a video with a face that is seen for long enough")


def seconds(command: list[str]) -> float:
    started_s = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - started_s


if __name__ == "__main__":
    main()
