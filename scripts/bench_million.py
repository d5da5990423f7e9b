#!/usr/bin/env python3
"""Train with a million identities in one process, and print how much memory and time it takes.

    python scripts/bench_million.py --classes 1000000 --sample-rate 0.1 --optimizer adamw

Steps are those of `edgeface train`: backbone, class matrix, optimizers with all their state; on noise, since only cost
is asked. Then a checkpoint is written, and read by a new process that goes on. Memory is the peak of a process
(`ru_maxrss`), everything included; pages of the checkpoint that it reads count too.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from edgeface.losses.ranks import ALONE
from edgeface.training.checkpoint import CheckpointInfo
from edgeface.training.config import TrainConfig
from edgeface.training.learner import Learner

RECIPE = {
    "model": {"name": "resnet-edge", "embedding_size": 512},
    "loss": {"name": "arcface", "scale": 64.0, "margin": 0.5},
}


def peak_gb() -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) / 1e9


def run(args: argparse.Namespace, folder: Path, resume: bool) -> dict[str, float]:
    values = RECIPE | {"optimizer": {"name": args.optimizer}}
    values["loss"] = RECIPE["loss"] | {"sample_rate": args.sample_rate}
    config = TrainConfig.from_dict(values)
    started = time.perf_counter()
    learner = Learner(config, args.classes, False, ALONE, torch.device("cpu"), torch.float32)
    if resume:
        learner.restore(folder)
    facts = {"opened_s": time.perf_counter() - started}
    generator = torch.Generator().manual_seed(int(resume))
    times = []
    for _ in range(args.steps):
        faces = torch.randint(256, (args.batch, 112, 112, 3), dtype=torch.uint8, generator=generator)
        labels = torch.randint(args.classes, (args.batch,), generator=generator)
        started = time.perf_counter()
        outcome = learner.step(faces, labels, None, 1e-3)
        times.append(time.perf_counter() - started)
        assert outcome.broken is None, outcome
    facts |= {"step_s": statistics.median(times[1:]), "steps_gb": peak_gb(), "loss": outcome.loss.item()}
    if not resume:
        started = time.perf_counter()
        info = CheckpointInfo(
            "resnet-edge", 512, args.classes, 0, "arcface", "noise", args.steps, 0, 0.0, None, None, {}, ""
        )
        learner.save(folder, info, resumable=True)
        facts |= {"saved_s": time.perf_counter() - started, "all_gb": peak_gb()}
        facts["checkpoint_gb"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e9
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--sample-rate", type=float, default=0.1)
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        print(json.dumps(run(args, args.folder, args.resume)))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", f"{folder}/checkpoint"]
        first = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        second = json.loads(subprocess.run([*command, "--resume"], check=True, capture_output=True, text=True).stdout)
    print(f"{args.classes} identities, 512-d, rate {args.sample_rate:g}, {args.optimizer}, batch {args.batch}, float32")
    print(f"opened in {first['opened_s']:.1f} s, step {first['step_s']:.2f} s, peak {first['steps_gb']:.2f} GB")
    print(f"checkpoint of {first['checkpoint_gb']:.2f} GB in {first['saved_s']:.1f} s, peak {first['all_gb']:.2f} GB")
    print(f"resumed in {second['opened_s']:.1f} s, step {second['step_s']:.2f} s, peak {second['steps_gb']:.2f} GB")


if __name__ == "__main__":
    main()
