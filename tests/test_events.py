import io
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.runtime.comparison import Comparison
from edgeface.runtime.decision import DecisionSettings, decide
from edgeface.runtime.events import Event, FanOut, FileSink, LinesSink, ListSink, decision_event
from edgeface.runtime.matching import Match
from edgeface.runtime.quality import Quality
from edgeface.runtime.tracker import Track

ROOT = Path(__file__).resolve().parents[1]
TIME = datetime(2026, 11, 23, 18, 5, 9, 123_456, UTC)
PLAIN = Event(TIME, "no_face")


def test_an_event_has_exactly_the_documented_fields():
    looks = [Comparison(Match("Łucja 小明", 0.61), Match("bob", 0.2))] * 3
    event = decision_event(
        "match",
        decide(looks, DecisionSettings(threshold=0.41)),
        time=TIME.astimezone(timezone(timedelta(hours=5, minutes=30))),
        frame=7,
        track=Track(2, np.array([10, 20.26, 30, 40], np.float32), 0.0, 1.0),
        quality=Quality(80.04, 0.25, 130.0, -3.0, 1.0),
        latency_ms={"detect": 4.0, "total": 9.12345},
    )

    assert json.loads(event.to_json()) == {
        "time": "2026-11-23T18:05:09.123Z",
        "event": "match",
        "frame": 7,
        "track": 2,
        "box": [10.0, 20.3, 30.0, 40.0],
        "identity": "Łucja 小明",
        "score": 0.61,
        "threshold": 0.41,
        "runner_up": "bob",
        "margin": 0.41,
        "votes": 3,
        "frames": 3,
        "quality": {
            "size_px": 80.0,
            "sharpness": 0.25,
            "brightness": 130.0,
            "yaw_deg": -3.0,
            "roll_deg": 1.0,
            "pitch_deg": 0.0,
            "eyes_covered": 0.0,
            "mouth_covered": 0.0,
            "score": 0.7137,
        },
        "liveness": None,
        "latency_ms": {"detect": 4.0, "total": 9.123},
        "why": None,
    }


@given(st.text(max_size=30), st.floats(-1, 1))
def test_any_name_is_one_ascii_line(name, score):
    line = Event(TIME, "match", identity=name, score=score, why=name).to_json()

    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["identity"] == name
    assert json.loads(line)["score"] == pytest.approx(score, abs=1e-6)


def test_a_file_gets_every_line_at_once_and_is_appended_to(tmp_path):
    path = tmp_path / "new" / "events.jsonl"
    for count in (1, 2):
        sink = FileSink(path)
        sink.write(PLAIN)
        assert path.read_text() == (PLAIN.to_json() + "\n") * count  # before it is closed
        sink.close()
        sink.close()
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(OSError, match="closed"):
        sink.write(PLAIN)


def test_a_file_that_cannot_be_opened_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"events cannot be written to .*: Is a directory; give another file"):
        FileSink(tmp_path)


def test_after_a_torn_write_the_next_line_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    sink = FileSink(path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(OSError, match="only 10 of"):
        sink.write(PLAIN)
    monkeypatch.undo()
    sink.write(PLAIN)
    sink.close()

    assert path.read_text().splitlines() == [PLAIN.to_json()[:10], PLAIN.to_json()]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_logged_once_and_the_other_sinks_go_on(caplog):
    kept = ListSink()
    fan = FanOut([FileSink(Path("/dev/full")), kept])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            fan.write(PLAIN)
    fan.close()

    assert kept.events == [PLAIN] * 3
    assert fan.failures == 3
    assert len(caplog.records) == 1
    assert "/dev/full" in caplog.text
    assert "No space left" in caplog.text


def test_a_closed_stream_breaks_the_pipe_after_the_others_were_told():
    stream, kept = io.StringIO(), ListSink()
    fan = FanOut([LinesSink(stream), kept])
    fan.write(PLAIN)
    assert stream.getvalue() == PLAIN.to_json() + "\n"
    stream.close()
    with pytest.raises(BrokenPipeError):
        fan.write(PLAIN)
    assert kept.events == [PLAIN] * 2


def test_standard_output_whose_reader_has_gone_ends_without_noise():
    program = (
        "import sys, datetime, time\n"
        "from edgeface.runtime.events import Event, LinesSink\n"
        "sink = LinesSink(sys.stdout)\n"
        "event = Event(datetime.datetime.now(datetime.UTC), 'no_face')\n"
        "try:\n"
        "    while True: sink.write(event)\n"
        "except BrokenPipeError:\n"
        "    print('a summary that nobody reads', flush=True)\n"
        "    sys.exit(0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["event"] == "no_face"
    process.stdout.close()
    noise = process.stderr.read()
    process.stderr.close()

    assert (process.wait(timeout=20), noise) == (0, "")
