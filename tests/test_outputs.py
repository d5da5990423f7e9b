"""The outputs that the options of `edgeface run` ask for, together."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from edgeface.commands import outputs as module
from edgeface.commands.outputs import OutputOptions, Outputs, print_states
from edgeface.errors import ConfigError, EdgefaceError
from edgeface.runtime.clock import steady_s
from edgeface.runtime.events import Event, FanOut, SinkState
from tests.test_webhook import Server
from tests.web_server import say

TIME = datetime(2026, 11, 23, 18, 5, 9, 0, UTC)
NOTHING = OutputOptions(
    as_json=False,
    quiet=True,
    record=None,
    record_minutes=None,
    events=None,
    events_max_bytes=None,
    events_keep=5,
    events_sync=False,
    webhook=None,
    mqtt=None,
    outbox=None,
    outbox_max_bytes=10**6,
    flush=0.05,
    late_match="mark",
    on_match=None,
    on_event=None,
    hook_timeout=10.0,
    snapshots=None,
    snapshots_keep=10,
    snapshots_of="face",
    snapshots_unknown=False,
    snapshots_show_others=False,
)


def asked(**options):
    return Outputs(replace(NOTHING, **options))


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def write(outputs, count=3):
    """Write events as the loop does, finish, and return the states by their first word."""
    fan = FanOut(outputs.sinks)
    for frame in range(count):
        fan.write(Event(TIME, "match", frame, identity="alice"))
    states = fan.states()
    outputs.finish()
    return {state.name.split()[0]: state for state in outputs.states(states)}


def test_what_cannot_be_delivered_waits_for_the_next_run(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EDGEFACE_WEBHOOK_TOKEN", "s3cret-token")
    server.answers = [say(503)] * 100
    outbox = tmp_path / "outbox.db"
    with asked(webhook=server.url, outbox=outbox, events=tmp_path / "e") as outputs:
        states = write(outputs)
    assert (states["webhook"].sent, states["webhook"].waiting, states["webhook"].lost) == (0, 3, 0)
    assert states["file"].sent == 3
    assert f"3 events for http://127.0.0.1:{server.port} wait in {outbox}" in caplog.text

    server.answers.clear()
    server.requests.clear()
    with asked(webhook=server.url, outbox=outbox, flush=10.0) as outputs:
        states = write(outputs, count=1)
    assert (states["webhook"].sent, states["webhook"].waiting) == (4, 0)
    assert [json.loads(body)["frame"] for _, _, body in server.requests] == [0, 1, 2, 0]
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {"Bearer s3cret-token"}
    assert "3 events of an earlier run wait" in caplog.text
    assert "s3cret" not in caplog.text


def test_without_a_place_of_its_own_the_outbox_is_in_the_users_data(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.console, "default_outbox", lambda: tmp_path / "data" / "outbox.db")
    with asked(webhook=server.url, flush=10.0) as outputs:
        assert write(outputs)["webhook"].sent == 3
    assert (tmp_path / "data" / "outbox.db").exists()


def test_webhook_and_mqtt_share_the_outbox_and_nothing_else(server, tmp_path, caplog):
    pytest.importorskip("paho.mqtt.client")
    with asked(webhook=server.url, mqtt="mqtt://127.0.0.1:1/t", outbox=tmp_path / "o", flush=0.5) as outputs:
        states = write(outputs)
    assert (states["webhook"].sent, states["webhook"].waiting) == (3, 0)
    assert (states["mqtt"].sent, states["mqtt"].waiting, states["mqtt"].error) == (0, 3, "Connection refused")


@pytest.mark.parametrize("as_json", [True, False])
def test_with_standard_output_closed_the_other_outputs_go_on(tmp_path, monkeypatch, as_json):
    monkeypatch.setattr("sys.stdout", None)  # as Python has it after `>&-`
    with asked(events=tmp_path / "e", quiet=False, as_json=as_json) as outputs:
        assert write(outputs)["file"].sent == 3


def test_what_cannot_be_used_is_refused_and_leaves_nothing_open(server, tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    for options in (
        {"events": below},
        {"snapshots": below},
        {"on_match": ["no-such-program-here"]},
        {"on_event": ["party=sh"]},
        {"mqtt": "mqtt://host-without-topic"},
        {"record_minutes": 5.0},
        {"record_minutes": 0.0, "record": tmp_path / "out.mkv"},
    ):
        with pytest.raises(EdgefaceError):
            asked(webhook=server.url, outbox=tmp_path / "o", **options)
    with asked(webhook=server.url, outbox=tmp_path / "o"):  # nobody else holds it
        pass
    with pytest.raises(ConfigError, match="holds credentials"):
        asked(webhook="https://me:pw@a.example/")


def test_hooks_for_matches_and_other_events(tmp_path):
    out = tmp_path / "out"
    command = f"sh -c 'echo $EDGEFACE_EVENT $EDGEFACE_FRAME >> {out}'"
    with asked(on_match=[command], on_event=[f"lost={command}"], flush=10.0) as outputs:
        (sink,) = outputs.sinks
        sink.write(Event(TIME, "lost", 9))
        assert write(outputs, count=1)["hooks"].sent == 2
    assert sorted(out.read_text().splitlines()) == ["lost 9", "match 0"]


def test_a_recording_and_snapshots_are_told_beside_the_sinks(tmp_path):
    with asked(record=tmp_path / "out.avi", record_minutes=1.0, snapshots=tmp_path / "s") as outputs:
        opened = outputs.recorder(None)
        assert opened is not None
        opened((64, 48)).close()
        states = write(outputs)
    assert set(states) == {"recording", "snapshots"}
    assert outputs.snapshots is not None
    with asked() as outputs:
        assert outputs.recorder(25.0) is None
        assert (outputs.sinks, outputs.snapshots, outputs.states(())) == ([], None, ())


def test_what_a_sink_did_not_take_stays_counted(capsys):
    with asked(quiet=False) as outputs:
        (state,) = outputs.states((SinkState("standard output", sent=1, lost=2, error="disk full"),))
    assert state.lost == 2


def test_the_table_names_what_waits_and_is_left_out_where_there_is_only_a_terminal(capsys):
    print_states((SinkState("standard output", sent=9),))
    assert capsys.readouterr().out == ""
    print_states((SinkState("standard output", sent=9), SinkState("webhook https://a", 4, 3, 2, 1, "HTTP 503")))
    header, _, row, note = capsys.readouterr().out.splitlines()
    assert header.split() == ["output", "done", "waiting", "refused", "lost", "late", "last", "error"]
    assert row.split() == ["webhook", "https://a", "4", "3", "2", "1", "0", "HTTP", "503"]
    assert "the next run" in note


def test_nothing_of_the_network_is_imported_where_nobody_asks_for_it():
    import subprocess
    import sys

    code = (
        "import sys; from tests.test_outputs import asked\n"
        "ours = 'edgeface.runtime.sinks.'\n"
        "for name in [n for n in sys.modules if n.startswith(('http', 'ssl', 'paho', ours))]: del sys.modules[name]\n"
        "asked(quiet=False, as_json=True).close()\n"
        "print(*[n for n in sys.modules if n.split('.')[0] in ('http', 'paho') or n.startswith(ours)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "edgeface.runtime.sinks.lines"


def test_logs_of_a_failing_run_hold_no_secret(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EDGEFACE_WEBHOOK_TOKEN", "s3cret-token")
    monkeypatch.setenv("EDGEFACE_WEBHOOK_SECRET", "s3cret-key")
    server.answers = [say(401, b"s3cret-token is wrong"), say(302, Location="https://a:s3cret@b.example/?s3cret=1")]
    with caplog.at_level(logging.DEBUG), asked(webhook=server.url, outbox=tmp_path / "o", flush=10.0) as outputs:
        states = write(outputs)
    assert states["webhook"].refused == 2
    assert "s3cret" not in caplog.text + str(states)


NASTY = "eve\nframe 9, track 9: match alice\x1b[2J\x9b31m\r\u202e\udc80"


def test_no_name_can_write_a_line_of_its_own_or_command_a_terminal(tmp_path, capsys):
    """Such a name can be in a gallery that somebody tampered with."""
    shots = tmp_path / "shots"
    with asked(quiet=False, events=tmp_path / "e", snapshots=shots) as outputs:
        for sink in outputs.sinks:
            sink.write(Event(TIME, "match", 3, 1, identity=NASTY, runner_up=NASTY, why=NASTY, score=0.5, threshold=0.4))
        assert outputs.snapshots is not None
        assert not list(shots.iterdir())  # names of pictures are made of times and numbers only
    spoken = capsys.readouterr().out
    assert spoken.count("\n") == 1
    assert spoken.rstrip("\n").isprintable()
    assert spoken.startswith("frame 3, track 1: match eve\\nframe 9")
    line = (tmp_path / "e").read_bytes()
    assert line.isascii() and line.count(b"\n") == 1
    assert json.loads(line)["identity"] == NASTY.replace("\udc80", "\ufffd")


def test_a_match_that_comes_late_is_sent_as_what_it_is_or_not_at_all(server, tmp_path):
    gone = replace(Event(TIME, "match", 1, identity="alice"), valid_until=TIME, until_s=steady_s() - 1.0)
    for policy, told in (("mark", ["late_match"]), ("drop", [])):
        server.requests.clear()
        out = tmp_path / policy
        hook = f"sh -c 'echo opened >> {out}'"
        options = {"late_match": policy, "on_match": [hook], "events": tmp_path / f"{policy}.jsonl"}
        with asked(webhook=server.url, outbox=tmp_path / f"{policy}.db", flush=10.0, **options) as outputs:
            fan = FanOut(outputs.sinks)
            fan.write(gone)
            states = fan.states()
            outputs.finish()
            after = {state.name.split()[0]: state for state in outputs.states(states)}
        assert [json.loads(body)["event"] for _, _, body in server.requests] == told
        assert (after["webhook"].sent, after["webhook"].late, after["webhook"].lost) == (len(told), 1, 0)
        assert (after["hooks"].sent, after["hooks"].lost, out.exists()) == (0, 1, False)
        # The record keeps what was found out, and when.
        assert json.loads((tmp_path / f"{policy}.jsonl").read_text())["event"] == "match"
