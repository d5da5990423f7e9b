import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.runtime.timing import Histogram, Laps, StageTimes

durations = st.lists(st.floats(1e-3, 9e5), min_size=1, max_size=200)


@given(durations, st.sampled_from([50, 95, 99]))
def test_percentiles_are_those_of_numpy_to_one_percent(values, percent):
    histogram = Histogram()
    for value in values:
        histogram.add(value)

    expected = float(np.percentile(values, percent, method="inverted_cdf"))
    assert histogram.percentile(percent) == pytest.approx(expected, rel=0.0101)
    assert histogram.count == len(values)


@given(st.floats(0, 1e9))
def test_a_single_value_is_its_own_percentile_even_out_of_range(value):
    histogram = Histogram()
    histogram.add(value)

    assert histogram.percentiles().p50 == histogram.percentiles().p99 == value


def test_an_empty_histogram_has_no_percentiles():
    with pytest.raises(ValueError, match="without values"):
        Histogram().percentile(50)


def test_memory_stays_constant():
    histogram = Histogram()
    size = len(histogram._buckets)
    for value in range(10_000):
        histogram.add(value)

    assert len(histogram._buckets) == size < 2000


def test_laps_give_each_stage_its_time_and_read_is_not_part_of_the_total():
    ticks = iter([0.0, 0.5, 0.51, 0.53, 0.56])
    laps = Laps(lambda: next(ticks))
    for stage in ("read", "detect", "embed", "detect"):
        laps.mark(stage)

    assert laps.ms == pytest.approx({"read": 500, "detect": 10 + 30, "embed": 20})
    assert laps.total_ms == pytest.approx(60)


def test_a_stage_counts_only_the_frames_in_which_it_ran():
    times = StageTimes()
    for frame in range(100):
        times.add({"detect": 10.0, "embed": 5.0} if frame % 10 == 0 else {"detect": 10.0})

    found = times.percentiles()
    assert found["embed"].p50 == 5.0
    assert found["detect"].to_json() == {"p50": 10.0, "p95": 10.0, "p99": 10.0}
    assert math.isfinite(found["detect"].p99)
