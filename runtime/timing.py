"""Where the time of a frame goes: milliseconds a stage, and percentiles over any number of frames."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_RATIO: Final = 1.02  # of a bucket's ends
_LOG_RATIO: Final = math.log(_RATIO)
_SMALLEST_MS: Final = 1e-3
_BUCKETS: Final = 1 + math.ceil(math.log(1e6 / _SMALLEST_MS) / _LOG_RATIO)  # up to 1000 s


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What half, 95 and 99 of a hundred values do not exceed, in milliseconds."""

    p50: float
    p95: float
    p99: float

    def to_json(self) -> dict[str, float]:
        """Return the percentiles by name, rounded to a microsecond."""
        return {"p50": round(self.p50, 3), "p95": round(self.p95, 3), "p99": round(self.p99, 3)}


class Histogram:
    """Percentiles to within 1 % in constant memory: counts in buckets that grow by 2 %, from 1 µs to 1000 s."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets = [0] * _BUCKETS
        self._smallest = math.inf
        self._largest = 0.0

    def add(self, value_ms: float) -> None:
        """Count one value; what lies outside of the range is counted at its end."""
        self.count += 1
        self._smallest = min(self._smallest, value_ms)
        self._largest = max(self._largest, value_ms)
        bucket = int(math.log(value_ms / _SMALLEST_MS) / _LOG_RATIO) if value_ms > _SMALLEST_MS else 0
        self._buckets[min(bucket, _BUCKETS - 1)] += 1

    def percentile(self, percent: float) -> float:
        """Return the smallest value that at least `percent` of a hundred values do not exceed.

        Raises:
            ValueError: nothing was counted yet.
        """
        if not self.count:
            raise ValueError("a histogram without values has no percentiles")
        rank, seen = max(1, math.ceil(self.count * percent / 100)), 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= rank:
                middle: float = _SMALLEST_MS * _RATIO ** (bucket + 0.5)
                return min(max(middle, self._smallest), self._largest)
        raise AssertionError("the buckets hold fewer values than were counted")

    def percentiles(self) -> Percentiles:
        """Return the three percentiles that are reported."""
        return Percentiles(self.percentile(50), self.percentile(95), self.percentile(99))


def take_turns(
    works: Sequence[Callable[[], object]],
    rounds: int,
    warm_up: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[float]]:
    """Time several pieces of work side by side: in each round each is done once, so that other load meets them alike.

    Args:
        works: what to time.
        rounds: that count.
        warm_up: rounds before, that do not.
        advance: is told how many rounds are done.

    Returns:
        For each work the milliseconds of each round.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(-warm_up, rounds):
        for work, measured in zip(works, times, strict=True):
            started = time.perf_counter()
            work()
            if turn >= 0:
                measured.append(1e3 * (time.perf_counter() - started))
        if turn >= 0:
            advance(turn + 1, rounds)
    return times


class Laps:
    """A stopwatch for one frame: each `mark` gives the time since the one before to a stage.

    Args:
        clock: seconds that never go back.
    """

    __slots__ = ("_clock", "_last_s", "ms")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.ms: dict[str, float] = {}
        """Milliseconds a stage, in the order in which the stages came."""
        self._clock = clock
        self._last_s = clock()

    def mark(self, stage: str) -> None:
        """End a stage; one that comes twice in a frame is summed."""
        now_s = self._clock()
        self.ms[stage] = self.ms.get(stage, 0.0) + 1e3 * (now_s - self._last_s)
        self._last_s = now_s

    @property
    def total_ms(self) -> float:
        """Sum of the stages so far, without `read`, which is the wait for a frame."""
        return sum(ms for stage, ms in self.ms.items() if stage != "read")


class StageTimes:
    """Percentiles of each stage. A stage counts only the frames in which it ran."""

    def __init__(self) -> None:
        self._stages: dict[str, Histogram] = {}

    def add(self, ms: Mapping[str, float]) -> None:
        """Count the milliseconds of one frame by stage."""
        for stage, value in ms.items():
            if stage not in self._stages:
                self._stages[stage] = Histogram()
            self._stages[stage].add(value)

    def percentiles(self) -> dict[str, Percentiles]:
        """Return the percentiles of every stage that ran."""
        return {stage: histogram.percentiles() for stage, histogram in self._stages.items()}
