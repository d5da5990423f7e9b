#!/usr/bin/env python3
"""Search for networks that pass inspection and yet crash, hang or bloat the process that opens and runs them.

usage: search_networks.py [--seconds S | --count N] [--seed S] [--only OPERATOR ...] [--save FOLDER] [--show]

Makes random small networks of the admitted operators, most of them with faults put in on purpose, and inspects each.
What is accepted is opened and run by onnxruntime in a child process with a limit on memory and time. A finding is a
signal, a time-out, memory far beyond what inspection foretold, a result of another shape than it foretold, or an error
of our own that inspection lets through. Findings are made smaller, saved and listed; ends with 1 if there are any.
"""

import argparse
import json
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgeface.errors import BundleError
from edgeface.runtime.inspecting.inspection import OPERATORS, Forecast, inspect_model

BATCH = 64
TIMEOUT_S = 5.0
"""Of processor time, for what takes a fraction of a second; a process that only waits gets ten times as long."""
ROOM_BYTES = 64 << 20
"""What a small network may take beyond what inspection foretold: libraries, arenas, plans."""
MULTIPLE = 6
"""onnxruntime may need so many times the foretold numbers of 8 bytes, for copies in its own layouts."""
MEMORY_BYTES = 6 << 30
"""Of address space, for the child."""


@dataclass
class Case:
    """One network that inspection accepts; `forecast` is None if it may be opened and not run."""

    seed: int
    data: bytes
    feeds: dict[str, tuple[int, ...]]
    forecast: Forecast | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, help="networks to make, instead of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=sorted(OPERATORS), help="operators that the networks begin with")
    parser.add_argument("--save", type=Path, help="folder for the networks found")
    parser.add_argument("--show", action="store_true", help="list why networks were refused, and what onnxruntime said")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    tally, findings = Counter[str](), dict[str, tuple[int, bytes]]()
    for case_list in _batches(options, tally, findings):
        for case, outcome in judge(case_list):
            tally[outcome.split(":")[0]] += 1
            if options.show and outcome.startswith("refused by onnxruntime"):
                tally[f"  {kind_of(outcome)}"] += 1
            if is_finding(outcome):
                note(findings, case, outcome)
    for outcome, count in sorted(tally.items()):
        if options.show or not outcome.startswith("  "):
            print(f"{count:8d} {outcome}")
    for place, (outcome, (seed, data)) in enumerate(sorted(findings.items())):
        smaller = minimise(data, outcome)
        print(f"FOUND (network {seed}) {outcome}\n{onnx.printer.to_text(onnx.load_from_string(smaller))}")
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            (options.save / f"{place:03d}-{seed}.onnx").write_bytes(smaller)
    return 1 if findings else 0


def _batches(
    options: argparse.Namespace, tally: Counter[str], findings: dict[str, tuple[int, bytes]]
) -> Iterator[list[Case]]:
    from mutations import NAMES, random_network

    end, seed, batch = time.monotonic() + options.seconds, options.seed * 10_000_000, list[Case]()
    first = seed
    while seed - first < options.count if options.count else time.monotonic() < end:
        data = random_network(seed, options.only or NAMES).SerializeToString()
        tally["made"] += 1
        try:
            case = admit(seed, data)
        except BundleError as error:
            tally["refused by inspection"] += 1
            if options.show:
                tally[f"  {kind_of(str(error))}"] += 1
        except Exception as error:  # what inspection must not raise
            findings.setdefault(f"inspection raises {type(error).__name__}: {error}", (seed, data))
        else:
            batch.append(case)
        if len(batch) == BATCH:
            yield batch
            batch = []
        seed += 1
    yield batch


def admit(seed: int, data: bytes) -> Case:
    """Inspect a network; free sizes become small ones.

    Raises:
        BundleError: it is refused.
    """
    inspected = inspect_model(data)
    feeds = {}
    for place, entry in enumerate(inspected.inputs):
        feeds[entry.name] = tuple(
            (1 + (seed + axis + place) % 3) if size is None else size for axis, size in enumerate(entry.shape)
        )
    try:
        return Case(seed, data, feeds, inspected.foretell(feeds))
    except BundleError:  # refused at these sizes, and so never run; it is opened all the same
        return Case(seed, data, feeds, None)


def judge(cases: list[Case]) -> Iterator[tuple[Case, str]]:
    """Open and run networks in child processes; a child that dies is followed by another one."""
    left = list(cases)
    while left:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _work(left, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            outcomes = [json.loads(line) for line in lines]
        _, status = os.waitpid(child, 0)
        yield from zip(left, outcomes, strict=False)
        left = left[len(outcomes) :]
        if left and status:
            yield left.pop(0), died(status)
        elif left and not outcomes:
            raise RuntimeError("the child ended without a word")


def died(status: int) -> str:
    """Say how a child process ended."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGALRM, signal.SIGPROF):
        return f"HANGS: no end after {TIMEOUT_S:g} s"
    return f"CRASHES: {signal.Signals(number).name if number else f'exit code {os.waitstatus_to_exitcode(status)}'}"


def _work(cases: list[Case], writer: int) -> None:
    """Go through networks, telling of each; ends the process."""
    import numpy as np

    os.nice(5)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for case in cases:
        try:
            outcome = _try(case, np.random.default_rng(case.seed))
        except Exception as error:
            outcome = f"refused by onnxruntime: {error}"
            if "alloc" in str(error).lower() or isinstance(error, MemoryError):
                outcome = f"BLOATS: {error}"
        os.write(writer, f"{json.dumps(outcome[:4000])}\n".encode())
    os._exit(0)


def _try(case: Case, numbers: Any) -> str:
    from edgeface.telemetry import import_onnxruntime

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    with _limited():
        session = onnxruntime.InferenceSession(case.data, options, providers=["CPUExecutionProvider"])
    if case.forecast is not None:
        feeds = {entry.name: _feed(entry.type, case.feeds[entry.name], numbers) for entry in session.get_inputs()}
        with _limited(case.forecast.work / 1e9):
            results = session.run(None, feeds)
        for name, result in zip((entry.name for entry in session.get_outputs()), results, strict=True):
            told = case.forecast.outputs.get(name)
            if told is not None and told != result.shape:
                return f"FORETOLD: output {name} as {list(told)}, it is {list(result.shape)}"
    numbers_told = 0 if case.forecast is None else case.forecast.numbers
    grown = _memory("VmHWM") - before
    if grown > ROOM_BYTES + MULTIPLE * 8 * numbers_told + 4 * len(case.data):
        return f"BLOATS: {grown >> 20} MiB more, foretold were {numbers_told} numbers"
    return "sound" if case.forecast is not None else "opened only"


@contextmanager
def _limited(more_s: float = 0.0) -> Iterator[None]:
    """End the process if the block takes too long: no exception reaches it while onnxruntime computes."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, TIMEOUT_S + more_s)
    signal.setitimer(signal.ITIMER_REAL, 10 * (TIMEOUT_S + more_s))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _memory(what: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) << 10


def _feed(kind: str, shape: tuple[int, ...], numbers: Any) -> Any:
    import ml_dtypes
    import numpy as np

    names = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
    kind = kind.removeprefix("tensor(").removesuffix(")")
    values = np.asarray(numbers.normal(size=shape) * 3 if np.prod(shape) < 1e6 else np.zeros(shape))
    if kind == "bfloat16":
        return values.astype(ml_dtypes.bfloat16)
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(values)).astype(names.get(kind, kind))


def is_finding(outcome: str) -> bool:
    """Say whether an outcome is one that must not be."""
    return outcome.split(":")[0].isupper()


def kind_of(outcome: str) -> str:
    """Return an outcome without its numbers and names, so that alike ones are counted together."""
    return re.sub(r"\d+", "#", re.sub(r"'[^']*'|\b[xtw]\d+(_\d+)?(_again)?\b|chain\d+", "_", outcome))[:150]


def note(findings: dict[str, tuple[int, bytes]], case: Case, outcome: str) -> None:
    """Keep one finding of each kind: the outcome, and the operators of the network."""
    operators = {node.op_type for node in onnx.load_from_string(case.data).graph.node}
    key = f"{kind_of(outcome)} [{' '.join(sorted(operators))}]"
    findings.setdefault(key, (case.seed, case.data))


def minimise(data: bytes, outcome: str) -> bytes:
    """Return a smaller network with the same kind of outcome: without nodes, inputs and attributes it does not need."""
    if outcome.startswith("inspection"):
        return data
    word = outcome.split(":")[0]

    def same(model: onnx.ModelProto) -> bool:
        try:
            case = admit(0, model.SerializeToString())
        except Exception:
            return False
        return next(iter(judge([case])))[1].split(":")[0] == word

    best = onnx.load_from_string(data)
    fields = ("node", "initializer", "value_info", "output")
    shrunk = True
    while shrunk:
        shrunk = False
        for model in _smaller(best, fields):
            if same(model):
                best, shrunk = model, True
                break
    return best.SerializeToString()


def _smaller(model: onnx.ModelProto, fields: tuple[str, ...]) -> Iterator[onnx.ModelProto]:
    def copy() -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        return made

    for field in fields:
        for place in range(len(getattr(model.graph, field))):
            made = copy()
            del getattr(made.graph, field)[place]
            yield made
    for place, node in enumerate(model.graph.node):
        for field in ("attribute", "input"):
            for part in range(len(getattr(node, field))):
                made = copy()
                del getattr(made.graph.node[place], field)[part]
                yield made


if __name__ == "__main__":
    sys.exit(main())
