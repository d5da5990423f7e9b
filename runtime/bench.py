"""How long the stages take on this device, every precision and provider side by side."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError, ProviderError
from edgeface.faces import TEMPLATE, align
from edgeface.runtime.batches import race_batches
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.detection.detector import open_detector
from edgeface.runtime.embedder import Embedder, bundle_embedder
from edgeface.runtime.measurements import Bench, Row, Verdict
from edgeface.runtime.placement import NOTABLE, causes, placement, processor_instructions
from edgeface.runtime.providers.choice import ProviderChoice
from edgeface.runtime.providers.session import Session, absent
from edgeface.runtime.providers.table import PROVIDERS
from edgeface.runtime.speed import remember
from edgeface.runtime.timing import Histogram, take_turns
from edgeface.telemetry import import_onnxruntime

Image = npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Candidate:
    stage: str
    precision: str
    provider: str
    threads: int
    faces: int
    work: Callable[[], object]
    memory_mb: float | None
    session: Session | None
    times_ms: list[float]
    embedder: Embedder | None = None


def measure(
    bundle: Bundle,
    frame: Image,
    *,
    precisions: Sequence[str] = (),
    providers: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    faces: int = 1,
    runs: int = 100,
    choice: ProviderChoice | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Bench:
    """Time the stages of a bundle. In each round every candidate runs once, so that other load meets all of them.

    What one face takes on one CPU thread is remembered for `auto`, and so is whether several faces are faster in one
    run than one by one (`edgeface.runtime.speed`).

    Args:
        bundle: whose networks are timed.
        frame: (H, W, 3) uint8 RGB to detect in.
        precisions: of the embedder; all that the bundle has by default.
        providers: keys of `edgeface.runtime.providers.table.PROVIDERS`, or names of libraries; by default all that
            work.
        threads: numbers of CPU threads.
        faces: embedded in a call.
        runs: rounds, at least 10.
        choice: which device, and what else the providers are told.
        advance: is told how many rounds are done.

    Raises:
        ConfigError: a number is out of range.
        BundleError: the bundle has no such precision, or a network that cannot be opened.
        ProviderError: a provider that was named does not work here, or none does.
    """
    if runs < 10 or faces < 1 or not threads or min(threads) < 1:
        raise ConfigError(f"bench needs 10 runs, a face and a thread or more; got {runs}, {faces}, {list(threads)}")
    asked = [replace(choice or ProviderChoice(), name=provider) for provider in providers]
    precisions = precisions or tuple(bundle.manifest.precisions)
    candidates, skipped = _open(bundle, frame, precisions, asked or _all(choice), threads, faces, strict=bool(asked))
    rounds = max(10, runs // 5)
    compared = {c.precision: c.embedder for c in candidates if _decides(c, faces) and c.embedder is not None}
    total = runs + rounds
    times = take_turns(
        [candidate.work for candidate in candidates], runs, max(2, runs // 10), lambda done, _: advance(done, total)
    )
    batches = race_batches(compared, rounds, lambda done, _: advance(runs + done, total))
    if not batches:
        advance(total, total)
    for candidate, measured in zip(candidates, times, strict=True):
        candidate.times_ms = measured
    embed = {c.precision: float(np.median(c.times_ms)) for c in candidates if _decides(c, 1)}
    if embed and set(embed) == set(bundle.manifest.precisions):
        remember(bundle.manifest, embed, {gain.precision: gain.batch for gain in batches if gain.batch is not None})
    return Bench(
        device=_device(),
        rows=tuple(map(_row, candidates)),
        verdicts=_verdicts(bundle, candidates),
        batches=batches,
        skipped=skipped,
        warnings=tuple(dict.fromkeys(warning for c in candidates if (warning := _warning(c)) is not None)),
        auto=bundle.resolve_precision("auto"),
    )


def _all(choice: ProviderChoice | None) -> list[ProviderChoice]:
    choice = choice or ProviderChoice()
    names = (*(library.name for library in choice.libraries), *PROVIDERS)
    return [replace(choice, name=name) for name in names]


def _decides(candidate: _Candidate, faces: int) -> bool:
    """Whether `auto` is to follow what this candidate says of so many faces."""
    return (candidate.stage, candidate.provider, candidate.threads, candidate.faces) == ("embed", "cpu", 1, faces)


def _warning(candidate: _Candidate) -> str | None:
    if candidate.session is None or candidate.session.nodes is None:
        return None
    return candidate.session.nodes.warning(candidate.provider, f"{candidate.stage} {candidate.precision}".strip())


def _open(
    bundle: Bundle,
    frame: Image,
    precisions: Sequence[str],
    choices: Sequence[ProviderChoice],
    threads: Sequence[int],
    faces: int,
    *,
    strict: bool,
) -> tuple[list[_Candidate], tuple[str, ...]]:
    batch = np.repeat(align(frame, TEMPLATE)[None], faces, 0)
    candidates, skipped = list[_Candidate](), list[str]()
    gone: dict[str, list[str]] = {}
    for choice in choices:
        if not strict and (reason := absent(choice.name)) is not None:
            gone.setdefault(reason, []).append(choice.name)
            continue
        row = PROVIDERS.get(choice.name)
        refused = {} if row is None else row.refused
        for count in threads if choice.name == "cpu" else threads[:1]:
            try:
                if bundle.manifest.detector is not None:
                    before = _memory_mb()
                    detector = open_detector(bundle.detector(), provider=choice, threads=count)
                    detector.detect(frame)
                    detect = partial(detector.detect, frame)
                    candidates.append(_candidate("detect", "", count, 1, detect, before, detector.session))
                for precision in precisions:
                    if precision in refused:
                        skipped.append(f"{precision} on {choice.name}: {refused[precision]}")
                        continue
                    before = _memory_mb()
                    embedder, _ = bundle_embedder(bundle, precision=precision, provider=choice, threads=count)
                    embedder.embed(batch)
                    embed = partial(embedder.embed, batch)
                    opened = _candidate("embed", precision, count, faces, embed, before, embedder.session)
                    opened.embedder = embedder
                    candidates.append(opened)
            except ProviderError as error:
                if strict:
                    raise
                skipped.append(str(error))
                break
    if not candidates:
        raise ProviderError(f"no provider works here: {'; '.join([*skipped, *gone])}")
    candidates.append(_candidate("align", "", 1, 1, partial(align, frame, TEMPLATE), None, None))
    return candidates, (*(f"{', '.join(names)}: {reason}" for reason, names in gone.items()), *skipped)


def _candidate(
    stage: str,
    precision: str,
    threads: int,
    faces: int,
    work: Callable[[], object],
    before_mb: float | None,
    session: Session | None,
) -> _Candidate:
    now = _memory_mb()
    added = None if before_mb is None or now is None else max(0.0, now - before_mb)
    provider = "" if session is None else session.provider
    return _Candidate(stage, precision, provider, threads, faces, work, added, session, [])


def _row(candidate: _Candidate) -> Row:
    histogram = Histogram()
    for value in candidate.times_ms:
        histogram.add(value)
    times = histogram.percentiles()
    return Row(
        candidate.stage,
        candidate.precision,
        candidate.provider,
        candidate.threads,
        candidate.faces,
        round(times.p50, 3),
        round(times.p95, 3),
        round(times.p99, 3),
        None if candidate.memory_mb is None else round(candidate.memory_mb, 1),
        None if candidate.session is None or candidate.session.nodes is None else dict(candidate.session.nodes.nodes),
    )


def _verdicts(bundle: Bundle, candidates: Sequence[_Candidate]) -> tuple[Verdict, ...]:
    verdicts = []
    for int8 in candidates:
        if int8.precision != "int8":
            continue
        same = (int8.provider, int8.threads)
        floats = [c for c in candidates if c.precision in ("fp32", "fp16") and (c.provider, c.threads) == same]
        if not floats:
            continue
        best = min(floats, key=lambda c: float(np.median(c.times_ms)))
        ratio = float(np.median(np.divide(best.times_ms, int8.times_ms)))
        why: tuple[str, ...] = ()
        if ratio < NOTABLE and int8.provider == "cpu":
            why = causes(placement(bundle.embedder("int8"), "the int8 network"), processor_instructions())
        verdicts.append(Verdict(int8.provider, int8.threads, best.precision, ratio, why))
    return tuple(verdicts)


def _device() -> dict[str, Any]:
    onnxruntime = import_onnxruntime()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "int8_instructions": sorted(i for i in processor_instructions() if "vnni" in i or i in ("asimddp", "i8mm")),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }


def _memory_mb() -> float | None:
    """Return the memory of this process in 1e6 bytes, where Linux tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize() / 1e6
