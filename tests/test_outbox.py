"""Events that wait on the disk, and the thread that takes them away."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.runtime.events import Event
from edgeface.runtime.sinks import late
from edgeface.runtime.sinks.courier import Backoff, Courier, Reply
from edgeface.runtime.sinks.outbox import _OVERHEAD, Outbox

ROOT = Path(__file__).resolve().parents[1]
TIME = datetime(2026, 11, 23, 18, 5, 9, 0, UTC)


def event(frame):
    return Event(TIME, "match", frame, identity="alice")


def waiting(outbox, sink="webhook"):
    """Bodies that wait, in order, without taking them out."""
    found, after = [], 0
    while (letter := outbox.first(sink, after)) is not None:
        found.append(letter.body.decode())
        after = letter.number
    return found


def fill_the_disk(outbox):
    """SQLite itself then says that the database is full."""
    (pages,) = outbox._connection.execute("PRAGMA page_count").fetchone()
    outbox._connection.execute(f"PRAGMA max_page_count = {pages}")


def empty_the_disk(outbox):
    outbox._connection.execute("PRAGMA max_page_count = 1000000")


# --- what is in it


def test_letters_come_out_in_order_for_each_sink_until_they_are_done(tmp_path):
    outbox = Outbox(tmp_path / "new" / "outbox.db")
    for number in range(3):
        outbox.add("webhook", f"w{number}", f"web {number}")
        outbox.add("mqtt", f"m{number}", f"queue {number}")
    assert waiting(outbox) == ["web 0", "web 1", "web 2"]
    assert waiting(outbox, "mqtt") == ["queue 0", "queue 1", "queue 2"]
    first = outbox.first("webhook")
    assert first is not None
    assert first.event == "w0"
    outbox.done("webhook", first)
    assert waiting(outbox) == ["web 1", "web 2"]
    assert (outbox.count("webhook"), outbox.count("mqtt"), outbox.count("other")) == (2, 3, 0)
    outbox.close()
    outbox.close()
    assert (outbox.count("webhook"), outbox.first("webhook")) == (2, None)
    with pytest.raises(OSError, match="closed"):
        outbox.add("webhook", "w", "late")
    assert (tmp_path / "new" / "outbox.db").stat().st_mode & 0o077 == 0


def test_what_was_written_before_kill_9_is_there_at_the_next_start(tmp_path):
    program = (
        "import os, signal, sys, pathlib\n"
        "from edgeface.runtime.sinks.outbox import Outbox\n"
        "outbox = Outbox(pathlib.Path(sys.argv[1]))\n"
        "for number in range(50):\n"
        "    outbox.add('webhook', f'id {number}', f'body {number}')\n"
        "    if number == 20: outbox.done('webhook', outbox.first('webhook'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "outbox.db"
    killed = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    outbox = Outbox(path)
    assert waiting(outbox) == [f"body {number}" for number in range(1, 50)]
    outbox.add("webhook", "new", "after it")
    assert waiting(outbox)[-2:] == ["body 49", "after it"]
    outbox.close()


def test_refused_letters_are_set_aside_and_wait_again_when_revived(tmp_path):
    outbox = Outbox(tmp_path / "o")
    for number in range(3):
        outbox.add("webhook", str(number), str(number))
    letter = outbox.first("webhook", 1)
    assert letter is not None
    outbox.refuse("webhook", letter, "HTTP 400")
    assert waiting(outbox) == ["0", "2"]
    outbox.close()
    outbox = Outbox(tmp_path / "o")
    assert waiting(outbox) == ["0", "2"]
    assert (outbox.revive("mqtt"), outbox.revive("webhook")) == (0, 1)
    assert waiting(outbox) == ["0", "1", "2"]
    outbox.close()


def test_beyond_its_size_the_oldest_go_refused_ones_first(tmp_path, caplog):
    outbox = Outbox(tmp_path / "o", max_bytes=5 * (10 + 100))
    for number in range(5):
        outbox.add("webhook" if number % 2 else "mqtt", str(number), f"{number:010d}")
    letter = outbox.first("webhook", 2)
    assert letter is not None
    assert letter.event == "3"
    outbox.refuse("webhook", letter, "no")
    outbox.add("webhook", "5", f"{5:010d}")
    assert (waiting(outbox, "mqtt"), waiting(outbox)) == (
        [f"{n:010d}" for n in (0, 2, 4)],
        [f"{n:010d}" for n in (1, 5)],
    )
    outbox.add("webhook", "6", f"{6:010d}")
    outbox.add("webhook", "7", f"{7:010d}")
    assert (waiting(outbox, "mqtt"), waiting(outbox)) == (
        [f"{n:010d}" for n in (2, 4)],
        [f"{n:010d}" for n in (5, 6, 7)],
    )
    assert outbox.dropped == {"webhook": 2, "mqtt": 1}
    assert len(caplog.records) == 2
    outbox.close()
    # The size is known again after a restart.
    outbox = Outbox(tmp_path / "o", max_bytes=5 * (10 + 100))
    outbox.add("webhook", "8", f"{8:010d}")
    assert (len(waiting(outbox, "mqtt")), len(waiting(outbox))) == (1, 4)
    outbox.close()


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["add", "done", "refuse", "reopen", "full", "room"]), max_size=25))
def test_whatever_happens_nothing_is_lost_and_the_order_stays(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("outbox") / "o"
    outbox, expected, aside, number = Outbox(path), [], [], 0
    full = False
    for step in steps:
        if step == "add":
            number += 1
            body = f"{number} " + "x" * 3000  # takes a page
            outbox.add("webhook", str(number), body)
            expected.append(body)
        elif step in ("done", "refuse") and expected and not full:
            letter = outbox.first("webhook")
            assert letter is not None
            assert letter.body.decode() == expected.pop(0)
            if step == "done":
                outbox.done("webhook", letter)
            else:
                outbox.refuse("webhook", letter, "no")
                aside.append((int(letter.event), letter.body.decode()))
        elif step == "reopen" and not full:
            outbox.close()
            outbox = Outbox(path)
        elif step in ("full", "room"):
            full = step == "full"
            fill_the_disk(outbox) if full else empty_the_disk(outbox)
    assert waiting(outbox) == expected
    empty_the_disk(outbox)
    outbox.catch_up()
    outbox.revive("webhook")
    assert waiting(outbox) == [body for _, body in sorted([*aside, *((int(b.split()[0]), b) for b in expected)])]
    assert outbox.dropped == {}
    outbox.close()


def test_a_full_disk_keeps_letters_in_memory_and_delivers_from_there(tmp_path, caplog):
    outbox = Outbox(tmp_path / "o", memory=4)
    outbox.add("webhook", "0", "0" * 3000)
    fill_the_disk(outbox)
    for number in range(1, 4):
        outbox.add("webhook", str(number), str(number) * 3000)
    assert outbox.error == "database or disk is full"
    assert [body[0] for body in waiting(outbox)] == ["0", "1", "2", "3"]
    assert outbox.count("webhook") == 4
    while (letter := outbox.first("webhook", 1)) is not None:
        outbox.done("webhook", letter)
    for number in range(4, 10):  # more than fit
        outbox.add("webhook", str(number), str(number) * 3000)
    assert [body[0] for body in waiting(outbox)] == ["0", "6", "7", "8", "9"]
    assert outbox.dropped == {"webhook": 2}
    empty_the_disk(outbox)
    outbox.catch_up()
    assert vars(outbox)["error"] is None
    outbox.close()
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        "database or disk is full; they are kept in memory",
        "more than 4 wait for the disk",
        f"events are written to outbox {tmp_path / 'o'} again",
    ]
    outbox = Outbox(tmp_path / "o")
    assert [body[0] for body in waiting(outbox)] == ["0", "6", "7", "8", "9"]
    outbox.close()


def test_what_arrived_while_the_disk_took_nothing_is_forgotten_when_it_does(tmp_path, caplog):
    outbox = Outbox(tmp_path / "o")
    for number in range(4):
        outbox.add("webhook", str(number), str(number))
    outbox._connection.execute("PRAGMA query_only = ON")  # SQLite itself then refuses to write
    after = 0
    for _ in range(3):
        letter = outbox.first("webhook", after)
        assert letter is not None
        outbox.done("webhook", letter)
        after = letter.number
    outbox.catch_up()
    assert outbox.count("webhook") == 4 and outbox.count("webhook", after) == 1
    outbox._connection.execute("PRAGMA query_only = OFF")
    outbox.catch_up()
    assert waiting(outbox) == ["3"]
    assert outbox._bytes == 1 + _OVERHEAD
    assert caplog.text.count("cannot mark as sent") == 1
    outbox.close()


def test_what_is_only_in_memory_at_the_end_is_counted_as_lost(tmp_path):
    outbox = Outbox(tmp_path / "o")
    outbox.add("webhook", "0", "0" * 3000)
    fill_the_disk(outbox)
    outbox.add("webhook", "1", "1" * 3000)
    outbox.close()
    assert (outbox.count("webhook"), outbox.dropped) == (1, {"webhook": 1})


def test_one_outbox_serves_one_run(tmp_path):
    outbox = Outbox(tmp_path / "o")
    with pytest.raises(ConfigError, match="is used by another run; give this one a file of its own with --outbox"):
        Outbox(tmp_path / "o")
    outbox.close()
    Outbox(tmp_path / "o").close()


def test_an_outbox_that_is_there_is_opened_without_writing_as_its_disk_may_be_full(tmp_path):
    outbox = Outbox(tmp_path / "o")
    outbox.add("webhook", "1", "one")
    outbox.close()
    before = (tmp_path / "o").read_bytes()
    outbox = Outbox(tmp_path / "o")
    assert waiting(outbox) == ["one"]
    assert (tmp_path / "o-wal").stat().st_size == 0
    with pytest.raises(ConfigError, match="is used by another run"):
        Outbox(tmp_path / "o")
    assert (tmp_path / "o").read_bytes() == before
    outbox.close()


def test_files_that_are_no_outbox_are_left_alone(tmp_path):
    text = tmp_path / "events.jsonl"
    text.write_text("{}\n" * 1000)
    with pytest.raises(ConfigError, match="is damaged or no outbox"):
        Outbox(text)
    assert text.read_text() == "{}\n" * 1000
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(ConfigError, match="but no outbox"):
        Outbox(other)
    with pytest.raises(ConfigError, match="cannot be opened: "):
        Outbox(text / "below")


def test_a_damaged_outbox_is_a_clear_error(tmp_path):
    path = tmp_path / "o"
    outbox = Outbox(path)
    for number in range(100):
        outbox.add("webhook", str(number), "x" * 1000)
    outbox.close()
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(4096 * 10))
    with pytest.raises(ConfigError, match=r"is damaged or no outbox \(.*\); move it away"):
        Outbox(path)


# --- the courier


class Place:
    """A destination that answers as it is told, in turn; when nothing is left to tell, it takes everything."""

    kind, place = "webhook", "https://there.example"

    def __init__(self, *replies):
        self.replies = list(replies)
        self.got = []
        self.aborted = threading.Event()
        self.closed = False

    def send(self, letter):
        reply = self.replies.pop(0) if self.replies else Reply("sent")
        if isinstance(reply, Exception):
            raise reply
        if callable(reply):
            reply = reply()
        if reply.outcome == "sent":
            self.got.append(json.loads(letter.body)["frame"])
        return reply

    def abort(self):
        self.aborted.set()

    def close(self):
        self.closed = True


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def outbox(tmp_path):
    with_it = Outbox(tmp_path / "outbox.db")
    yield with_it
    with_it.close()


def by_hand(outbox, place, clock=None, **more):
    return Courier(outbox, place, clock=clock or Clock(), chance=lambda: 0.0, start=False, **more)


def test_failures_wait_longer_each_time_and_keep_the_order(outbox, caplog):
    down = Reply("again", "HTTP 503")
    place, clock = Place(Reply("sent"), down, down, down, down), Clock()
    courier = by_hand(outbox, place, clock, backoff=Backoff(1.0, 5.0, 0.5))
    for frame in range(3):
        courier.write(event(frame))
    assert courier.step() == 0.0
    waits = []
    for _ in range(4):
        wait_s = courier.step()
        assert wait_s is not None
        assert courier.step() == pytest.approx(wait_s)  # before it is time nothing is sent
        waits.append(wait_s)
        clock.now_s += wait_s
    assert waits == [1.0, 2.0, 4.0, 5.0]
    state = courier.state()
    assert (state.name, state.sent, state.waiting, state.error) == ("webhook https://there.example", 1, 2, "HTTP 503")
    assert [courier.step(), courier.step(), courier.step()] == [0.0, 0.0, None]
    assert place.got == [0, 1, 2]
    state = courier.state()
    assert (state.sent, state.waiting, state.refused, state.lost, state.error) == (3, 0, 0, 0, None)
    assert [record.getMessage() for record in caplog.records] == [
        "https://there.example: HTTP 503; events wait in the outbox",
        "https://there.example answers again",
    ]


def test_the_wait_that_a_server_asks_for_is_heeded(outbox):
    place, clock = Place(Reply("again", "HTTP 429", 30.0)), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(event(0))
    assert courier.step() == 30.0
    courier.write(event(1))  # a new event is no reason to come earlier
    assert courier.step() == 30.0
    clock.now_s += 30
    assert [courier.step(), courier.step()] == [0.0, 0.0]
    assert place.got == [0, 1]


def test_a_refused_event_does_not_hold_up_the_others_and_is_tried_in_the_next_run(outbox, caplog):
    no = Reply("refused", "HTTP 401 Unauthorized")
    courier = by_hand(outbox, Place(no, Reply("sent"), no, no))
    for frame in range(4):
        courier.write(event(frame))
    assert [courier.step() for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, None]
    assert (courier.state().sent, courier.state().refused, courier.state().waiting) == (1, 3, 0)
    assert sum("refused by" in record.getMessage() for record in caplog.records) == 2  # not again for the same in a row
    courier.close()
    place = Place()
    courier = by_hand(outbox, place)
    assert courier.state().waiting == 3
    assert "3 events of an earlier run wait for https://there.example, 3 of them were refused then" in caplog.text
    while courier.step() is not None:
        pass
    assert place.got == [0, 2, 3]


def test_a_bug_in_a_transport_does_not_end_delivery(outbox):
    place, clock = Place(ZeroDivisionError("oh")), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(event(0))
    assert courier.step() == 1.0
    assert courier.state().error == "ZeroDivisionError: oh"
    clock.now_s += 1
    assert courier.step() == 0.0
    assert place.got == [0]


@pytest.mark.parametrize("trouble", [Reply("again", "HTTP 500", answered=True), ValueError("Invalid header value")])
def test_a_letter_that_its_receiver_cannot_bear_is_set_aside_in_the_end(outbox, trouble):
    place, clock = Place(*[trouble] * 40), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(event(0))
    courier.write(event(1))
    while not courier.state().refused:
        clock.now_s += courier.step() or 0.0
        assert clock.now_s < 1000.0 + 2 * 3600
    assert 40 - len(place.replies) >= 10
    assert clock.now_s >= 1000.0 + 3600  # a server that is broken for a while loses nothing by it
    place.replies.clear()
    while courier.step() is not None:
        pass
    assert (place.got, courier.state().refused, courier.state().waiting) == ([1], 1, 0)


def test_a_server_that_is_away_is_waited_for_however_long_it_takes(outbox):
    place, clock = Place(*[Reply("again", "HTTP 503")] * 400), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(event(0))
    while (wait_s := courier.step()) is not None:
        clock.now_s += wait_s
    assert (place.got, courier.state().refused) == ([0], 0)
    assert clock.now_s > 100_000


def test_an_event_that_was_sent_is_not_sent_again_though_the_disk_is_full(outbox):
    place = Place()
    courier = by_hand(outbox, place)
    courier.write(event(0))
    outbox._connection.execute("PRAGMA query_only = ON")
    assert [courier.step(), courier.step()] == [0.0, None]
    courier.write(event(1))
    assert [courier.step(), courier.step()] == [0.0, None]
    assert place.got == [0, 1]
    assert courier.state().waiting == 0
    outbox._connection.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_waits_double_up_to_a_bound_less_a_random_share(chance):
    backoff = Backoff(first_s=2.0, longest_s=100.0, jitter=0.25)
    waits = [backoff.wait_s(failures, chance) for failures in (1, 2, 3, 6, 7, 1000)]
    assert waits == [wait * (1 - 0.25 * chance) for wait in (2.0, 4.0, 8.0, 64.0, 100.0, 100.0)]


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.0), (2.0, 1.0, 0.0), (1.0, 2.0, 1.5)])
def test_waits_that_cannot_be_are_refused(values):
    with pytest.raises(ConfigError, match="wait between tries"):
        Backoff(*values)


def test_the_thread_wakes_for_new_events_and_finish_waits_for_them(outbox):
    place = Place()
    courier = Courier(outbox, place)
    for frame in range(20):
        courier.write(event(frame))
    courier.finish(10)
    assert place.got == list(range(20))
    assert place.closed
    assert (courier.state().sent, courier.state().waiting) == (20, 0)


def test_a_destination_that_hangs_delays_neither_the_loop_nor_the_end(outbox):
    hanging = threading.Event()
    place = Place()

    def hang():
        hanging.set()
        assert place.aborted.wait(10)
        return Reply("again", "aborted")

    place.replies = [hang]
    courier = Courier(outbox, place)
    courier.write(event(0))
    assert hanging.wait(10)
    for frame in range(1, 5):
        courier.write(event(frame))  # returns while the thread hangs
    courier.finish(0.05)
    assert (courier.state().sent, courier.state().waiting) == (0, 5)
    assert place.closed


def test_at_the_end_it_is_tried_at_once(outbox):
    place = Place(Reply("again", "HTTP 503", 3000.0))
    courier = Courier(outbox, place)
    courier.write(event(0))
    while courier.state().error is None:
        threading.Event().wait(0.002)
    courier.hurry()
    courier.finish(10)
    assert place.got == [0]


# --- matches that could not be delivered in time


def match(frame, until_s):
    """A match that holds until then by the courier's clock; its wall clock says something else."""
    return Event(TIME, "match", frame, identity="alice", valid_until=TIME + timedelta(days=9), until_s=until_s)


class Record(Place):
    """Keeps all that it got, as (frame, event, late, id)."""

    def send(self, letter):
        reply = super().send(letter)
        if reply.outcome == "sent":
            values = json.loads(letter.body)
            self.got[-1] = (values["frame"], values["event"], values["late"], values["id"] == letter.event)
        return reply


class Whole(Place):
    """Keeps all that it got."""

    def send(self, letter):
        self.got.append(json.loads(letter.body))
        return Reply("sent")


def drain(courier, clock):
    while (wait_s := courier.step()) is not None:
        clock.now_s += wait_s


def test_a_match_that_comes_late_is_no_match_and_everything_else_is_as_it_was(outbox, caplog):
    place, clock = Record(*[Reply("again", "no network")] * 3), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(match(0, 1005.0))
    courier.write(event(1))  # holds for ever, as it says
    courier.write(match(2, 1100.0))
    drain(courier, clock)  # three failures take 1 + 2 + 4 s
    assert clock.now_s == 1007.0
    assert place.got == [(0, "late_match", True, True), (1, "match", False, True), (2, "match", False, True)]
    assert (courier.state().sent, courier.state().late, courier.state().lost) == (3, 1, 0)
    assert caplog.text.count("is sent as late_match: it could not reach https://there.example in time") == 1


@pytest.mark.parametrize(("age_s", "named"), [(4.9, "match"), (5.0, "late_match"), (5.1, "late_match")])
def test_a_match_holds_for_so_long_and_no_longer(outbox, age_s, named):
    place, clock = Record(), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(match(0, 1005.0))
    clock.now_s += age_s
    drain(courier, clock)
    assert [name for _, name, _, _ in place.got] == [named]


def test_late_matches_can_be_left_out(outbox):
    place, clock = Record(), Clock()
    courier = by_hand(outbox, place, clock, if_late="drop")
    for frame in range(3):
        courier.write(match(frame, 1005.0 + 100 * frame))
    clock.now_s += 50
    drain(courier, clock)
    assert [frame for frame, *_ in place.got] == [1, 2]
    state = courier.state()
    assert (state.sent, state.late, state.waiting, state.lost, outbox.count("webhook")) == (2, 1, 0, 0, 0)


def test_what_a_transport_finds_too_late_is_sent_again_as_late(outbox):
    place, clock = Record(Reply("late")), Clock()
    courier = by_hand(outbox, place, clock)
    courier.write(match(0, 1005.0))
    drain(courier, clock)
    assert place.got == [(0, "late_match", True, True)]


@pytest.mark.parametrize("clock_s", [0.0, 1000.0, 1e9])
def test_what_an_earlier_run_left_is_late_whatever_the_clock_says(tmp_path, clock_s):
    """After a crash and a start, with another clock, even of a match that would hold for long."""
    outbox = Outbox(tmp_path / "o")
    by_hand(outbox, Place()).write(match(0, 1e12))
    by_hand(outbox, Place()).write(event(1))
    outbox.add("webhook", "of an older version", '{"id": "of an older version", "event": "match", "frame": 2}')
    outbox.close()
    outbox, clock, place = Outbox(tmp_path / "o"), Clock(), Whole()
    clock.now_s = clock_s
    drain(by_hand(outbox, place, clock), clock)
    assert [(values["event"], values.get("late")) for values in place.got] == [
        ("late_match", True),
        ("match", False),
        ("late_match", True),
    ]
    outbox.close()


def test_a_match_that_was_refused_is_late_when_it_is_tried_again(tmp_path):
    outbox, place = Outbox(tmp_path / "o"), Record(Reply("refused", "HTTP 401"))
    courier = by_hand(outbox, place)
    courier.write(match(0, 1005.0))
    assert courier.step() == 0.0
    courier.close()
    outbox.close()
    outbox, place = Outbox(tmp_path / "o"), Record()
    drain(by_hand(outbox, place), Clock())
    assert place.got == [(0, "late_match", True, True)]
    outbox.close()


def test_times_are_forgotten_with_their_letters(tmp_path):
    outbox = Outbox(tmp_path / "o", max_bytes=3000, memory=3)
    courier = by_hand(outbox, Place(*[Reply("sent"), Reply("refused", "no")] * 20))
    for frame in range(40):
        courier.write(match(frame, 1e12))
    assert len(outbox._until_s) == outbox.count("webhook") < 10
    while courier.step() is not None:
        pass
    assert outbox._until_s == {}
    outbox.close()


@settings(max_examples=30)
@given(
    st.binary() | st.recursive(st.none() | st.text() | st.booleans(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_a_body_that_is_no_event_is_no_match(body):
    assert not late.is_perishable(body)


def test_a_late_match_differs_in_two_fields():
    line = match(3, 5.0).to_json().encode()
    assert late.is_perishable(line)
    assert not late.is_perishable(late.late(line))
    assert json.loads(late.late(line)) == json.loads(line) | {"event": "late_match", "late": True}
