"""Events to an MQTT broker: a small one in a thread, which speaks as much of MQTT as this takes."""

import json
import logging
import socket
import struct
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from edgeface.errors import ConfigError, MissingPackageError
from edgeface.runtime.events import Event
from edgeface.runtime.sinks.courier import Courier
from edgeface.runtime.sinks.mqtt import Mqtt
from edgeface.runtime.sinks.outbox import Letter, Outbox

pytest.importorskip("paho.mqtt.client")

CONNECT, CONNACK, PUBLISH, PUBACK, DISCONNECT = 1, 2, 3, 4, 14
LETTER = Letter(1, "id", b'{"event": "match"}')


class Broker:
    """Takes connections one after the other, and speaks MQTT 5, or 3.1.1 for `level` 4.

    `behaviours` says, message by message: `ack`, `silent`, `drop`, a reason code for the acknowledgement, or minus a
    reason code for the end of the connection. `shy` brokers of level 4 close the connection of who speaks MQTT 5
    without a word.
    """

    def __init__(self, refusal=0, level=5, shy=False):
        self.refusal = refusal
        self.level = level
        self.shy = shy
        self.behaviours: list[Any] = []
        self.logins = []
        self.messages = []
        self.expiries = []
        self.connections = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection, connection.makefile("rb") as stream:
                self._serve(connection, stream)

    def _serve(self, connection, stream):
        level = 4
        while (packet := self._packet(stream)) is not None:
            kind, flags, body = packet
            if kind == CONNECT:
                level = body[6]
                if level > self.level:
                    if not self.shy:
                        connection.sendall(bytes([CONNACK << 4, 2, 0, 1]))
                    return
                self.logins.append(self._login(body))
                connection.sendall(
                    bytes([CONNACK << 4, *((3, 0, self.refusal, 0) if level == 5 else (2, 0, self.refusal))])
                )
            elif kind == PUBLISH:
                (length,) = struct.unpack_from(">H", body)
                topic, identifier, rest = (
                    body[2 : 2 + length].decode(),
                    body[2 + length : 4 + length],
                    body[4 + length :],
                )
                if level == 5:
                    properties, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
                    self.expiries.append(struct.unpack(">I", properties[1:])[0] if properties[:1] == b"\2" else None)
                self.messages.append((topic, flags, rest))
                behaviour: Any = self.behaviours.pop(0) if self.behaviours else "ack"
                if behaviour == "drop":
                    return
                if behaviour == "ack":
                    connection.sendall(bytes([PUBACK << 4, 2]) + identifier)
                elif behaviour != "silent" and behaviour > 0:
                    connection.sendall(bytes([PUBACK << 4, 3]) + identifier + bytes([behaviour]))
                elif behaviour != "silent":
                    connection.sendall(bytes([DISCONNECT << 4, 1, -behaviour]))
                    return
            elif kind == DISCONNECT:
                return

    @staticmethod
    def _packet(stream):
        try:
            first = stream.read(1)
            if not first:
                return None
            length, shift = 0, 0
            while True:
                (byte,) = stream.read(1)
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            body = stream.read(length)
            if first[0] >> 4 == CONNECT and body[:6] != b"\0\4MQTT":
                return None
            return first[0] >> 4, first[0] & 0x0F, body
        except (OSError, ValueError):
            return None

    @staticmethod
    def _login(body):
        """Return protocol level, clean session, and the strings: client, user name, password."""
        level, flags, rest = body[6], body[7], body[10:]
        if level == 5:
            rest = rest[1 + rest[0] :]
        strings = []
        while rest:
            (length,) = struct.unpack_from(">H", rest)
            strings.append(rest[2 : 2 + length].decode())
            rest = rest[2 + length :]
        return level, bool(flags & 2), strings


@pytest.fixture
def broker():
    running = Broker()
    yield running
    running.close()


def open_mqtt(broker, timeout_s=5.0, **more):
    return Mqtt(f"mqtt://127.0.0.1:{broker.port}/door/events", timeout_s=timeout_s, **more)


def test_an_event_is_a_message_of_quality_1_that_the_broker_acknowledged(broker):
    mqtt = open_mqtt(broker, username="camera", password="s3cret")
    assert [mqtt.send(Letter(n, f"id {n}", b"%d" % n)).outcome for n in range(3)] == ["sent"] * 3
    mqtt.close()
    mqtt.close()
    level, clean, (client, *credentials) = broker.logins[0]
    assert (level, clean, credentials, broker.connections) == (5, True, ["camera", "s3cret"], 1)
    assert client.startswith("edgeface-")
    # Flags: quality 1, not retained, no duplicate.
    assert broker.messages == [("door/events", 0b0010, b"%d" % n) for n in range(3)]


@pytest.mark.parametrize(
    ("behaviour", "why"), [("silent", "no acknowledgement within 0.2 s"), ("drop", "the connection was lost")]
)
def test_without_an_acknowledgement_it_is_sent_again_on_a_new_connection(broker, behaviour, why):
    broker.behaviours = [behaviour]
    mqtt = open_mqtt(broker, timeout_s=0.2 if behaviour == "silent" else 5.0)
    reply = mqtt.send(LETTER)
    assert (reply.outcome, reply.why) == ("again", why)
    assert mqtt.send(LETTER).outcome == "sent"
    mqtt.close()
    assert broker.connections == 2
    assert [body for _, _, body in broker.messages] == [LETTER.body] * 2


@pytest.mark.parametrize(
    ("level", "code", "reason"),
    [(4, 4, "Bad user name or password"), (4, 5, "Not authorized"), (5, 0x86, "Bad user name or password"),
     (5, 0x87, "Not authorized")],
)  # fmt: skip
def test_a_login_that_is_refused_is_told_without_the_password(level, code, reason):
    broker = Broker(refusal=code, level=level)
    mqtt = open_mqtt(broker, username="camera", password="s3cret")
    reply = mqtt.send(LETTER)
    broker.close()
    assert reply.outcome == "again"
    assert reply.why.startswith(f"the broker refuses the connection: {reason}; check EDGEFACE_MQTT_USERNAME")
    assert "s3cret" not in reply.why
    assert broker.messages == []


def test_a_broker_that_is_down_is_tried_again():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reply = Mqtt(f"mqtt://127.0.0.1:{unused.getsockname()[1]}/t").send(LETTER)
    assert (reply.outcome, reply.why) == ("again", "Connection refused")


def test_a_broker_that_never_answers_is_left_after_the_time():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        reply = Mqtt(f"mqtt://127.0.0.1:{deaf.getsockname()[1]}/t", timeout_s=0.05).send(LETTER)
    assert (reply.outcome, reply.why) == ("again", "no answer within 0.05 s")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves that socket to Python
def test_a_broker_without_tls_behind_mqtts_gets_nothing(broker):
    mqtt = Mqtt(f"mqtts://127.0.0.1:{broker.port}/t", username="camera", password="s3cret", timeout_s=0.5)
    assert mqtt.send(LETTER).outcome == "again"
    assert (broker.logins, broker.messages) == ([], [])


def test_abort_ends_a_wait_for_an_acknowledgement(broker):
    broker.behaviours = ["silent"]
    mqtt, replies = open_mqtt(broker), []
    thread = threading.Thread(target=lambda: replies.append(mqtt.send(LETTER)))
    thread.start()
    while not broker.messages:
        threading.Event().wait(0.002)
    mqtt.abort()
    thread.join(4)
    assert [reply.outcome for reply in replies] == ["again"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://a.example/t", "does not begin with one of mqtts://, mqtt:// and a host"),
        ("mqtts://camera:hunter2@a.example/t", "put them into EDGEFACE_MQTT_USERNAME and EDGEFACE_MQTT_PASSWORD"),
        ("mqtts://a.example", "needs a topic after the host"),
        ("mqtts://a.example/", "needs a topic"),
        ("mqtts://a.example/door/+/x", "needs a topic"),
        ("mqtts://a.example/door/%23", "needs a topic"),
        ("mqtts://a.example/$SYS/x", "needs a topic"),
        ("mqtts://a.example/door?x=1", "needs a topic"),
        ("mqtts://a.example/" + "x" * 70_000, "at most 65535 bytes"),
        ("mqtt://a.example/t", "would get the password in clear; use mqtts://"),
    ],
)
def test_addresses_that_cannot_be_are_refused(url, message):
    with pytest.raises(ConfigError) as caught:
        Mqtt(url, username="camera", password="s3cret")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_password_needs_a_user_name():
    with pytest.raises(ConfigError, match="EDGEFACE_MQTT_PASSWORD needs EDGEFACE_MQTT_USERNAME"):
        Mqtt("mqtts://a.example/t", password="s3cret")


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgeface\[mqtt\]'"):
        Mqtt("mqtts://a.example/t")


def test_through_trouble_every_event_arrives_once_or_more_in_order(broker, tmp_path, caplog):
    now_s = [0.0]
    broker.behaviours = ["ack", "drop", "ack", "drop", "drop"]
    outbox = Outbox(tmp_path / "o")
    with caplog.at_level(logging.DEBUG):
        mqtt = open_mqtt(broker, username="camera", password="s3cret")
        courier = Courier(outbox, mqtt, clock=lambda: now_s[0], start=False)
        for frame in range(4):
            courier.write(Event(datetime.now(UTC), "match", frame))
        while (wait_s := courier.step()) is not None:
            now_s[0] += wait_s
    courier.close()
    outbox.close()
    assert [json.loads(body)["frame"] for _, _, body in broker.messages] == [0, 1, 1, 2, 2, 2, 3]
    assert (courier.state().sent, courier.state().waiting) == (4, 0)
    assert courier.state().name == f"mqtt mqtt://127.0.0.1:{broker.port}/door/events"
    assert "s3cret" not in caplog.text


# --- what MQTT 5 can say


@pytest.mark.parametrize(
    ("code", "outcome", "why"),
    [
        (0x00, "sent", ""),
        (0x10, "sent", ""),  # nobody subscribes to it
        (0x80, "again", "Unspecified error"),
        (0x83, "again", "Implementation specific error"),
        (0x87, "refused", "Not authorized: the broker denies this topic"),
        (0x90, "refused", "Topic Name invalid"),
        (0x97, "again", "Quota exceeded"),
        (0x99, "refused", "Payload format invalid"),
    ],
)
def test_a_message_counts_as_sent_only_if_the_broker_says_so(broker, code, outcome, why):
    broker.behaviours = [code or "ack"]
    mqtt = open_mqtt(broker)
    reply = mqtt.send(LETTER)
    assert (reply.outcome, reply.why[: len(why)]) == (outcome, why)
    assert mqtt.send(LETTER).outcome == "sent"  # and the connection is kept
    mqtt.close()
    assert broker.connections == 1


@pytest.mark.parametrize(
    ("code", "outcome", "why"),
    [
        (0x8B, "again", "the broker ended the connection: Server shutting down"),
        (0x87, "again", "the broker ended the connection: Not authorized"),
        (0x95, "refused", "Packet too large"),
    ],
)
def test_a_broker_that_ends_the_connection_says_why(broker, code, outcome, why):
    broker.behaviours = [-code]
    mqtt = open_mqtt(broker)
    reply = mqtt.send(LETTER)
    assert (reply.outcome, reply.why[: len(why)]) == (outcome, why)
    mqtt.close()


@pytest.mark.parametrize("shy", [False, True])
def test_a_broker_that_knows_only_an_older_version_gets_that_and_there_is_one_warning(shy, caplog):
    broker = Broker(level=4, shy=shy)
    broker.behaviours = ["ack", "drop", "ack"]
    mqtt = open_mqtt(broker, username="camera", password="s3cret")
    assert [mqtt.send(LETTER).outcome for _ in range(4)] == ["sent", "again", "sent", "sent"]
    mqtt.close()
    broker.close()
    assert [(level, clean) for level, clean, _ in broker.logins] == [(4, True)] * 2
    # One that closed without a word may only have been starting: it is asked for MQTT 5 again.
    assert broker.connections == (4 if shy else 3)
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        f"the broker of mqtt://127.0.0.1:{broker.port}/door/events knows only MQTT 3.1.1"
    ]
    assert "denies this topic" in caplog.text


def test_what_holds_for_a_while_expires_at_the_broker_and_is_not_sent_later(broker):
    now_s = [100.0]
    mqtt = open_mqtt(broker, steady=lambda: now_s[0])
    replies = [mqtt.send(Letter(n, "id", b"x", until_s)) for n, until_s in enumerate((104.9, 100.2, 100.0, 99.0, None))]
    mqtt.close()
    assert [reply.outcome for reply in replies] == ["sent", "sent", "late", "late", "sent"]
    assert broker.expiries == [4, 1, None]


def test_a_broker_that_consents_late_gets_no_match(broker):
    now_s = iter([100.0, 106.0])
    next(now_s)
    mqtt = open_mqtt(broker, steady=lambda: next(now_s))  # to connect took until then
    assert mqtt.send(Letter(1, "id", b"x", 105.0)).outcome == "late"
    mqtt.close()
    assert (len(broker.logins), broker.messages) == (1, [])
