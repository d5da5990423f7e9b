"""Cameras over HTTP, good and bad, from this machine."""

import base64
import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import parse_http_list, parse_keqv_list

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ImageError, SourceError
from edgeface.runtime.cameras import http_pictures
from edgeface.runtime.cameras.authorization import Authorization
from edgeface.runtime.cameras.capture import open_frames
from edgeface.runtime.cameras.http_pictures import MjpegStream, Snapshot
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.cameras.sources import Asked, FrameSource, find_source
from edgeface.runtime.cameras.video import Stream
from edgeface.runtime.cameras.watch import WatchSettings
from tests.web_server import Answer, WebServer, hang_up, say, self_signed

STEP = 8


def jpeg(value: int, side: int = 48) -> bytes:
    return cv2.imencode(".jpg", np.full((side, side, 3), value * STEP, np.uint8))[1].tobytes()


def value(source: FrameSource) -> int:
    frame = source.read()
    assert frame is not None
    return round(float(frame.image.mean()) / STEP)


@pytest.fixture
def server() -> Iterator[WebServer]:
    running = WebServer(say(404))
    yield running
    running.close()


def opened(server: WebServer, path: str = "/x", **more: Any) -> FrameSource:
    return find_source(f"{server.place}{path}", **more).open()


def refused(server: WebServer, *, scheme: str = "", user: str = "", **more: Any) -> str:
    """The one line that is said; no secret in it."""
    place = server.place.replace("://", f"://{user}")
    place = re.sub("^[a-z]+", scheme, place) if scheme else place
    with pytest.raises(SourceError) as caught:
        find_source(f"{place}/x?token=S3cret", **more).open()
    line = str(caught.value)
    assert "\n" not in line and "S3cret" not in line
    assert caught.value.__cause__ is None
    assert line.startswith(f"stream {place.replace(user, '***@') if user else place}/x?*** ")
    return line


def stream(
    parts: list[bytes], kind: str | None = "multipart/x-mixed-replace; boundary=frame", end: bool = True
) -> Answer:
    """An answer that goes on until the server ends it."""

    def answer(handler: Any) -> None:
        handler.send_response(200)
        if kind is not None:
            handler.send_header("Content-Type", kind)
        handler.end_headers()
        for part in parts:
            handler.wfile.write(part)
        handler.close_connection = True

    return answer


# --- streams with and without a boundary


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\r\n"),
        ("multipart/x-mixed-replace", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\r\n"),  # none is named
        ("multipart/x-mixed-replace; boundary=other", b"--frame\r\n\r\n", b"\r\n"),  # another is named
        ('multipart/x-mixed-replace;boundary="--frame"', b"--frame\n\n", b"\n"),  # dashes counted twice, bare line ends
        ("multipart/x-mixed-replace; boundary=frame", b"", b""),  # there is none
        ("multipart/x-mixed-replace; boundary=frame", b"--frame\r\nContent-Length: 3\r\n\r\n", b"\r\n"),  # a lie
        ("image/jpeg", b"", b""),
        ("image/jpeg", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\r\n"),
        (None, b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\r\n"),
        ("application/octet-stream", b"", b"\0\0\0"),
    ],
)
def test_a_stream_is_read_whatever_its_boundary(
    server: WebServer, kind: str | None, before: bytes, after: bytes
) -> None:
    server.answers = [stream([before + jpeg(number) + after for number in range(6)], kind)]
    with opened(server) as source:
        assert isinstance(source, MjpegStream)
        assert (source.live, source.fps) == (True, None)
        assert [value(source) for _ in range(6)] == list(range(6))
        with pytest.raises(SourceError, match="ended after 6 frames"):
            source.read()


def test_a_chunked_stream_is_read_as_it_comes_and_damage_is_told_picture_by_picture(server: WebServer) -> None:
    going_on = threading.Event()

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for picture in (jpeg(1), jpeg(2), jpeg(3)[:-30], jpeg(4)):
            body = b"--f\r\n\r\n" + picture
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            going_on.wait(0.01)
        going_on.wait(10)
        handler.wfile.write(b"0\r\n\r\n")

    server.answers = [answer]
    with opened(server) as source:
        assert [value(source), value(source)] == [1, 2]
        with pytest.raises(ImageError, match="cut off"):
            source.read()
        assert value(source) == 4  # while the stream goes on: no byte of the next picture is waited for
        going_on.set()
        with pytest.raises(SourceError, match="ended after 3 frames"):
            source.read()


def test_a_stream_that_drips_is_silent(server: WebServer) -> None:
    done = threading.Event()

    def drip(handler: Any) -> None:
        stream([b"--f\r\n\r\n", jpeg(1)])(handler)
        while not done.wait(0.01):
            handler.wfile.write(b"x")

    server.answers = [drip]
    with opened(server, read_timeout_s=0.3) as source:
        assert value(source) == 1
        started_s = time.monotonic()
        with pytest.raises(SourceError, match=r"was silent for 0.3 s after 1 frames"):
            source.read()
        assert time.monotonic() - started_s < 3
    done.set()


# --- one picture an answer


def test_an_address_of_single_pictures_is_asked_again_over_one_connection(server: WebServer) -> None:
    server.answers = [say(200, jpeg(number), Content_Type="image/jpeg") for number in range(5)]
    with opened(server, "/snapshot.jpg?channel=1", asked=Asked(fps=30.0)) as source:
        assert isinstance(source, Snapshot)
        assert (source.live, source.fps) == (True, 30.0)
        assert [value(source) for _ in range(5)] == list(range(5))
        with pytest.raises(SourceError, match="has nothing at this path"):
            source.read()
    assert server.connections == 1
    assert {path for path, _, _ in server.requests} == {"/snapshot.jpg?channel=1"}


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "text/plain"])
@pytest.mark.parametrize("length", [True, False])
def test_a_picture_is_known_by_what_it_is(server: WebServer, kind: str, length: bool) -> None:
    server.usual = say(200, jpeg(7), Content_Type=kind) if length else stream([jpeg(7)[:100], jpeg(7)[100:]], kind)
    with opened(server) as source:
        assert isinstance(source, Snapshot)
        assert [value(source) for _ in range(2)] == [7, 7]


def test_a_png_is_a_picture_too(server: WebServer) -> None:
    png = cv2.imencode(".png", np.full((48, 48, 3), 9 * STEP, np.uint8))[1].tobytes()
    server.usual = say(200, png, Content_Type="image/png")
    with opened(server) as source:
        assert value(source) == 9


def test_the_rate_of_asking_is_limited(monkeypatch: pytest.MonkeyPatch, server: WebServer) -> None:
    now_s = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    server.usual = say(200, jpeg(1))
    for asked, every_s in ((None, 0.2), (Asked(fps=4.0), 0.25), (Asked(fps=500.0), 1 / 30), (Asked(fps=0.001), 2.5)):
        slept.clear()
        with opened(server, asked=asked, read_timeout_s=5.0) as source:
            for _ in range(4):
                source.read()
        assert slept == pytest.approx([every_s] * 3)


def test_a_server_that_closes_each_connection_is_asked_over_new_ones(server: WebServer) -> None:
    def answer(handler: Any) -> None:
        handler.close_connection = True
        say(200, jpeg(3), Connection="close")(handler)

    server.usual = answer
    with opened(server, asked=Asked(fps=30.0)) as source:
        assert [value(source) for _ in range(3)] == [3, 3, 3]
    assert server.connections == 3


def test_a_connection_that_was_closed_while_idle_is_no_loss(server: WebServer) -> None:
    server.answers = [say(200, jpeg(1)), hang_up, say(200, jpeg(2))]
    with opened(server, asked=Asked(fps=30.0)) as source:
        assert [value(source) for _ in range(2)] == [1, 2]


def test_what_is_wrong_with_a_later_answer_is_told(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    page = say(200, b"<html>please log in</html>", Content_Type="text/html")
    cut = say(200, jpeg(1)[:-40])  # as long as it says, and no whole picture
    broken = say(200, jpeg(1)[:300], Content_Length="999")
    server.answers = [say(200, jpeg(1)), page, say(200, jpeg(1)), say(200, b"junk"), cut, say(200, jpeg(4)), broken]
    with opened(server, asked=Asked(fps=30.0), read_timeout_s=0.3) as source:
        assert value(source) == 1
        with pytest.raises(SourceError, match="answers with a web page, not with pictures, after 1 pictures"):
            source.read()
        assert value(source) == 1
        with pytest.raises(ImageError, match="not a readable picture"):
            source.read()
        with pytest.raises(ImageError, match="cut off"):
            source.read()
        assert value(source) == 4
        with pytest.raises(SourceError, match=r"was silent|broke off"):
            source.read()
        monkeypatch.setattr(http_pictures, "MAX_PICTURE", 1000)
        server.answers = [say(200, b"\xff\xd8\xff" + b"\0" * 2000)]
        with pytest.raises(SourceError, match=r"gives a picture of more than 1,000 bytes"):
            source.read()


def test_a_picture_that_stands_still_is_a_lost_camera(server: WebServer) -> None:
    server.usual = say(200, jpeg(6))
    live = LiveSettings(reconnect=False, watch=WatchSettings(frozen_after_s=0.2))
    with (
        open_frames(f"{server.place}/x", asked=Asked(fps=30.0), live=live) as source,
        pytest.raises(SourceError, match=r"repeats one picture for 0.2 s or more"),
    ):
        for _ in range(1000):
            source.read()


# --- who may see it


def basic(user: str, password: str) -> Answer:
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(handler: Any) -> None:
        if handler.headers["Authorization"] == expected:
            say(200, jpeg(5))(handler)
        else:
            say(401, b"no", WWW_Authenticate='Basic realm="cam"')(handler)

    return answer


class Digest:
    """Checks as RFC 7616 says; a nonce is good for three pictures."""

    def __init__(
        self, user: str, password: str, algorithm: str = "MD5", qop: str | None = "auth", says_stale: bool = True
    ) -> None:
        self.user, self.password, self.algorithm, self.qop = user, password, algorithm, qop
        self.says_stale = says_stale
        self.nonce, self.counts = 0, list[int]()

    def __call__(self, handler: Any) -> None:
        scheme, _, rest = (handler.headers["Authorization"] or "").partition(" ")
        given = parse_keqv_list(parse_http_list(rest)) if scheme == "Digest" else {}
        is_stale = bool(given) and (given["nonce"] != str(self.nonce) or len(self.counts) >= 3)
        if given and not is_stale and given["response"] == self.expected(given, handler.path):
            self.counts.append(int(given.get("nc", "0"), 16))
            say(200, jpeg(5))(handler)
            return
        self.nonce, self.counts = self.nonce + 1, []
        words = f'Digest realm="ca\\"m, x", nonce="{self.nonce}", opaque="o"'
        words += f', qop="{self.qop},auth-int"' if self.qop else ""
        words += f", algorithm={self.algorithm}" if self.algorithm != "MD5" else ""
        words += ", stale=true" if is_stale and self.says_stale else ""
        say(401, b"no", WWW_Authenticate=f'Basic realm="cam", {words}')(handler)

    def expected(self, given: dict[str, str], path: str) -> str:
        name = self.algorithm.removesuffix("-sess")

        def digest(text: str) -> str:
            return hashlib.new({"MD5": "md5", "SHA-256": "sha256"}[name], text.encode()).hexdigest()

        assert given["uri"] == path
        own = digest(f'{self.user}:ca"m, x:{self.password}')
        if self.algorithm.endswith("-sess"):
            own = digest(f"{own}:{given['nonce']}:{given['cnonce']}")
        request = digest(f"GET:{path}")
        if self.qop:
            return digest(f"{own}:{given['nonce']}:{given['nc']}:{given['cnonce']}:auth:{request}")
        return digest(f"{own}:{given['nonce']}:{request}")


def test_basic(server: WebServer) -> None:
    server.usual = basic("me", "p@ss:w/rd")
    with find_source(f"{server.place.replace('://', '://me:p%40ss:w%2Frd@')}/x").open() as source:
        assert [value(source), value(source)] == [5, 5]
    assert [("Authorization" in headers) for _, headers, _ in server.requests] == [False, True, True]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("algorithm", "qop", "says_stale"),
    [
        ("MD5", "auth", True),
        ("MD5", "auth", False),
        ("MD5", None, False),
        ("SHA-256", "auth", True),
        ("MD5-sess", "auth", True),
    ],
)
def test_digest(server: WebServer, algorithm: str, qop: str | None, says_stale: bool) -> None:
    camera = Digest("me", "pass", algorithm, qop, says_stale)
    server.usual = camera
    with find_source(f"{server.place.replace('://', '://me:pass@')}/x?y=1", asked=Asked(fps=30.0)).open() as source:
        assert [value(source) for _ in range(3)] == [5, 5, 5]
        assert camera.counts == ([1, 2, 3] if qop else [0, 0, 0])
        assert [value(source) for _ in range(2)] == [5, 5]  # after a new nonce
    assert camera.nonce == 2
    assert not any("pass" in str(headers) for _, headers, _ in server.requests)  # unlike with Basic, it is never sent
    assert server.connections == 1


@pytest.mark.parametrize(
    "challenge", ['Basic realm="x"', 'Digest realm="x", nonce="1", qop="auth"', "Bearer", "nonsense,,="]
)
def test_a_password_that_is_wrong_or_missing(server: WebServer, challenge: str) -> None:
    server.usual = say(401, b"S3cret is wrong", WWW_Authenticate=challenge)
    missing = (
        "wants a user name and a password (401 Unauthorized); give http://NAME:PASSWORD@..., with %XX for @ : / ? #"
    )
    assert missing in refused(server)
    assert len(server.requests) == 1
    assert "refuses the user name or the password (401 Unauthorized); check both" in refused(server, user="me:S3cret@")
    assert len(server.requests) < 5


@given(st.lists(st.text() | st.text().map(lambda text: f"Digest nonce=1, {text}"), max_size=3))
def test_any_challenge_has_an_answer_or_none(challenges: list[str]) -> None:
    authorization = Authorization("me", "S3cret")
    for _ in range(3):
        if authorization.take(challenges):
            answer = authorization.header("GET", "/")
            assert answer is not None and answer.startswith(("Digest ", "Basic "))
            assert "\n" not in answer and "\r" not in answer


@pytest.mark.parametrize("make", [basic, Digest])
def test_a_name_in_any_script(server: WebServer, make: Any) -> None:
    server.usual = make("Łucja", "小明")
    with find_source(f"{server.place.replace('://', '://Łucja:小明@')}/ż?ł=1").open() as source:
        assert value(source) == 5


# --- where it leads


def test_redirects_are_followed_and_the_password_stays_with_its_host(server: WebServer) -> None:
    other = WebServer(say(200, jpeg(8)))
    there = f"http://localhost:{other.port}/there"  # another host by its name
    server.usual = lambda handler: (say(302, Location="/b") if handler.path == "/x" else say(307, Location=there))(
        handler
    )
    with find_source(f"{server.place.replace('://', '://me:S3cret@')}/x").open() as source:
        assert value(source) == 8
    assert [path for path, _, _ in server.requests] == ["/x", "/b"]
    other.usual = say(401, WWW_Authenticate='Basic realm="x"')
    line = refused(server, user="me:S3cret@")
    assert "wants a user name and a password" in line
    assert not any("Authorization" in headers for _, headers, _ in other.requests)
    other.close()


def test_redirects_end(server: WebServer) -> None:
    server.usual = say(302, Location="/x?token=S3cret")
    assert "leads from one address to the next, more than 5 times; give the last one" in refused(server)
    assert len(server.requests) == 6
    server.usual = say(302, Location="rtsp://me:S3cret@cam/h264")
    assert "leads to rtsp://***@cam/h264; give that address" in refused(server)
    server.usual = say(302, Location="file:///etc/passwd")
    assert "leads to file:///etc/passwd, where no camera can be; check" in refused(server)


# --- what is no camera


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (say(403), "is forbidden (403 Forbidden); check what this user may see"),
        (say(404), "has nothing at this path (404 Not Found); check it in the manual"),
        (say(503), "is too busy (503 Service Unavailable); close other viewers"),
        (say(500), "answers 500 Internal Server Error; check the address and the camera"),
        (say(302), "answers 302 Found; check"),
        (say(200), "gives an empty answer; give the address of the stream or of a snapshot"),
        (say(204), "gives an empty answer"),
        (say(200, b"<!DOCTYPE html><p>hi", Content_Type="text/html; charset=utf-8"), "answers with a web page"),
        (say(200, b"\xef\xbb\xbf\r\n <HTML>", Content_Type="image/jpeg"), "answers with a web page, not with pict"),
        (say(200, b'{"error": "no"}', Content_Type="application/json"), "answers with text (application/json)"),
        (say(200, b"no such channel here", Content_Type="text/plain"), "answers with text (text/plain)"),
        (say(200, b"GIF89a" + b"\0" * 60, Content_Type="image/gif"), "gives no picture that can be read"),
        (say(200, jpeg(1)[:400], Content_Type="image/jpeg"), "gives no picture that can be read"),
        (stream([b"--f\r\n\r\n" + b"x" * 300_000]), "in which no JPEG picture begins; it must be MJPEG, check"),
        (stream([b"--f\r\nContent-Type: image/jpeg\r\n\r\n"]), "ended after 0 frames"),
        (hang_up, "cannot be opened: it closed the connection without an answer; check the address, and that"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.7\r\n"), "does not answer with HTTP; check the port"),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999), "sends a header without end"),
        (
            lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 999),
            "sends a header without end; check the address and the port",
        ),
    ],
)  # fmt: skip
def test_what_is_no_camera_is_told_by_its_kind(server: WebServer, answer: Answer, message: str) -> None:
    server.usual = answer
    assert message in refused(server, read_timeout_s=1.0, asked=Asked(fps=30.0))


@pytest.mark.parametrize(
    ("begun", "what"), [(b"", "it said nothing"), (b"HTTP/1.1 200 OK\r\n", "the header of its answer")]
)
def test_a_host_that_drips_is_left_after_the_time(server: WebServer, begun: bytes, what: str) -> None:
    done = threading.Event()

    def drip(handler: Any) -> None:
        handler.wfile.write(begun)
        while begun and not done.wait(0.01):
            handler.wfile.write(b"X: y\r\n"[:1])
        done.wait(10)

    server.usual = drip
    started_s = time.monotonic()
    line = refused(server, open_timeout_s=0.3)
    done.set()
    assert time.monotonic() - started_s < 3
    assert re.search(rf"gave no picture in 0\.\d s \(limit 0\.3 s\): {what}", line), line


def test_hosts_that_are_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        refused = "cannot be opened: Connection refused; check the port, and that the camera is on"
        for url, message in {
            f"http://me:S3cret@{nobody}/x": refused,
            f"rtsp://me:S3cret@{nobody}/x": refused,
            f"rtmp://{nobody}/x": "cannot be opened: Connection refused",
            "http://no.such.host.invalid/x": "its name cannot be looked up: ",
            "rtsp://no.such.host.invalid/x": "its name cannot be looked up: ",
            f"http://{'a' * 70}.example/x": "has a host that no name can be",
            "http:///x": "is no address; check host and port",
            "http://me:S3cr/et@host/x": "is no address; check host and port, and write @ : / ? # of a password as %XX",
        }.items():
            with pytest.raises(SourceError) as caught:
                find_source(url, open_timeout_s=2.0).open()
            assert message in str(caught.value)
            assert "S3cr" not in str(caught.value)


def test_tls(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "TLS fails (" in refused(server, scheme="https")
    certificate = self_signed(tmp_path)
    server.speak_tls(certificate)
    server.usual = say(200, jpeg(2))
    line = refused(server)
    assert "its certificate cannot be verified: self-signed certificate; name the camera's certificate" in line
    assert "SSL_CERT_FILE" in line and "--any-certificate" in line
    assert server.requests == []
    with opened(server, any_certificate=True) as source:
        assert value(source) == 2
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with opened(server) as source:
        assert value(source) == 2


def test_what_is_a_video_is_left_to_ffmpeg(server: WebServer, tmp_path: Path) -> None:
    from tests.test_sources import grey, write_video

    data = write_video(tmp_path / "a.avi", [grey(i) for i in range(5)]).read_bytes()
    server.usual = say(200, data, Content_Type="video/x-msvideo")
    with opened(server) as source:
        assert isinstance(source, Stream)
        assert source.read() is not None


# --- RTSP


class RtspServer:
    """Answers each request with the next of `answers`; keeps the requests."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.requests = list(answers), list[str]()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        request = b""
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                request += line
                if line == b"\r\n":
                    self.requests.append(request.decode())
                    is_greeting = request.startswith(b"OPTIONS")
                    answer = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n" if is_greeting else self.answer(request)
                    connection.sendall(answer)
                    request = b""

    def answer(self, request: bytes) -> bytes:
        number = re.search(rb"CSeq: *(\d+)", request)
        answer = self.answers[min(len(self.answers) - 1, request.count(b"Authorization"))]
        return answer.replace(b"CSeq: N", b"CSeq: " + (number[1] if number else b"1"))

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


CHALLENGE = b'RTSP/1.0 401 Unauthorized\r\nCSeq: N\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\n\r\n'


@pytest.mark.parametrize(
    ("user", "answers", "message"),
    [
        ("", [CHALLENGE], "wants a user name and a password (401 Unauthorized); give rtsp://NAME:PASSWORD@..."),
        ("me:S3cret@", [CHALLENGE], "refuses the user name or the password (401 Unauthorized)"),
        ("me:S3cret@", [CHALLENGE, b"RTSP/1.0 404 Not Found\r\nCSeq: N\r\n\r\n"], "has nothing at this path (404"),
        ("", [b"RTSP/1.0 403 Forbidden\r\nCSeq: N\r\n\r\n"], "is forbidden (403 Forbidden)"),
        ("", [b"RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: N\r\n\r\n"], "is too busy (453"),
        ("", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "is a web server, no RTSP server; check the port"),
        ("", [b"\x15\x03\x01\0\x02\x02\x46\r\n\r\n"], "is something else, no RTSP server"),
    ],
)  # fmt: skip
def test_what_an_rtsp_server_refuses_is_told(user: str, answers: list[bytes], message: str) -> None:
    server = RtspServer(*answers)
    with pytest.raises(SourceError) as caught:
        find_source(f"rtsp://{user}127.0.0.1:{server.port}/x", open_timeout_s=1.0, read_timeout_s=1.0).open()
    server.close()
    assert message in str(caught.value)
    assert "S3cret" not in str(caught.value) + "".join(server.requests)
    assert "\n" not in str(caught.value)
