#!/usr/bin/env python3
"""Memory and time of a step of ArcFace here and in pytorch-metric-learning, side by side.

    python scripts/bench_losses.py --classes 100000 --size 512 --batch 128 --device cpu

Each is measured in a process of its own: forward and backward, the same inputs. Memory is what the step adds to the
inputs and the class matrix: on a GPU the peak of torch's allocator, on a CPU the peak of the process by `ru_maxrss`.
The time is the median of the repeats, measured in turns so that other load on the machine meets both.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch


def build(which: str, classes: int, size: int, device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if which == "edgeface":
        from edgeface.losses import ArcFace

        return ArcFace(classes, size, scale=64.0).to(device)
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
    loss = build(which, args.classes, args.size, args.device)
    embeddings = torch.randn(args.batch, args.size, device=args.device, requires_grad=True)
    labels = torch.randint(0, args.classes, (args.batch,), device=args.device)
    step(build(which, 10, args.size, args.device), embeddings, labels % 10)  # loads the kernels
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
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one, args)
        return
    names = ("edgeface", "pytorch-metric-learning")
    common = [f"--{key}={getattr(args, key)}" for key in ("classes", "size", "batch", "device")]
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
    ours, theirs = (memory[name]["mb"] for name in names)
    total = (ours + memory[names[0]]["matrix_mb"]) / (theirs + memory[names[1]]["matrix_mb"])
    print(f"memory: {ours / theirs:.2f} of theirs, {total:.2f} with the class matrix counted")
    print(
        f"speed: {statistics.median(times[names[1]]) / statistics.median(times[names[0]]):.2f} x theirs "
        f"(fastest against fastest {min(times[names[1]]) / min(times[names[0]]):.2f} x)"
    )


if __name__ == "__main__":
    main()
