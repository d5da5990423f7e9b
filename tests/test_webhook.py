"""Events to a web server, with everything that a server can do wrong."""

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.runtime.events import Event
from edgeface.runtime.sinks import promptness, webhook
from edgeface.runtime.sinks.courier import Courier
from edgeface.runtime.sinks.credentials import secret
from edgeface.runtime.sinks.outbox import Letter, Outbox
from edgeface.runtime.sinks.webhook import Webhook, _retry_after_s, signature
from tests.web_server import WebServer, hang_up, say, self_signed

BODY = b'{"event": "match"}'
LETTER = Letter(1, "3f2b6c1e-0000-4000-8000-000000000001", BODY)


class Server(WebServer):
    """A web server that says 204 where it is not told otherwise."""

    def __init__(self):
        super().__init__(say(204))
        self.url = f"{self.place}/hook?door=1"


def break_off(handler):
    """Promise more than comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"not all")
    hang_up(handler)


def talk_nonsense(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.7\r\n")
    hang_up(handler)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def hook(server):
    with_it = Webhook(server.url, token="s3cret-token", timeout_s=5.0)
    yield with_it
    with_it.close()


# --- what is sent


def test_one_event_is_one_request_with_its_id_and_the_connection_is_kept(server, hook):
    replies = [hook.send(Letter(number, f"id {number}", b"%d" % number)) for number in range(3)]
    assert [reply.outcome for reply in replies] == ["sent"] * 3
    assert server.connections == 1
    assert [(path, body) for path, _, body in server.requests] == [("/hook?door=1", b"%d" % n) for n in range(3)]
    headers = server.requests[1][1]
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == headers["webhook-id"] == "id 1"
    assert headers["Authorization"] == "Bearer s3cret-token"
    assert "webhook-signature" not in headers


def test_the_signature_is_that_of_the_standard_webhooks_specification(server):
    # The example of the specification's own libraries.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    known = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert known == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    hook = Webhook(server.url, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", clock=lambda: 1614265330.9)
    assert hook.send(LETTER).outcome == "sent"
    other = Webhook(server.url, secret="plain words", clock=lambda: 5.0)
    assert other.send(LETTER).outcome == "sent"
    other.close()
    headers = [headers for _, headers, _ in server.requests]
    signed = f"{LETTER.event}.1614265330.".encode() + BODY
    assert headers[0]["webhook-timestamp"] == "1614265330"
    for row, (secret_key, text) in enumerate([(key, signed), (b"plain words", f"{LETTER.event}.5.".encode() + BODY)]):
        expected = base64.b64encode(hmac.new(secret_key, text, hashlib.sha256).digest()).decode()
        assert headers[row]["webhook-signature"] == f"v1,{expected}"
    hook.close()


# --- what a server can answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "sent"), (201, "sent"), (204, "sent"), (304, "refused"), (400, "refused"), (401, "refused"),
     (404, "refused"), (408, "again"), (410, "refused"), (413, "refused"), (422, "refused"), (425, "again"),
     (429, "again"), (500, "again"), (502, "again"), (503, "again"), (599, "again")],
)  # fmt: skip
def test_what_a_status_means(server, hook, status, outcome):
    server.answers = [say(status, b"" if status in (204, 304) else b"token s3cret-token is wrong")]
    reply = hook.send(LETTER)
    assert reply.outcome == outcome
    assert reply.answered == (status in (500, 599))
    if outcome != "sent":
        assert reply.why.startswith(f"HTTP {status}")
        assert "s3cret" not in reply.why


@pytest.mark.parametrize(
    ("date", "year"),
    [("Mon, 23 Nov 2026 18:05:09 GMT", 1970), ("nonsense", 2026)],
    ids=["by the server's clock", "by our own"],
)
def test_retry_after_is_heeded_in_seconds_and_as_a_date(server, hook, monkeypatch, date, year):
    monkeypatch.setattr(server.server.RequestHandlerClass, "date_time_string", lambda *_: date)
    server.answers = [say(429, Retry_After="7"), say(503, Retry_After="Mon, 23 Nov 2026 18:05:39 GMT")]
    hook._clock = datetime(year, 11, 23, 18, 5, 9, tzinfo=UTC).timestamp
    assert [hook.send(LETTER).after_s for _ in range(2)] == [7.0, 30.0]


@given(st.text(max_size=20) | st.integers().map(str))
def test_any_retry_after_is_a_wait_of_at_most_an_hour(text):
    assert 0 <= _retry_after_s(text, 1e9) <= 3600


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (hang_up, "closed the connection without an answer"),
        (break_off, "broke off (IncompleteRead)"),
        (talk_nonsense, "is no HTTP or broke off (BadStatusLine)"),
    ],
)
def test_an_answer_that_is_none_is_tried_again(server, hook, answer, why):
    server.answers = [answer]
    reply = hook.send(LETTER)
    assert (reply.outcome, why in reply.why) == ("again", True), reply
    assert hook.send(LETTER).outcome == "sent"


def test_a_connection_that_the_server_closed_while_idle_is_no_failure(server, hook):
    assert hook.send(LETTER).outcome == "sent"
    server.answers = [hang_up]
    assert hook.send(LETTER).outcome == "sent"
    assert len(server.requests) == 3


def test_a_server_that_is_down_is_tried_again(server, hook):
    port = server.port
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        reply = Webhook(f"http://127.0.0.1:{port}/").send(LETTER)
    assert (reply.outcome, reply.why) == ("again", "Connection refused")


@pytest.mark.parametrize("drips", [False, True])
def test_a_server_that_hangs_or_drips_is_left_after_the_time(server, drips):
    release = threading.Event()
    dripped: list[int] = []

    def hang(handler):
        while drips and len(dripped) < 1000 and not release.wait(0.005):
            dripped.append(handler.wfile.write(b"H"))  # each byte starts the time-out of a socket anew
        release.wait(5)

    hook = Webhook(server.url, timeout_s=0.2)
    assert hook.send(LETTER).outcome == "sent"
    server.answers = [hang, hang]
    reply = hook.send(LETTER)  # over the connection that is there
    release.set()
    assert len(server.requests) == 2
    assert (reply.outcome, reply.why) == ("again", "no answer within 0.2 s")
    assert len(dripped) < 100


def test_abort_ends_a_send_that_hangs(server, hook):
    asked, release = threading.Event(), threading.Event()

    def hang(handler):
        asked.set()
        release.wait(5)

    server.answers = [hang]
    replies = []
    thread = threading.Thread(target=lambda: replies.append(hook.send(LETTER)))
    thread.start()
    assert asked.wait(5)
    hook.abort()
    thread.join(3)
    release.set()
    assert [(reply.outcome, reply.why) for reply in replies] == [("again", "no answer before the end of the run")]


def test_a_long_answer_is_not_read_to_its_end(server, hook):
    server.answers = [say(200, b"x" * 200_000)]
    assert hook.send(LETTER).outcome == "sent"
    assert hook.send(LETTER).outcome == "sent"
    assert server.connections == 2


# --- redirects


def test_a_redirect_on_the_same_server_keeps_method_body_and_token(server, hook):
    server.answers = [say(308, Location="/moved?x=1"), say(307, Location=server.url + "&again=1")]
    assert hook.send(LETTER).outcome == "sent"
    assert [path for path, _, _ in server.requests] == ["/hook?door=1", "/moved?x=1", "/hook?door=1&again=1"]
    assert all(body == BODY and headers["Authorization"] for _, headers, body in server.requests)


def test_redirects_to_other_servers_are_not_followed(server, hook):
    other = Server()
    places = [
        (307, other.url),
        (308, f"http://localhost:{server.port}/"),  # another name is another server
        (307, f"https://127.0.0.1:{server.port}/"),
        (302, "/same"),  # would become a GET
        (308, "//[broken"),
    ]
    for status, place in places:
        server.answers = [say(status, Location=place)]
        reply = hook.send(LETTER)
        assert reply.outcome == "refused"
        assert "not followed" in reply.why
    server.answers = [say(302, Location="https://user:pass@evil.example/?token=abc")]
    assert "pass" not in hook.send(LETTER).why
    server.answers = [say(307, Location="/round")] * 10
    assert hook.send(LETTER).why == "more than 3 redirects"
    assert other.requests == []
    other.close()


# --- what holds only for a while


def test_a_match_whose_time_is_over_before_it_can_leave_is_not_sent(server):
    now_s = iter([100.0, 103.0, 105.0, 105.0])
    hook = Webhook(server.url, steady=lambda: next(now_s))
    letters = [Letter(number, "id", BODY, 105.0) for number in range(4)]
    assert [hook.send(letter).outcome for letter in letters] == ["sent", "sent", "late", "late"]
    hook.close()
    assert len(server.requests) == 2


def test_its_age_counts_once_the_connection_is_there(server):
    """To look up a name and to connect may take longer than a match holds."""
    now_s = [100.0]

    class Slow(Webhook):
        def _connect(self):
            now_s[0] += 7.0
            return super()._connect()

    hook = Slow(server.url, steady=lambda: now_s[0])
    assert hook.send(Letter(1, "id", BODY, 105.0)).outcome == "late"
    assert hook.send(Letter(1, "id", BODY)).outcome == "sent"  # over the same connection
    hook.close()
    assert (len(server.requests), server.connections) == (1, 1)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_the_kernel_does_not_deliver_what_is_given_up(monkeypatch):
    """Neither while the connection is open, which it then ends by itself, nor after it was closed."""
    body, now_s, patience, received = b"x" * 100_000, [100.0], [], [0, 0]

    def spy(connection, seconds):
        promptness.limit_delivery(connection, seconds)
        patience.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # all of it waits in the kernel

    monkeypatch.setattr(webhook, "limit_delivery", spy)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # as a network that takes no more
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        hook = Webhook(url, timeout_s=0.2, steady=lambda: now_s[0])
        for row, until_s in enumerate((104.5, None)):
            assert hook.send(Letter(1, "id", body, until_s)).outcome == "again"
            there, _ = listening.accept()
            with there, contextlib.suppress(ConnectionError):
                there.settimeout(5)
                while data := there.recv(65536):
                    received[row] += len(data)
    assert patience == [4500, 0]
    assert max(received) < len(body) / 2


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_certificates_are_verified(server, certificate, monkeypatch):
    server.speak_tls(certificate)
    url = f"https://localhost:{server.port}/hook"

    reply = Webhook(url, token="s3cret").send(LETTER)
    assert reply.outcome == "again"
    assert reply.why == "its certificate cannot be verified: self-signed certificate"
    assert server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    hook = Webhook(url, token="s3cret")
    assert hook.send(LETTER).outcome == "sent"
    hook.close()
    wrong_name = Webhook(url.replace("localhost", "127.0.0.1")).send(LETTER)
    assert "IP address mismatch" in wrong_name.why
    assert len(server.requests) == 1


# --- addresses and secrets


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a.example/", "does not begin with one of https://, http:// and a host"),
        ("a.example/hook", "does not begin with"),
        ("https:///hook", "does not begin with"),
        ("https://a.example:99999/", "is no address: Port out of range"),
        ("https://user:hunter2@a.example/", "holds credentials that others can see; put them into EDGEFACE_WEBHOOK_T"),
        ("https://a.example/a b", "holds spaces"),
        ("https://a.example/\r\nX: y", "holds spaces"),
        ("https://ä.example/", "holds spaces or other characters"),
        ("http://a.example/", "would get the token in clear; use https://"),
    ],
)  # fmt: skip
def test_addresses_that_cannot_be_are_refused(url, message):
    with pytest.raises(ConfigError) as caught:
        Webhook(url, token="t")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_place_holds_no_path_and_clear_text_is_warned_of(caplog):
    assert Webhook("https://hooks.example/services/T000/XXXX?key=abc").place == "https://hooks.example"
    assert Webhook("https://[::1]:8443/x").place == "https://::1:8443"
    assert caplog.text == ""
    Webhook("http://10.0.0.7/x")
    assert "go to 10.0.0.7 in clear" in caplog.text


@pytest.mark.parametrize(("token", "key"), [("tökén", None), (None, "whsec_not base64!")])
def test_secrets_that_cannot_be_used_are_refused_without_saying_them(token, key):
    with pytest.raises(ConfigError) as caught:
        Webhook("https://a.example/", token=token, secret=key)
    assert "EDGEFACE_WEBHOOK_" in str(caught.value)
    assert "tökén" not in str(caught.value)
    assert "not base64!" not in str(caught.value)


def test_a_secret_comes_from_a_variable_or_a_file(tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text("from a file\n")
    file.chmod(0o600)
    assert secret("X", {}) is None
    assert secret("X", {"X": " from a variable "}) == "from a variable"
    assert secret("X", {"X_FILE": str(file)}) == "from a file"
    assert caplog.text == ""
    file.chmod(0o644)
    assert secret("X", {"X_FILE": str(file)}) == "from a file"
    assert f"everybody can read the secret in {file}" in caplog.text
    assert "from a file" not in caplog.text


@pytest.mark.parametrize(
    ("variables", "content", "message"),
    [
        ({"X": "a", "X_FILE": "f"}, b"", "both X and X_FILE are set"),
        ({"X": ""}, b"", "X must hold one line, the secret"),
        ({"X": "two\nlines"}, b"", "X must hold one line"),
        ({"X_FILE": "f"}, b"two\nlines", "must hold one line"),
        ({"X_FILE": "f"}, b"\xff\xfe", "cannot be read: it is no text"),
        ({"X_FILE": "f"}, b"x" * 100_000, "is too long for a secret"),
        ({"X_FILE": "none"}, b"", "cannot be read: No such file"),
    ],
)
def test_a_secret_that_cannot_be_read_is_a_clear_error(tmp_path, monkeypatch, variables, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        secret("X", variables)


# --- the whole way


def test_through_trouble_every_event_arrives_once_or_more_in_order(server, tmp_path, caplog):
    now_s = [0.0]
    server.answers = [say(500), say(204), hang_up, break_off, say(429, Retry_After="60"), say(400), talk_nonsense]
    outbox = Outbox(tmp_path / "o")
    with caplog.at_level(logging.DEBUG):
        courier = Courier(
            outbox, Webhook(server.url, token="s3cret-token"), clock=lambda: now_s[0], chance=lambda: 0.5, start=False
        )
        events = [Event(datetime.now(UTC), "match", frame) for frame in range(6)]
        for event in events:
            courier.write(event)
        while (wait_s := courier.step()) is not None:
            now_s[0] += wait_s
    got = [json.loads(body)["frame"] for _, _, body in server.requests]
    assert got == [0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 5]
    ids = {headers["Idempotency-Key"]: json.loads(body)["id"] for _, headers, body in server.requests}
    assert [*ids] == [*ids.values()] == [event.id for event in events]
    assert now_s[0] > 60
    state = courier.state()
    assert (state.sent, state.waiting, state.refused, state.lost) == (5, 0, 1, 0)
    assert "s3cret" not in caplog.text
    assert "/hook" not in caplog.text
    courier.close()
    outbox.close()


def test_a_webhook_that_hangs_delays_nobody_who_writes(server, tmp_path):
    release = threading.Event()
    server.answers = [lambda handler: release.wait(10)]
    outbox = Outbox(tmp_path / "o")
    courier = Courier(outbox, Webhook(server.url, timeout_s=8))
    courier.write(Event(datetime.now(UTC), "match", 0))
    while not server.requests:
        time.sleep(0.002)
    for frame in range(1, 4):
        courier.write(Event(datetime.now(UTC), "match", frame))
    assert not release.is_set()  # all were taken while the request hung
    courier.finish(0.05)
    release.set()
    outbox.close()
    assert (courier.state().sent, courier.state().waiting) == (0, 4)
