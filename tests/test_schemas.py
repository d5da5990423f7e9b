"""The schemas of events and of `--json`: current, complete, held against what is really printed."""

import json
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import UnknownNameError
from edgeface.runtime.events import Event, ListSink
from edgeface.runtime.loop import run
from edgeface.runtime.sinks.file import FileSink
from edgeface.runtime.sinks.hooks import HookSettings, HookSink
from edgeface.runtime.sinks.late import late
from edgeface.runtime.sinks.lines import LinesSink
from edgeface.schema_files import read_schema, schema_names
from edgeface.schemas.generating import make_schemas
from tests.schemas import assert_printed, assert_valid, schema_of, strict
from tests.test_loop import ALICE, SETTINGS, STRANGER, People, World, still
from tests.test_runtime_bundle import write_bundle

NOW = datetime(2026, 11, 23, 18, 5, 9, 0, UTC)


def with_json(command, path=()):
    """Yield the words of every command that has --json."""
    for name, below in getattr(command, "commands", {}).items():
        yield from with_json(below, (*path, name))
    if any("--json" in parameter.opts for parameter in command.params):
        yield "-".join(path)


def test_the_files_are_current():
    """If this fails, run scripts/make_schemas."""
    assert make_schemas() == {name: read_schema(name) for name in schema_names()}


def test_every_command_with_json_has_a_schema():
    import typer.main

    assert set(with_json(typer.main.get_command(app))) | {"event"} == set(schema_names())


@pytest.mark.parametrize("name", schema_names())
def test_schemas_are_schemas_that_ask_for_something(name):
    schema = json.loads(read_schema(name))
    Draft202012Validator.check_schema(schema)
    for variant in schema.get("anyOf", [schema]):
        if "$ref" in variant:
            variant = schema["$defs"][variant["$ref"].rpartition("/")[2]]
        assert variant["properties"]["schema"] == {"const": 1, "type": "integer"}
        assert "schema" in variant["required"]
    with pytest.raises(AssertionError):
        assert_valid(name, {})
    with pytest.raises(AssertionError):
        assert_valid(name, {"schema": 1, "surprise": 2})


def test_the_command():
    printed = CliRunner().invoke(app, ["schema", "event"]).stdout
    assert printed == read_schema("event")
    assert CliRunner().invoke(app, ["schema"]).stdout.split() == list(schema_names())
    with pytest.raises(UnknownNameError, match=r"unknown schema 'events'; choose one of: .*event"):
        read_schema("events")


def test_a_command_line_names_its_schema():
    assert schema_of(["gallery", "list", "Bo", "--json"]) == "gallery-list"
    assert schema_of(["eval", "runs/a", "--json"]) == "eval"
    with pytest.raises(AssertionError):
        assert_printed(["models", "--json"], '{"schema": 1, "models": [{}], "plugins": []}\n')
    assert strict({"properties": {"a": {}}, "items": [{"properties": {}}]}) == {
        "properties": {"a": {}},
        "items": [{"properties": {}, "additionalProperties": False}],
        "additionalProperties": False,
    }


def test_what_the_loop_tells_every_sink(tmp_path):
    """All kinds of the loop's own events, as lines, a file and a command get them, and as they are told late."""
    seen = tmp_path / "hook.jsonl"
    program = tmp_path / "keep.py"
    program.write_text(f"import sys\nopen({str(seen)!r}, 'a').write(sys.stdin.read())\n")
    stream, kept = StringIO(), ListSink()
    hooks = HookSink({"match": [[sys.executable, str(program)]]}, HookSettings(timeout_s=60))
    sinks: list[Any] = [LinesSink(stream), FileSink(tmp_path / "events.jsonl"), hooks, kept]
    world = World([*still((100, ALICE), (300, STRANGER)), *still(frames=40)])
    summary = run(world.source(), world, world, People(alice=ALICE), SETTINGS, sinks)
    hooks.finish(60)
    lines = stream.getvalue().splitlines()
    assert {event.event for event in kept.events} == {"match", "unknown", "lost", "no_face"}
    assert len(lines) == len(kept.events)
    for line in [*lines, *(tmp_path / "events.jsonl").read_text().splitlines(), *seen.read_text().splitlines()]:
        assert_valid("event", json.loads(line))
        assert_valid("run", json.loads(line))
    assert seen.read_text().count('"event": "match"') == 1
    matched = next(line for line in lines if '"match"' in line)
    told = json.loads(late(matched.encode()))
    assert_valid("event", told)
    assert (told["event"], told["late"]) == ("late_match", True)
    for changes in ({"late": False}, {"event": "match"}, {"time": "yesterday"}, {"box": [1, 2, 3]}, {"schema": 2}):
        with pytest.raises(AssertionError):
            assert_valid("event", told | changes)
    assert_valid("run", json.loads(json.dumps(summary.to_json())))


def test_the_other_events():
    kinds: Any = ("rejected", "challenge", "camera_lost", "camera_back", "camera_warning", "error", "no_such")
    for name in kinds[:-1]:
        assert_valid("event", json.loads(Event(NOW, name, why="because").to_json()))
    with pytest.raises(AssertionError):
        assert_valid("event", json.loads(Event(NOW, kinds[-1]).to_json()))


def test_examples_in_the_documents():
    """Every example of docs/events.md is as its schema says, and every schema has one."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "events.md").read_text()
    parts = text.split("\n## `")[1:]
    told = [part.partition("`")[0] for part in parts]
    assert told == list(schema_names())
    for name, part in zip(told, parts, strict=True):
        block = part.partition("```json\n")[2].partition("```")[0]
        assert_valid(name, json.loads(block))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("schemas") / "b.bundle")


@pytest.mark.parametrize(
    "line",
    [
        "plugins",
        "losses",
        "bundle fetch --list",
        "bundle keygen {tmp}/r.key; bundle sign {bundle} --key {tmp}/r.key",
        "bundle inspect {bundle}",
        "bundle verify {bundle}",
        "bundle pack {bundle} {tmp}/b.zip",
        "gallery keygen {tmp}/g.key",
        "doctor --bundle {bundle} --gallery {tmp}/no.db --outbox {tmp}/no.db",
        "doctor --clear-cache",
    ],
)
def test_what_commands_print(line, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for one in line.format(tmp=tmp_path, bundle=bundle).split(";"):
        arguments = [*one.split(), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert_printed(arguments, result.stdout)
