"""Commands that run when something happens."""

import json
import os
import shlex
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.runtime.events import Event
from edgeface.runtime.sinks.hooks import HookSettings, HookSink, environment, parse_command, parse_hook

TIME = datetime(2026, 11, 23, 18, 5, 9, 0, UTC)
MATCH = Event(TIME, "match", 7, 2, identity="alice", score=0.61, threshold=0.41)
NASTY = "$(touch pwned); `touch pwned` | touch pwned & \"'\n--help \\ * ~ Łucja 小明"

if sys.platform == "win32":
    pytest.skip("the commands of these tests are those of Unix", allow_module_level=True)


def python(code, *arguments):
    """A command that runs a line of Python."""
    return [sys.executable, "-c", code, *arguments]


def run(commands, *events, settings=None, timeout_s=20.0):
    sink = HookSink(commands, settings)
    for event in events:
        sink.write(event)
    sink.finish(timeout_s)
    return sink.state()


def test_a_command_gets_the_facts_in_its_environment_and_the_event_on_its_input(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFACE_WEBHOOK_TOKEN", "s3cret")
    monkeypatch.setenv("EDGEFACE_WHY", "of another time")
    code = "import json, os, sys; json.dump([dict(os.environ), sys.stdin.read(), sys.argv], open(sys.argv[1], 'w'))"
    out = tmp_path / "out.json"
    state = run({"match": [python(code, str(out), "--level 3")]}, MATCH, Event(TIME, "lost", 8))
    assert (state.sent, state.refused, state.lost, state.waiting) == (1, 0, 0, 0)
    variables, line, arguments = json.loads(out.read_text())
    assert line == MATCH.to_json() + "\n"
    assert arguments == ["-c", str(out), "--level 3"]
    assert {name: value for name, value in variables.items() if name.startswith("EDGEFACE_")} == {
        "EDGEFACE_ID": MATCH.id,
        "EDGEFACE_TIME": "2026-11-23T18:05:09+00:00",
        "EDGEFACE_EVENT": "match",
        "EDGEFACE_FRAME": "7",
        "EDGEFACE_TRACK": "2",
        "EDGEFACE_IDENTITY": "alice",
        "EDGEFACE_SCORE": "0.610000",
        "EDGEFACE_THRESHOLD": "0.410000",
    }
    assert variables["PATH"] == os.environ["PATH"]


def test_no_name_can_make_a_command_do_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = parse_command("sh -c 'printf %s \"$EDGEFACE_IDENTITY\" > got'", "--on-match")
    run({"match": [command]}, Event(TIME, "match", identity=NASTY))
    assert (tmp_path / "got").read_text() == NASTY
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


@given(st.text())
def test_any_name_is_an_environment(name):
    variables = environment(Event(TIME, "match", identity=name), {"HOME": "/", "EDGEFACE_X": "y"})
    for value in variables.values():
        os.fsencode(value)
        assert "\0" not in value
    assert "EDGEFACE_X" not in variables
    if "\0" not in name:
        assert variables["EDGEFACE_IDENTITY"] == name


def test_several_commands_and_events(tmp_path):
    touch = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    commands = {
        "match": [python(touch, str(tmp_path / "a")), python(touch, str(tmp_path / "b"))],
        "lost": [python(touch, str(tmp_path / "c"))],
    }
    state = run(commands, MATCH, Event(TIME, "lost"), Event(TIME, "no_face"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert (state.name, state.sent) == ("hooks", 3)


def test_a_command_that_fails_is_told_once_in_a_row(caplog):
    state = run({"match": [python("import sys; sys.exit(3)")]}, MATCH, MATCH, settings=HookSettings(at_once=1))
    assert (state.sent, state.refused) == (0, 2)
    assert state.error == f"{sys.executable} ended with exit status 3"
    assert [record.getMessage() for record in caplog.records] == [f"a hook failed: {state.error}"]


def test_a_program_that_has_gone_is_told(tmp_path):
    state = run({"match": [[str(tmp_path / "gone")]]}, MATCH)
    assert (state.refused, state.error) == (1, f"{tmp_path / 'gone'} cannot be run: No such file or directory")


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path):
    script = tmp_path / "hang.sh"
    script.write_text("#!/bin/sh\nsleep 600 &\necho $! > child\nsleep 600\n")
    script.chmod(0o700)
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); os.execv('/bin/sh', ['sh', 'hang.sh'])"]
    state = run({"match": [command]}, MATCH, settings=HookSettings(timeout_s=1.0))
    assert (state.refused, state.error) == (1, f"{sys.executable} took longer than 1 s and was killed")
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    for _ in range(200):  # whoever inherits it must take note of its end
        if not child.exists() or "Z" in (child / "stat").read_text().split()[2]:
            break
        time.sleep(0.005)
    else:
        pytest.fail("the command's child is alive")


def test_only_so_many_run_at_once_and_wait_and_writing_never_waits(tmp_path, caplog):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    blocked = ["/bin/sh", "-c", f"read x < {shlex.quote(str(pipe))}"]
    sink = HookSink({"match": [blocked]}, HookSettings(at_once=2, waiting=3))
    for _ in range(2):
        sink.write(MATCH)
    while len(sink._running) < 2:
        time.sleep(0.002)
    for _ in range(5):
        sink.write(MATCH)
    state = sink.state()
    assert (state.sent, state.waiting, state.lost) == (0, 5, 2)
    assert "a hook is not run: 3 other events wait for one" in caplog.text
    sink.close()
    sink.close()
    while sink.state().waiting:
        time.sleep(0.002)
    assert (sink.state().sent, sink.state().refused, sink.state().lost) == (0, 2, 5)
    with pytest.raises(OSError, match="closed"):
        sink.write(MATCH)


def test_an_event_that_waited_too_long_is_not_run_any_more(tmp_path):
    now_s = [0.0]
    pipe, out = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    wait = ["/bin/sh", "-c", f"read x < {shlex.quote(str(pipe))}"]
    write = ["/bin/sh", "-c", f"echo $EDGEFACE_FRAME >> {shlex.quote(str(out))}"]
    settings = HookSettings(at_once=1, max_wait_s=5.0)
    sink = HookSink({"match": [wait], "lost": [write]}, settings, clock=lambda: now_s[0])
    sink.write(MATCH)
    while not sink._running:
        time.sleep(0.002)
    sink.write(Event(TIME, "lost", 1))
    now_s[0] = 4.0
    sink.write(Event(TIME, "lost", 2))
    now_s[0] = 6.0
    pipe.write_text("go\n")
    sink.finish(10)
    assert out.read_text() == "2\n"
    assert (sink.state().sent, sink.state().lost) == (2, 1)


@pytest.mark.parametrize(("until_s", "ran"), [(3.0, False), (9.0, True)])
def test_an_event_that_says_how_long_it_holds_goes_by_that(tmp_path, until_s, ran):
    """Also where it came to the hooks late already, as when standard output was blocked."""
    now_s = [0.0]
    sink = HookSink({"match": [python("pass")]}, HookSettings(max_wait_s=1.0), clock=lambda: now_s[0])
    now_s[0] = 5.0
    sink.write(replace(MATCH, valid_until=TIME, until_s=until_s))
    sink.finish(10)
    assert (sink.state().sent, sink.state().lost) == ((1, 0) if ran else (0, 1))


def test_a_command_knows_how_long_its_event_holds():
    event = replace(MATCH, valid_until=TIME + timedelta(seconds=5))
    assert environment(event, {})["EDGEFACE_VALID_UNTIL"] == "2026-11-23T18:05:14.000Z"
    assert "EDGEFACE_VALID_UNTIL" not in environment(MATCH, {})


def test_a_command_that_reads_nothing_and_says_much_does_no_harm(capfd):
    code = "import os; os.close(0); print('x' * 100_000)"
    state = run({"match": [python(code)]}, MATCH)
    assert state.sent == 1
    out, err = capfd.readouterr()
    assert (out, len(err)) == ("", 100_001)  # standard output is for events


def test_threads_end_with_the_sink():
    before = threading.active_count()
    sink = HookSink({"match": [python("pass")]})
    sink.finish(1)
    for _ in range(500):
        if threading.active_count() <= before:
            return
        time.sleep(0.002)
    pytest.fail("threads of hooks are alive")


# --- what is typed


def test_commands_are_split_like_in_a_shell_and_found_in_path():
    words = parse_command("sh -c 'echo \"a b\"' $HOME *", "--on-match")
    assert Path(words[0]).is_absolute()
    assert words[1:] == ["-c", 'echo "a b"', "$HOME", "*"]
    assert parse_hook("lost=sh -c a=b", "--on-event") == ("lost", [words[0], "-c", "a=b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--on-match needs a command"),
        ("  ", "--on-match needs a command"),
        ("sh -c 'open", "cannot be split into words: No closing quotation"),
        ("no-such-program-here --x", "--on-match: 'no-such-program-here' is no program that can be run"),
        ("/etc/passwd", "is no program that can be run"),
    ],
)
def test_a_command_that_cannot_run_is_refused_at_the_start(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_command(text, "--on-match")


@pytest.mark.parametrize("text", ["party=sh", "sh", "=sh", "match"])
def test_an_event_that_there_is_not_lists_those_that_there_are(text):
    with pytest.raises(UnknownNameError, match=r"unknown event in --on-event .*choose one of: .*lost, match"):
        parse_hook(text, "--on-event")


@pytest.mark.parametrize("name", ["timeout_s", "at_once", "waiting", "max_wait_s"])
def test_settings_that_cannot_be_are_refused(name):
    with pytest.raises(ConfigError, match="hooks cannot run with"):
        HookSettings(**{name: 0})
