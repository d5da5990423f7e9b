import io
import json
import logging
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.runtime.deciding.decision import DecisionSettings, decide
from edgeface.runtime.deciding.evidence import Evidence
from edgeface.runtime.deciding.quality import Quality
from edgeface.runtime.deciding.sequential import limits, weigh
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.events import Event, FanOut, ListSink, SinkState, decision_event
from edgeface.runtime.gallery.comparison import Comparison
from edgeface.runtime.gallery.matching import Match
from edgeface.runtime.sinks.file import FileSink
from edgeface.runtime.sinks.lines import LinesSink

ROOT = Path(__file__).resolve().parents[1]
TIME = datetime(2026, 11, 23, 18, 5, 9, 123_456, UTC)
PLAIN = Event(TIME, "no_face")


def test_boxes_of_a_reduced_picture_are_in_pixels_of_the_file():
    event = decision_event(
        "unknown",
        decide([], DecisionSettings(threshold=0.41)),
        time=TIME,
        frame=0,
        track=Track(1, np.array([10, 20, 30, 40], np.float32), 0.0, 1.0),
        quality=Quality(30.0, 0.25, 130.0, -3.0, 1.0),
        latency_ms={},
        reduction=4,
    )
    assert list(event.box or ()) == [40, 80, 120, 160]
    assert event.quality is not None
    assert event.quality.size_px == 120


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
        snapshot="a.jpg",
        left_s=4.0,
    )

    assert uuid.UUID(event.id).version == 4
    assert json.loads(event.to_json()) == {
        "schema": 1,
        "id": event.id,
        "time": "2026-11-23T18:05:09.123Z",
        "event": "match",
        "valid_until": "2026-11-23T18:05:13.123Z",
        "late": False,
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
        "snapshot": "a.jpg",
        "scoring": "cosine",
        "rule": "votes",
        "votes_needed": 3,
        "evidence": None,
        "evidence_needed": None,
    }


def test_an_event_tells_what_was_compared_with_what():
    """With llr a score above the threshold may well belong to nobody: what counts is the sum of the evidence."""
    scale = Evidence(np.array([-1.0, 0.5, 0.6, 1.0]), np.array([-4.0, 0.0, 1.0, 4.0]))
    settings = DecisionSettings(
        0.4, fmr=1e-4, window=1, votes=1, hold=1, rule="llr", evidence=scale, scoring="normalised"
    )
    decision = weigh([Comparison(Match("al", 0.754))], settings)
    track = Track(2, np.array([10, 20, 30, 40], np.float32), 0.0, 1.0)
    told = json.loads(
        decision_event("unknown", decision, time=TIME, frame=7, track=track, quality=None, latency_ms={}).to_json()
    )
    assert decision.state == "unknown" and told["score"] > told["threshold"]
    assert (told["rule"], told["scoring"]) == ("llr", "normalised")
    assert told["evidence"] == pytest.approx(scale.ratio(0.754), abs=1e-6)
    assert told["evidence"] < told["evidence_needed"] == pytest.approx(limits(settings)[1], abs=1e-6)
    assert f"{told['evidence']:.1f}, need {told['evidence_needed']:.1f}" in told["why"]


def test_no_two_events_have_the_same_id():
    assert len({Event(TIME, "no_face").id for _ in range(1000)}) == 1000


def test_half_a_character_does_not_make_a_line_that_strict_readers_refuse():
    line = Event(TIME, "match", identity="a\udc80b", runner_up="\ud83d", why="\ude00 \U0001f600").to_json()
    values = json.loads(line)
    assert (values["identity"], values["runner_up"], values["why"]) == ("a\ufffdb", "\ufffd", "\ufffd \U0001f600")


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


def lines_of(path):
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def numbered(count, start=0):
    return [Event(TIME, "no_face", frame) for frame in range(start, start + count)]


def test_a_torn_write_is_taken_back_and_the_event_written_later(tmp_path, monkeypatch, caplog):
    path = tmp_path / "events.jsonl"
    sink = FileSink(path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    for event in numbered(3):
        sink.write(event)
    assert path.read_bytes() == b""
    assert (sink.state().sent, sink.state().waiting) == (0, 3)
    assert "only 10 of" in str(sink.state().error)
    monkeypatch.undo()
    sink.write(Event(TIME, "no_face", 3))
    sink.close()

    assert lines_of(path) == [0, 1, 2, 3]
    size = len(path.read_bytes().splitlines(keepends=True)[0])
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        f"only 10 of {size} bytes could be written; the disk may be full; they are kept for later",
        f"events are written to {path} again",
    ]


def test_half_a_line_of_a_power_cut_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"id": "1')
    sink = FileSink(path)
    sink.write(PLAIN)
    sink.close()
    assert path.read_text().splitlines() == ['{"id": "1', PLAIN.to_json()]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_logged_once_and_the_other_sinks_go_on(caplog):
    kept = ListSink()
    fan = FanOut([FileSink(Path("/dev/full"), memory=2), kept])
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            fan.write(PLAIN)
    full, memory = fan.states()
    assert (full.sent, full.waiting, full.lost) == (0, 2, 3)
    assert memory == SinkState("memory", sent=5)
    assert len(caplog.records) == 2  # that it is full, and that the bound is passed
    assert "/dev/full" in caplog.text
    assert "No space left" in caplog.text
    fan.close()
    assert (fan.states()[0].waiting, fan.states()[0].lost) == (0, 5)


def test_what_waits_is_written_without_a_new_event_about_once_a_second(tmp_path, monkeypatch):
    now_s = [0.0]
    path = tmp_path / "events.jsonl"
    fan = FanOut([FileSink(path)], clock=lambda: now_s[0])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    fan.write(PLAIN)
    monkeypatch.undo()
    fan.catch_up()
    assert path.read_text() == ""
    now_s[0] = 1.0
    fan.catch_up()
    assert path.read_text() == PLAIN.to_json() + "\n"
    fan.close()


def test_a_file_is_rotated_by_size_and_only_so_many_old_ones_are_kept(tmp_path):
    path = tmp_path / "events.jsonl"
    size = len(numbered(1)[0].to_json()) + 1
    sink = FileSink(path, max_bytes=3 * size, keep=2)
    for event in numbered(10):  # numbers of one digit
        sink.write(event)
    sink.close()

    names = ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert [lines_of(tmp_path / name) for name in names] == [[9], [6, 7, 8], [3, 4, 5]]
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())
    # Another run goes on with the file that is there.
    sink = FileSink(path, max_bytes=3 * size, keep=0)
    for event in numbered(3):
        sink.write(event)
    sink.close()
    assert lines_of(path) == [2]
    assert lines_of(tmp_path / "events.jsonl.1") == [6, 7, 8]


def test_a_file_that_cannot_be_rotated_grows_on(tmp_path, monkeypatch, caplog):
    path = tmp_path / "events.jsonl"
    sink = FileSink(path, max_bytes=1)

    def fail(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", fail)
    for event in numbered(4):
        sink.write(event)
    sink.close()
    assert lines_of(path) == [0, 1, 2, 3]
    assert len(caplog.records) == 1


def test_a_file_that_another_program_moved_away_is_begun_anew(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = FileSink(path)
    first, second = numbered(2)
    sink.write(first)
    path.rename(tmp_path / "moved")
    sink.write(second)
    sink.close()
    assert (lines_of(tmp_path / "moved"), lines_of(path)) == ([0], [1])


def test_each_event_is_synced_where_that_is_asked_for(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for sync, counts in ((False, [0, 0, 1]), (True, [1, 2, 3])):
        sink, found = FileSink(tmp_path / str(sync), sync=sync), []
        synced.clear()
        for event in numbered(2):
            sink.write(event)
            found.append(len(synced))
        sink.close()
        assert [*found, len(synced)] == counts


@pytest.mark.parametrize(("options", "message"), [({"max_bytes": 0}, "0 bytes"), ({"keep": -1}, "keep -1")])
def test_numbers_of_a_file_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        FileSink(tmp_path / "e", **options)


def test_a_closed_stream_breaks_the_pipe_after_the_others_were_told():
    stream, kept = io.StringIO(), ListSink()
    fan = FanOut([LinesSink(stream), kept])
    fan.write(PLAIN)
    assert stream.getvalue() == PLAIN.to_json() + "\n"
    stream.close()
    with pytest.raises(BrokenPipeError):
        fan.write(PLAIN)
    assert kept.events == [PLAIN] * 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_a_name_that_the_stream_cannot_write_is_escaped(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    sink = LinesSink(stream, lambda event: f"match {event.identity}")
    for name in ("Łucja 小明", "Zoë", "half \udc80 a character"):
        sink.write(Event(TIME, "match", identity=name))
    lines = raw.getvalue().decode(encoding).splitlines()
    expected = {"ascii": "Zo\\xeb", "latin-1": "Zoë", "utf-8": "Zoë", "cp1252": "Zoë"}[encoding]
    assert lines[1:] == [f"match {expected}", "match half \\udc80 a character"]
    assert lines[0] == ("match Łucja 小明" if encoding == "utf-8" else "match \\u0141ucja \\u5c0f\\u660e")
    assert sink.state().sent == 3


def test_standard_output_whose_reader_has_gone_ends_without_noise():
    program = (
        "import sys, datetime, time\n"
        "from edgeface.runtime.events import Event\n"
        "from edgeface.runtime.sinks.lines import LinesSink\n"
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
