"""Outboxes that hold anything, letters that cannot be sent, and what is to be seen of those that were set aside."""

import contextlib
import json
import os
import random
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import ConfigError, EdgefaceError
from edgeface.runtime.sinks.courier import Courier, Reply
from edgeface.runtime.sinks.outbox import Letter, Outbox
from edgeface.runtime.sinks.outbox_report import OutboxReport, SetAside, look_into
from edgeface.runtime.sinks.webhook import Webhook
from tests.web_server import WebServer, say

VALUES = (None, 0, -1, 2**63 - 1, 0.5, "", "x", "a\nb", "é", "a\0b", "x" * 5000, b"", b"\xff\xfe", b"\0" * 9)


class Place:
    """Takes everything but what it cannot read."""

    kind, place = "webhook", "https://there.example"

    def __init__(self) -> None:
        self.got: list[str] = []

    def send(self, letter: Letter) -> Reply:
        assert isinstance(letter.event, str) and letter.event.isprintable() and isinstance(letter.body, bytes)
        self.got.append(letter.event)
        return Reply("sent")

    def abort(self) -> None:
        """Nothing hangs."""

    def close(self) -> None:
        """Nothing is open."""


def filled(path: Path, count: int = 5) -> None:
    outbox = Outbox(path)
    for number in range(count):
        outbox.add("webhook", f"id-{number}", json.dumps({"event": "unknown", "frame": number}))
    outbox.close()


def altered(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement, values in statements:
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute(statement, values)


def deliver(path: Path) -> list[str]:
    """Deliver all that can be, as a run does; returns the ids."""
    place = Place()
    outbox = Outbox(path)
    try:
        courier = Courier(outbox, place, start=False)  # type: ignore[arg-type]
        for _ in range(20):
            if courier.step() is None:
                break
        assert courier.state().waiting == 0
    finally:
        outbox.close()
    return place.got


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("event", value) for value in (b"\xff", b"id", "a\nb", "", "é", "a\0b", "x" * 300)),
        *(("body", "text"), ("sink", b"webhook"), ("sink", "")),
    ],
)
def test_a_letter_that_cannot_be_read_holds_up_no_other(fast_path: Path, column: str, value: object) -> None:
    path = fast_path / "o"
    filled(path)
    altered(path, (f"UPDATE letters SET {column} = ? WHERE number = 2", (value,)))
    assert deliver(path) == ["id-0", "id-2", "id-3", "id-4"]
    report = look_into(path)
    assert report.refused == 1 and report.set_aside[0].why == "it cannot be read"
    assert deliver(path) == []  # nor is it tried again
    assert look_into(path).refused == 1


def test_text_that_is_none_holds_up_no_other(fast_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = fast_path / "o"
    filled(path)
    altered(path, ("UPDATE letters SET event = CAST(x'69ff' AS TEXT), sink = CAST(x'ff' AS TEXT) WHERE number = 1", ()))
    assert deliver(path) == [f"id-{number}" for number in range(1, 5)]
    assert caplog.text.count("1 events cannot be read and are set aside") == 1
    assert look_into(path).set_aside == (SetAside("unknown", "i\ufffd", "it cannot be read"),)


def test_anything_in_any_column(fast_path: Path) -> None:
    opened = 0
    for seed in range(120):
        path, pick = fast_path / str(seed), random.Random(seed)
        filled(path)
        changes = []
        for _ in range(pick.choice((1, 2, 4))):
            column = pick.choice(("number", "sink", "event", "body", "refused"))
            row = f"number = {pick.randint(1, 5)}"
            changes.append((f"UPDATE OR IGNORE letters SET {column} = ? WHERE {row}", (pick.choice(VALUES),)))
        with contextlib.suppress(sqlite3.Error):
            altered(path, *changes)
        if pick.random() < 0.4:
            data = bytearray(path.read_bytes())
            for _ in range(pick.choice((1, 5, 50))):
                data[pick.randrange(len(data))] = pick.randrange(256)
            path.write_bytes(data)
        with contextlib.suppress(EdgefaceError):
            look_into(path)
        try:
            deliver(path)
            opened += 1
            look_into(path)
        except ConfigError as error:
            assert "\n" not in str(error)
    assert opened > 40


@pytest.mark.parametrize(
    "statements",
    [
        (
            "CREATE TRIGGER t AFTER DELETE ON letters BEGIN "
            "INSERT INTO letters VALUES (NULL, 'webhook', 'x', x'', NULL); END",
        ),
        ("ALTER TABLE letters RENAME TO l", "CREATE VIEW letters AS SELECT * FROM l"),
        ("CREATE TABLE more (x)",),
    ],
)
def test_an_outbox_with_more_in_it_is_refused(fast_path: Path, statements: tuple[str, ...]) -> None:
    path = fast_path / "o"
    filled(path)
    altered(path, *((statement, ()) for statement in statements))
    with pytest.raises(ConfigError, match="is damaged or no outbox"):
        Outbox(path)


def test_what_is_no_file_is_not_waited_for(fast_path: Path) -> None:
    os.mkfifo(fast_path / "pipe")
    with pytest.raises(ConfigError, match="cannot be opened: it is no regular file"):
        Outbox(fast_path / "pipe")
    with pytest.raises(ConfigError, match="outbox not found"):
        look_into(fast_path / "pipe")


def test_an_event_that_no_request_can_be_made_of_is_set_aside_at_once(fast_path: Path) -> None:
    server = WebServer(say(200))
    hook = Webhook(server.place, timeout_s=5)
    for event in ("a\nb", "\u20ac", "\ud800"):
        reply = hook.send(Letter(1, event, b"{}"))
        assert reply.outcome == "refused" and "cannot be sent as it is" in reply.why, event
    assert hook.send(Letter(2, "b", b"{}")).outcome == "sent"
    assert [body for _, _, body in server.requests] == [b"{}"]
    hook.close()
    server.close()


def test_the_report_tells_what_waits_and_what_was_set_aside(fast_path: Path) -> None:
    path = fast_path / "o"
    filled(path, 30)
    outbox = Outbox(path)
    with pytest.raises(ConfigError, match="is used by a run; look again when it has ended"):
        look_into(path)
    for _ in range(25):
        letter = outbox.first("webhook")
        assert letter is not None
        outbox.refuse("webhook", letter, "HTTP 404 Not Found")
    outbox.close()
    report = look_into(path)
    assert report.waiting == {"webhook": 5} and report.refused == 25 and len(report.set_aside) == 20
    assert report.set_aside[0] == SetAside("webhook", "id-24", "HTTP 404 Not Found")
    before = path.read_bytes()
    result = CliRunner().invoke(app, ["doctor", "--outbox", str(path), "--json"])
    facts = json.loads(result.output)["outbox"]
    assert facts["refused"] == 25 and facts["waiting"] == {"webhook": 5} and not facts["ok"]
    assert "25 events were set aside, the last one for webhook: HTTP 404 Not Found" in facts["why"]
    assert path.read_bytes() == before
    (fast_path / "text").write_text("x" * 9000)
    with pytest.raises(ConfigError, match="cannot be read"):
        look_into(fast_path / "text")
    assert isinstance(report, OutboxReport)
