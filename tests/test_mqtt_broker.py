"""Events to a real broker: mosquitto, as Debian has it."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from getpass import getuser
from typing import Any

import pytest

from edgeface.runtime.clock import steady_s
from edgeface.runtime.events import Event
from edgeface.runtime.sinks.courier import Courier
from edgeface.runtime.sinks.mqtt import Mqtt
from edgeface.runtime.sinks.outbox import Letter, Outbox
from tests.web_server import self_signed

paho = pytest.importorskip("paho.mqtt.client")
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
if MOSQUITTO is None:
    pytest.skip("needs mosquitto", allow_module_level=True)

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402

PASSWORD = "s3cret"
CREDENTIALS: Any = {"username": "camera", "password": PASSWORD}
LETTER = Letter(1, "id", b'{"event": "match"}')


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class Mosquitto:
    """A broker with users `camera`, who may write to door/#, and `door`, who may read it."""

    def __init__(self, folder, certificate=None):
        self.port, self.tls_port = free_port(), free_port()
        self.process: Any = None
        self.folder = folder
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for user in ("camera", "door"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, PASSWORD], check=True, capture_output=True)
        (folder / "acl").write_text("user camera\ntopic write door/#\n\nuser door\ntopic read door/#\n")
        lines = [f"user {getuser()}", "allow_anonymous false", f"password_file {passwords}", f"acl_file {folder}/acl"]
        lines += [f"listener {self.port} 127.0.0.1"]
        if certificate is not None:
            lines += [f"listener {self.tls_port} 127.0.0.1", f"certfile {certificate}", f"keyfile {certificate}"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.start()

    def start(self):
        log = (self.folder / "log").open("a")
        self.process = subprocess.Popen([str(MOSQUITTO), "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log)
        log.close()
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                threading.Event().wait(0.01)
        pytest.fail("mosquitto does not start")

    def stop(self, kill=False):
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(10)

    def url(self, topic="door/events"):
        return f"mqtt://127.0.0.1:{self.port}/{topic}"


class Reader:
    """Subscribes as `door`; `messages` are (topic, body, retained). With a name, the broker keeps what it misses."""

    def __init__(self, broker, topic="door/#", name=""):
        self.messages, self.changed, self.is_ready = [], threading.Condition(), threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.username_pw_set("door", PASSWORD)
        self.client.on_connect = lambda *_: self.client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self.is_ready.set()
        self.client.on_message = self._take
        stay = Properties(PacketTypes.CONNECT)
        stay.SessionExpiryInterval = 600 if name else 0
        self.client.connect("127.0.0.1", broker.port, clean_start=not name, properties=stay)
        self.client.loop_start()
        assert self.is_ready.wait(10)

    def _take(self, client, data, message):
        with self.changed:
            self.messages.append((message.topic, message.payload, message.retain))
            self.changed.notify_all()

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, 10), self.messages
            return list(self.messages)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory, keys):
    running = Mosquitto(tmp_path_factory.mktemp("mosquitto"), keys)
    yield running
    running.stop()


def test_an_event_arrives_and_is_not_retained(broker):
    reader = Reader(broker)
    mqtt = Mqtt(broker.url(), **CREDENTIALS)
    assert [mqtt.send(Letter(n, "id", b"%d" % n)).outcome for n in range(3)] == ["sent"] * 3
    mqtt.close()
    assert reader.wait(3) == [("door/events", b"%d" % n, False) for n in range(3)]
    reader.close()
    late = Reader(broker)
    assert Mqtt(broker.url("door/other"), **CREDENTIALS).send(LETTER).outcome == "sent"
    assert late.wait(1) == [("door/other", LETTER.body, False)]  # nothing was kept for who comes later
    late.close()


def test_a_topic_that_the_broker_denies_is_no_delivery(broker, tmp_path, caplog):
    mqtt = Mqtt(broker.url("garage/events"), **CREDENTIALS)
    outbox = Outbox(tmp_path / "o")
    courier = Courier(outbox, mqtt, start=False)
    courier.write(Event(datetime.now(UTC), "unknown", 1))
    assert [courier.step(), courier.step()] == [0.0, None]
    state = courier.state()
    assert (state.sent, state.refused, state.waiting) == (0, 1, 0)
    assert "Not authorized: the broker denies this topic; let its access control list permit it" in caplog.text
    courier.close()
    # Set aside, and tried again in the next run.
    courier = Courier(outbox, Mqtt(broker.url(), **CREDENTIALS), start=False)
    assert courier.step() == 0.0
    assert courier.state().sent == 1
    courier.close()
    outbox.close()


@pytest.mark.parametrize(
    "who", [{}, {"username": "camera", "password": "wrong"}, {"username": "nobody", "password": "x"}]
)
def test_who_may_not_come_is_told_to_check_the_credentials(broker, who):
    reply = Mqtt(broker.url(), **who).send(LETTER)
    assert reply.outcome == "again"
    assert reply.why.startswith("the broker refuses the connection: ")
    assert reply.why.endswith("; check EDGEFACE_MQTT_USERNAME and EDGEFACE_MQTT_PASSWORD")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves such sockets to Python
def test_tls(broker, keys):
    reader = Reader(broker)
    url = f"mqtts://localhost:{broker.tls_port}/door/events"
    refused = Mqtt(url, **CREDENTIALS).send(LETTER)
    assert refused.outcome == "again"
    assert refused.why.startswith("its certificate cannot be verified: self-signed certificate")
    mqtt = Mqtt(url, **CREDENTIALS, context=ssl.create_default_context(cafile=keys))
    assert mqtt.send(LETTER).outcome == "sent"
    mqtt.close()
    assert len(reader.wait(1)) == 1
    reader.close()
    plain = Mqtt(f"mqtts://127.0.0.1:{broker.port}/door/events", timeout_s=2.0).send(LETTER)
    assert plain.outcome == "again"


@pytest.mark.parametrize("kill", [False, True])
def test_a_broker_that_dies_and_comes_back_gets_every_event_in_order_once_or_more(tmp_path, kill):
    broker = Mosquitto(tmp_path)
    outbox, now_s = Outbox(tmp_path / "o"), [0.0]
    courier = Courier(outbox, Mqtt(broker.url(), **CREDENTIALS, timeout_s=5.0), clock=lambda: now_s[0], start=False)
    reader = Reader(broker)

    def deliver():
        while (wait_s := courier.step()) == 0.0:
            pass
        return wait_s

    courier.write(Event(datetime.now(UTC), "unknown", 0))
    assert deliver() is None
    reader.wait(1)
    reader.close()
    broker.stop(kill)
    for frame in (1, 2):
        courier.write(Event(datetime.now(UTC), "unknown", frame))
    wait_s = deliver()
    assert wait_s is not None
    assert courier.state().waiting == 2
    broker.start()
    again = Reader(broker)
    while (wait_s := deliver()) is not None:
        now_s[0] += wait_s
    assert [json.loads(body)["frame"] for _, body, _ in again.wait(2)] == [1, 2]
    again.close()
    courier.close()
    outbox.close()
    broker.stop()


def test_a_match_reaches_nobody_late(broker, tmp_path):
    """Neither who was away when it came, nor who is there when the broker comes back too late."""
    away = Reader(broker, name="away")
    away.close()
    outbox, now_s = Outbox(tmp_path / "o"), [steady_s()]
    mqtt = Mqtt(broker.url(), **CREDENTIALS, steady=lambda: now_s[0])
    courier = Courier(outbox, mqtt, clock=lambda: now_s[0], start=False)

    def match(frame, left_s):
        now = datetime.now(UTC)
        return Event(now, "match", frame, identity="alice", valid_until=now + timedelta(seconds=left_s),
                     until_s=now_s[0] + left_s)  # fmt: skip

    courier.write(match(0, 1.0))  # passed on at once, and to who is away for a second
    courier.step()
    courier.write(match(1, 5.0))
    now_s[0] += 5.0
    courier.step()
    courier.write(Event(datetime.now(UTC), "unknown", 2))
    courier.step()
    assert (courier.state().sent, courier.state().late) == (3, 1)
    threading.Event().wait(2.1)  # the broker counts whole seconds
    back = Reader(broker, name="away")
    told = [json.loads(body) for _, body, _ in back.wait(2)]
    assert [(event["frame"], event["event"], event["late"]) for event in told] == [
        (1, "late_match", True),
        (2, "unknown", False),
    ]
    back.close()
    courier.close()
    outbox.close()
