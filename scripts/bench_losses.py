#!/usr/bin/env python3
"""Memory and time of a step of ArcFace here, whole and sampled, and in pytorch-metric-learning, side by side.

    python scripts/bench_losses.py --classes 100000 --size 512 --batch 128 --device cpu

`sampled` is Partial FC: the faces' own classes and a tenth of the others (`--sample-rate`). Each is measured in a
process of its own: forward and backward, the same inputs. Memory is what the step adds to the inputs and the class
matrix: on a GPU the peak of torch's allocator, on a CPU the peak of the process by `ru_maxrss`. The time is the median
of the repeats, measured in turns so that other load on the machine meets all.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

OURS, SAMPLED, THEIRS = "edgeface", "edgeface sampled", "pytorch-metric-learning"


COMMON = ("classes", "size", "batch", "sample-rate", "device")


def build(which: str, classes: int, args: argparse.Namespace) -> torch.nn.Module:
    torch.manual_seed(0)
    size, device = args.size, args.device
    if which in (OURS, SAMPLED):
        from edgeface.losses import ArcFace

        rate = args.sample_rate if which == SAMPLED else 1.0
        return ArcFace(classes, size, scale=64.0, sample_rate=rate).to(device)
    from pytorch_metric_learning.losses import ArcFaceLoss

    return ArcFaceLoss(classes, size, margin=28.6478897565, scale=64.0).to(device)


def step(loss: torch.nn.Module, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    for parameter in (*loss.parameters(), embeddings):
        parameter.grad = None
    value = loss(embeddings, labels)
    value.backward()
    value.item()  # waits for a GPU


def peak_bytes(device: str) -> int:
    return (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )


def measure(which: str, args: argparse.Namespace) -> None:
    """Answer each line on stdin with the seconds of a step; the first answer is the memory of one."""
    loss = build(which, args.classes, args)
    embeddings = torch.randn(args.batch, args.size, device=args.device, requires_grad=True)
    labels = torch.randint(0, args.classes, (args.batch,), device=args.device)
    step(build(which, 10, args), embeddings, labels % 10)  # loads the kernels
    before = peak_bytes(args.device)
    step(loss, embeddings, labels)
    matrix = args.classes * args.size * 4
    print(
        json.dumps({"mb": (peak_bytes(args.device) - before) / 1e6, "matrix_mb": matrix / 1e6}),
        flush=True,
    )
    for _ in sys.stdin:
        started = time.perf_counter()
        step(loss, embeddings, labels)
        print(time.perf_counter() - started, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sample-rate", type=float, default=0.1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one, args)
        return
    names = (OURS, SAMPLED, THEIRS)
    common = [f"--{key}={getattr(args, key.replace('-', '_'))}" for key in COMMON]
    processes, memory = {}, {}
    for name in names:  # one after the other, so that the peaks do not meet
        processes[name] = subprocess.Popen(
            [sys.executable, __file__, *common, "--one", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        memory[name] = json.loads(processes[name].stdout.readline())
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.repeats):
        for name in names:
            processes[name].stdin.write("\n")
            processes[name].stdin.flush()
            times[name].append(float(processes[name].stdout.readline()))
    for process in processes.values():
        process.communicate()
    print(
        f"ArcFace, {args.classes} classes, {args.size}-d, batch {args.batch}, float32, {args.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for name in names:
        ms = sorted(1000 * t for t in times[name])
        print(f"{name:24} {memory[name]['mb']:8.0f} MB  {statistics.median(ms):8.1f} ms  (fastest {ms[0]:.1f})")
    theirs = memory[THEIRS]
    for name in (OURS, SAMPLED):
        ours = memory[name]
        total = (ours["mb"] + ours["matrix_mb"]) / (theirs["mb"] + theirs["matrix_mb"])
        speed = statistics.median(times[THEIRS]) / statistics.median(times[name])
        fastest = min(times[THEIRS]) / min(times[name])
        print(
            f"{name}: memory {ours['mb'] / theirs['mb']:.2f} of theirs, {total:.2f} with the class matrix counted; "
            f"speed {speed:.2f} x theirs (fastest against fastest {fastest:.2f} x)"
        )


if __name__ == "__main__":
    main()
