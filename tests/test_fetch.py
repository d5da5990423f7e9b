"""Public models onto this machine, with everything that servers, mirrors and disks can do wrong."""

import json
import logging
import os
import re
import shlex
import socket
import ssl
import threading
from dataclasses import replace

import numpy as np
import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.commands.labelled import foreign_said
from edgeface.errors import BundleError, ConfigError, FetchError, UnknownNameError
from edgeface.export.presets import complete
from edgeface.files import sha256
from edgeface.runtime.fetching import download as downloading
from edgeface.runtime.fetching import fetch as fetching
from edgeface.runtime.fetching.download import ContentRange, RefusedError, content_range, download
from edgeface.runtime.fetching.fetch import default_path, fetch, fetched_file, is_there, notice_path
from edgeface.runtime.fetching.partial_file import PartialFile
from edgeface.runtime.fetching.registry import MODELS, public_model
from edgeface.runtime.inspecting.inspection import inspect_model
from tests.test_webhook import certificate
from tests.web_server import WebServer, say

__all__ = ["certificate"]  # a fixture is found by its name

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"1" * 64 + b"\nsize 12345\n"


def network():
    """Bytes of a network that adds some thousand numbers: about 12 KB."""
    shape = [1, 3, 32, 32]
    image, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "made"))
    constant = numpy_helper.from_array(np.random.default_rng(0).standard_normal(shape, np.float32), "constant")
    graph = helper.make_graph([helper.make_node("Add", ["image", "constant"], ["made"])], "g", [image], [made])
    graph.initializer.append(constant)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


DATA = network()


class Server(WebServer):
    """A web server with one file, which knows ranges."""

    def __init__(self):
        super().__init__(serve(DATA))
        self.is_closing = threading.Event()
        self.sent_bytes = 0
        self.url = f"{self.place}/m.onnx"

    @property
    def asked(self):
        """The paths and ranges of the requests."""
        return [(path, headers.get("Range")) for path, headers, _ in self.requests]

    @property
    def ranges(self):
        return [asked for _, asked in self.asked]

    def close(self):
        self.is_closing.set()
        super().close()


def serve(data):
    """As a server that knows ranges."""

    def answer(handler):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        start = int(asked[1]) if asked else 0
        if not asked:
            say(200, data)(handler)
        elif start >= len(data):
            say(416, Content_Range=f"bytes */{len(data)}")(handler)
        else:
            say(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")(handler)

    return answer


def cut(data, at, start=0):
    """Promise all and break off before the byte `at`."""

    def answer(handler):
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        handler.wfile.write(data[start:at])
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    return answer


def chunked(pieces):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    return answer


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def model():
    """A model of the registry but for its bytes; its true addresses lead nowhere."""
    nowhere = f"http://127.0.0.1:{unused_port()}/m.onnx"
    return replace(
        MODELS["yunet-2023mar"], file="m.onnx", sha256=sha256(DATA), size_bytes=len(DATA), addresses=(nowhere,)
    )


def unused_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def place(tmp_path):
    return tmp_path / "models" / "m.onnx"


def names(place):
    return sorted(path.name for path in place.parent.iterdir()) if place.parent.exists() else []


def remove(place):
    place.unlink()
    notice_path(place).unlink()


def refused(message, model, place, **options):
    """Fetching must fail with one line that matches; returns it."""
    with pytest.raises(FetchError, match=message) as caught:
        fetch(model, place, **options)
    text = str(caught.value)
    assert "\n" not in text and not place.exists() and not notice_path(place).exists()
    return text


# --- what goes well


def test_a_model_comes_whole_and_with_its_licence(server, model, place):
    steps = []
    fetched = fetch(model, place, mirror=server.url, advance=lambda done, total: steps.append((done, total)))
    assert fetched.address == server.url
    assert place.read_bytes() == DATA
    assert names(place) == ["m.onnx", "m.onnx.licence.txt"]
    text = notice_path(place).read_text()
    assert all(
        part in text
        for part in (model.sha256, model.origin, "MIT License", "Copyright (c) 2020 Shiqi Yu", "WIDER FACE")
    )
    assert server.asked == [("/m.onnx", None)]
    assert steps == sorted(steps) and steps[-1] == (len(DATA), len(DATA))


def test_what_is_there_is_not_fetched_again(server, model, place):
    fetch(model, place, mirror=server.url)
    before = place.stat().st_mtime_ns
    assert fetch(model, place, mirror=server.url).address is None
    assert len(server.requests) == 1 and place.stat().st_mtime_ns == before


@pytest.mark.parametrize("other", [b"a novel", DATA + b"!", DATA[:-1], b""])
def test_another_file_of_that_name_stays(server, model, place, other):
    place.parent.mkdir()
    place.write_bytes(other)
    with pytest.raises(FetchError, match=f"is another file: .*{model.sha256}; remove it, or give another --out"):
        fetch(model, place, mirror=server.url)
    assert place.read_bytes() == other and server.requests == []


def test_addresses_are_tried_in_order(server, model, place, caplog):
    server.answers = [say(404, b"<html>" * 1000), say(200, b"\0" * len(DATA))]
    three = replace(model, addresses=(f"{server.place}/a", f"{server.place}/b", f"{server.place}/c"))
    with caplog.at_level(logging.INFO):
        assert fetch(three, place).address == f"{server.place}/c"
    assert [path for path, _ in server.asked] == ["/a", "/b", "/c"]
    assert "/a: HTTP 404 Not Found" in caplog.text and f"/b: its SHA-256 is {sha256(bytes(len(DATA)))}" in caplog.text


def test_a_mirror_is_a_file_or_a_folder_and_the_only_address(server, model, place):
    fetch(model, place, mirror=f"{server.place}/models/")
    assert server.asked == [("/models/m.onnx", None)]
    remove(place)
    server.answers = [say(503)]
    text = refused("HTTP 503 Service Unavailable", model, place, mirror=f"{server.place}/other?key=hunter2")
    assert server.asked[1:] == [("/other?key=hunter2", None)]
    assert "hunter2" not in text and model.addresses[0] not in text


# --- resuming


def test_one_call_goes_on_where_a_connection_broke_off(server, model, place):
    server.answers = [cut(DATA, 5000), cut(DATA, 9000, start=5000)]
    fetch(model, place, mirror=server.url)
    assert server.ranges == [None, "bytes=5000-", "bytes=9000-"]
    assert place.read_bytes() == DATA and names(place) == ["m.onnx", "m.onnx.licence.txt"]


def test_a_later_call_goes_on_where_the_last_one_stopped(server, model, place):
    server.answers = [cut(DATA, 5000), cut(DATA, 5000, start=5000)]
    refused("broke off after 5000 of", model, place, mirror=server.url)
    assert names(place) == [f".m.onnx.{model.sha256[:12]}.part"]
    fetch(model, place, mirror=server.url)
    assert server.ranges == [None, "bytes=5000-", "bytes=5000-"]
    assert place.read_bytes() == DATA


def test_a_server_that_drops_everybody_is_left_after_some_connections(server, model, place):
    server.answers = [cut(DATA, 100 + 100 * n, start=100 * n) for n in range(9)]
    refused("run it again and it goes on from byte 500", model, place, mirror=server.url)
    assert len(server.requests) == 5


def test_a_server_without_ranges_starts_again(server, model, place):
    server.answers = [cut(DATA, 5000), say(200, DATA)]
    fetch(model, place, mirror=server.url)
    assert server.ranges == [None, "bytes=5000-"]
    assert place.read_bytes() == DATA


@pytest.mark.parametrize(
    "answer",
    [
        say(206, DATA[4000:], Content_Range=f"bytes 4000-{len(DATA) - 1}/{len(DATA)}"),
        say(206, DATA[5000:] + b"!", Content_Range=f"bytes 5000-{len(DATA)}/{len(DATA) + 1}"),
        say(206, DATA[5000:] + b"!", Content_Range=f"bytes 5000-{len(DATA)}/*"),
        say(206, DATA[5000:]),
        say(206, DATA[5000:], Content_Range="pages 1-2/3"),
        say(416, b"no", Content_Range="bytes */3"),
    ],
)
def test_a_part_that_does_not_fit_is_not_taken(server, model, place, answer):
    server.answers = [cut(DATA, 5000), answer]
    fetch(model, place, mirror=server.url)
    assert server.ranges == [None, "bytes=5000-", None]
    assert place.read_bytes() == DATA


@pytest.mark.parametrize("begun", [b"\0" * 5000, b"\0" * len(DATA), b"\0" * (len(DATA) + 1)])
def test_a_wrong_beginning_is_thrown_away_once(server, model, place, begun):
    place.parent.mkdir()
    (place.parent / f".m.onnx.{model.sha256[:12]}.part").write_bytes(begun)
    fetch(model, place, mirror=server.url)
    assert place.read_bytes() == DATA and server.ranges[-1] is None


def test_a_file_that_was_whole_needs_no_server(model, place):
    place.parent.mkdir()
    (place.parent / f".m.onnx.{model.sha256[:12]}.part").write_bytes(DATA)
    fetch(model, place)
    assert place.read_bytes() == DATA and names(place) == ["m.onnx", "m.onnx.licence.txt"]


def test_two_do_not_write_one_file(server, model, place):
    place.parent.mkdir()
    with PartialFile(place.parent / f".m.onnx.{model.sha256[:12]}.part"):
        refused("another process is writing", model, place, mirror=server.url)
    assert names(place) == [] and server.requests == []


# --- what servers do wrong


def test_wrong_bytes_are_deleted_and_both_hashes_named(server, model, place):
    server.usual = serve(DATA[:-1] + b"!")
    seen = sha256(DATA[:-1] + b"!")
    refused(f"its SHA-256 is {seen}, that of yunet-2023mar is {model.sha256}", model, place, mirror=server.url)
    assert names(place) == [] and len(server.requests) == 1


def test_a_file_of_another_length_is_not_read(server, model, place):
    server.usual = say(200, DATA + b"!")
    refused(
        f"a file of {len(DATA) + 1} bytes lies there; the right one has {len(DATA)}", model, place, mirror=server.url
    )
    server.usual = say(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8")
    refused("a web page of 19 bytes lies there", model, place, mirror=server.url)
    assert names(place) == []


def test_no_more_is_read_than_the_file_has(server, model, place):
    def without_end(handler):
        handler.send_response(200)
        handler.end_headers()
        while not server.is_closing.is_set():
            handler.wfile.write(b"\0" * 1000)
            server.sent_bytes += 1000

    server.usual = without_end
    most = []
    refused("its SHA-256 is", model, place, mirror=server.url, advance=lambda done, _: most.append(done))
    assert max(most) == len(DATA)


def test_chunks_will_do(server, model, place):
    server.usual = chunked([DATA[:1], DATA[1:7000], DATA[7000:]])
    fetch(model, place, mirror=server.url)
    assert place.read_bytes() == DATA
    remove(place)
    server.usual = chunked([DATA[:3000]])
    refused("broke off after 3000 of", model, place, mirror=server.url)


@pytest.mark.parametrize(
    "answer", [say(200, POINTER, Content_Type="text/plain"), chunked([POINTER[:50], POINTER[50:]])]
)
def test_a_git_lfs_pointer_is_recognised(server, model, place, answer):
    server.usual = answer
    refused("a Git LFS pointer lies there, not the file", model, place, mirror=server.url)
    assert names(place) == []


def test_a_pointer_does_not_replace_what_came_before(server, model, place):
    server.answers = [cut(DATA, 5000), serve(POINTER), say(200, POINTER)]
    refused("a Git LFS pointer", model, place, mirror=server.url)
    fetch(model, place, mirror=server.url)
    assert server.ranges == [None, "bytes=5000-", None, "bytes=5000-"]


def test_a_server_that_hangs_is_left(server, model, place):
    server.usual = lambda handler: server.is_closing.wait()
    refused(r"no answer within 0\.2 s", model, place, mirror=server.url, timeout_s=0.2)

    def hang_in_the_middle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:2000])
        server.is_closing.wait()

    server.answers = [hang_in_the_middle]
    refused(r"no answer within 0\.2 s", model, place, mirror=server.url, timeout_s=0.2)
    server.usual = serve(DATA)
    fetch(model, place, mirror=server.url)
    assert server.ranges[-1] is not None


def test_a_server_that_drips_is_left(server, model, place):
    def drip(handler):
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(DATA) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(DATA[start : start + 600])
        server.is_closing.wait()

    server.usual = drip
    ticks = iter(range(0, 10_000, 20))
    refused("bytes came in 40 s", model, place, mirror=server.url, clock=lambda: float(next(ticks)))


@pytest.mark.parametrize(
    "answer", [lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n"), lambda handler: None]
)
def test_what_is_no_web_server(server, model, place, answer):
    def and_hang_up(handler):
        answer(handler)
        handler.close_connection = True

    server.usual = and_hang_up
    refused("its answer is no HTTP|closed the connection without an answer", model, place, mirror=server.url)


# --- redirects


def test_redirects_on_the_named_server_are_followed_with_the_range(server, model, place):
    server.answers = [
        say(302, b"x" * 50, Location="/moved"),
        cut(DATA, 5000),
        say(307, Location=f"{server.place}/again"),
    ]
    fetch(model, place, mirror=server.url)
    assert server.asked == [
        ("/m.onnx", None),
        ("/moved", None),
        ("/m.onnx", "bytes=5000-"),
        ("/again", "bytes=5000-"),
    ]
    assert place.read_bytes() == DATA


def test_what_comes_with_a_redirect_is_not_read(server, model, place):
    def never_ending(handler):
        handler.send_response(302)
        handler.send_header("Location", "/moved")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"moved")
        server.is_closing.wait()

    server.answers = [never_ending]
    fetch(model, place, mirror=server.url, timeout_s=2.0)
    assert place.read_bytes() == DATA


def test_http_is_followed_nowhere_else(server, model, place):
    other = Server()
    for target in (other.url, other.url.replace("127.0.0.1", "localhost"), other.url.removeprefix("http:")):
        server.answers = [say(302, Location=f"{target}?key=hunter2")]
        text = refused("which is not https:// and is not followed", model, place, mirror=server.url)
        assert "hunter2" not in text
    assert other.requests == []
    other.close()


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/m.onnx", "data:,x", "http://[", "http://a:b/"]
)
def test_what_redirects_must_not_lead_to(server, model, place, target):
    server.answers = [say(302, Location=target)]
    refused("HTTP 302|not https://|no address", model, place, mirror=server.url)
    assert len(server.requests) == 1


def test_redirects_in_a_circle_end(server, model, place):
    server.usual = say(302, Location="/m.onnx")
    refused("too many redirects", model, place, mirror=server.url)
    assert len(server.requests) < 10


def test_https_leads_to_https_only_and_certificates_are_verified(server, certificate, tmp_path):
    plain = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    address = server.url.replace("http://127.0.0.1", "https://localhost")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with PartialFile(tmp_path / "part") as part:
        with pytest.raises(RefusedError, match="its certificate cannot be verified: self-signed certificate"):
            download(address, part, len(DATA))
        server.answers = [say(301, Location="/moved"), say(301, Location=plain.url)]
        with pytest.raises(RefusedError, match=f"leads to {plain.url}, which is not https://"):
            download(address, part, len(DATA), context=trusting)
        # Not to itself without encryption either.
        server.answers = [say(301, Location=address.replace("https://", "http://"))]
        with pytest.raises(RefusedError, match="is not https://"):
            download(address, part, len(DATA), context=trusting)
        download(address, part, len(DATA), context=trusting)
        assert part.read() == DATA
    assert plain.requests == []
    plain.close()


# --- this machine


def test_without_a_network_the_addresses_the_place_and_the_mirror_are_named(model, place):
    text = refused("could not be fetched from", model, place)
    assert model.addresses[0] in text and "Connection refused" in text
    assert str(place) in text and "--mirror" in text
    assert names(place) == []


def test_names_that_cannot_be_looked_up(model, place):
    nowhere = replace(model, addresses=("https://no-such-host.invalid/a", "https://no-such-host.invalid/b"))
    text = refused("its name cannot be looked up", nowhere, place)
    assert all(address in text for address in nowhere.addresses)


def test_a_network_that_is_not_fit_to_run_is_not_kept(server, model, place):
    rubbish = bytes(range(256)) * 10
    odd = replace(model, sha256=sha256(rubbish), size_bytes=len(rubbish))
    server.usual = serve(rubbish)
    with pytest.raises(BundleError, match=r"m\.onnx"):
        fetch(odd, place, mirror=server.url)
    assert names(place) == []


def test_places_that_cannot_be_written(server, model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FetchError, match=r"cannot write .*; see to it, or give --out"):
        fetch(model, tmp_path / "file" / "m.onnx", mirror=server.url)
    with pytest.raises(FetchError, match="is no file"):
        fetch(model, tmp_path, mirror=server.url)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "write_bytes", full)
    with pytest.raises(FetchError, match="No space left on device"):
        fetch(model, tmp_path / "m.onnx", mirror=server.url)
    monkeypatch.undo()
    # The bytes were right and are still there: no second transfer.
    fetch(model, tmp_path / "m.onnx")
    assert len(server.requests) == 1


def test_a_disk_that_fills_up_is_no_fault_of_the_server(server, model, place, monkeypatch):
    whole = PartialFile.append

    def append(part, data):
        if part.size_bytes + len(data) > 8000:
            raise FetchError("cannot write: No space left on device")
        whole(part, data)

    monkeypatch.setattr(PartialFile, "append", append)
    monkeypatch.setattr(downloading, "_BLOCK_BYTES", 1000)
    refused("^cannot write: No space", model, place, mirror=server.url)
    assert len(server.requests) == 1
    monkeypatch.undo()
    fetch(model, place, mirror=server.url)
    assert server.ranges[1] is not None and place.read_bytes() == DATA


def test_the_partial_file(tmp_path):
    path = tmp_path / "part"
    with PartialFile(path) as part:
        part.append(b"abc")
        part.append(b"def")
        assert part.size_bytes == 6
    with PartialFile(path) as part:
        assert part.size_bytes == 6 and part.read() == b"abcdef"
        part.clear()
        assert part.size_bytes == 0 and part.read() == b""
        part.append(b"xy")
        assert part.read() == b"xy"
    assert path.read_bytes() == b"xy"
    with PartialFile(path) as part:
        part.delete()
        assert not path.exists()
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FetchError, match="cannot write"):
        PartialFile(tmp_path / "link")
    with PartialFile(tmp_path / "empty"):
        pass
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("ftp://a.example/", "does not begin with https:// or http:// and a host"),
        ("/media/stick/", "does not begin with"),
        ("file:///media/stick/", "does not begin with"),
        ("https:///m", "does not begin with"),
        ("https://a.example:99999/", "is no address: Port out of range"),
        ("https://user:hunter2@a.example/", "holds credentials"),
        ("https://a.example/m y", "must be written as %XX"),
        ("https://a.example/m\r\nX: y", "must be written as %XX|is no address"),
    ],
)
def test_mirrors_that_are_none(model, place, mirror, message):
    with pytest.raises(ConfigError, match=message) as caught:
        fetch(model, place, mirror=mirror)
    assert "hunter2" not in str(caught.value) and names(place) == []


# --- Content-Range


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.none() | st.integers(0, 10**18 - 1))
def test_content_ranges_are_read_as_they_are_written(first, last, total):
    text = f"bytes {first}-{last}/{'*' if total is None else total}"
    is_one = first <= last and (total is None or last < total)
    assert content_range(text) == (ContentRange(first, last, total) if is_one else None)


@given(st.text("bytes 0123456789-/*\t,+٣", max_size=30) | st.none())
def test_no_other_text_is_a_content_range(text):
    found = content_range(text)
    if found is None:
        return
    unit, _, rest = (text or "").strip(" \t").partition(" ")
    span, _, total = rest.strip(" ").partition("/")
    first, _, last = span.partition("-")
    assert unit == "bytes" and (int(first), int(last)) == (found.first, found.last)
    assert total == "*" if found.total is None else int(total) == found.total


def test_known_content_ranges():
    assert content_range("bytes 42-1233/1234") == ContentRange(42, 1233, 1234)  # RFC 9110, section 14.4
    assert content_range("bytes 42-1233/*") == ContentRange(42, 1233, None)
    assert content_range("Bytes 0-0/1") == ContentRange(0, 0, 1)
    for text in ("bytes */1234", "bytes 5-4/10", "bytes 0-10/10", "bytes=0-1/2", "bytes 0-1", "pages 0-1/2", "", None):
        assert content_range(text) is None


# --- the registry


def test_the_registry_is_sound():
    for name, model in MODELS.items():
        assert model.name == name and re.fullmatch(r"[0-9a-f]{64}", model.sha256)
        assert len(model.addresses) >= 2 and len(set(model.addresses)) == len(model.addresses)
        for address in (*model.addresses, model.origin, model.licence.address):
            assert address.startswith("https://") and "raw.githubusercontent.com" not in address
        assert all(address.endswith(f"/{model.file}") for address in model.addresses)
        assert model.licence.name.split("-")[0] in model.licence.notice or "Apache License" in model.licence.notice
    for values in zip(*((model.sha256, model.file) for model in MODELS.values()), strict=True):
        assert len(set(values)) == len(MODELS)
    with pytest.raises(
        UnknownNameError, match="unknown public model 'yunet'; choose one of: sface-2021dec, yunet-2023"
    ):
        public_model("yunet")


def test_the_registry_holds_what_the_pointers_of_the_zoo_say():
    pointers = {
        "yunet-2023mar": ("8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", 232589),
        "yunet-2026may": ("ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0", 229738),
        "sface-2021dec": ("0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79", 38696353),
    }
    assert {name: (model.sha256, model.size_bytes) for name, model in MODELS.items()} == pointers


def test_a_true_file_passes(shared, server, place):
    model = MODELS["yunet-2026may"]
    data = (shared / "peers" / "yunet-2026may.onnx").read_bytes()
    inspect_model(data)
    server.usual = serve(data)
    fetch(model, place, mirror=server.url)
    assert is_there(model, place)


# --- the command


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "edgeface"


@pytest.fixture
def registered(model, home, monkeypatch):
    monkeypatch.setitem(MODELS, model.name, model)
    return model


def run(*arguments, **options):
    return CliRunner().invoke(app, ["bundle", "fetch", *(str(argument) for argument in arguments)], **options)


def fails(message, *arguments):
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and re.search(message, lines[0]) and "Traceback" not in result.output, result.output
    return result


def test_a_licence_has_to_be_accepted(server, registered, home, monkeypatch):
    asked = [registered.name, "--mirror", server.url]
    result = fails("has the licence MIT and there is nobody to ask; to accept it give --accept-licence", *asked)
    assert registered.licence.address in result.stderr
    monkeypatch.setattr("edgeface.commands.fetch._is_terminal", lambda: True)
    result = run(*asked, input="n\n")
    assert result.exit_code == 1 and result.stderr.endswith("was not accepted; nothing was fetched\n")
    assert "THE SOFTWARE IS PROVIDED" in result.stderr
    assert server.requests == [] and not home.exists()
    result = run(*asked, input="y\n")
    assert result.exit_code == 0, result.output
    assert default_path(registered).read_bytes() == DATA
    assert str(default_path(registered)).startswith(str(home))
    monkeypatch.undo()


def test_what_is_there_needs_no_licence_again(server, registered):
    assert run(registered.name, "--mirror", server.url, "--accept-licence").exit_code == 0
    result = run(registered.name)
    assert result.exit_code == 0 and f"{registered.name} is there already: " in result.stdout
    assert len(server.requests) == 1


def test_the_place_and_the_answer_as_json(server, registered, tmp_path):
    (tmp_path / "out").mkdir()
    options = [registered.name, "--mirror", server.url, "--accept-licence", "--json"]
    facts = json.loads(run(*options, "--out", tmp_path / "out").stdout)
    path = tmp_path / "out" / "m.onnx"
    assert path.read_bytes() == DATA
    assert (facts["path"], facts["fetched"], facts["address"]) == (str(path), True, server.url)
    assert (facts["sha256"], facts["bytes"], facts["licence"]) == (registered.sha256, len(DATA), "MIT")
    assert os.path.isfile(facts["notice"]) and facts["use"] == f"--detector {path}"
    again = json.loads(run(*options, "--out", path).stdout)
    assert (again["fetched"], again["address"]) == (False, None)


def test_errors_are_one_line(registered, tmp_path):
    fails("name a model to fetch")
    fails("unknown public model 'resnet'", "resnet")
    fails("--mirror: .*does not begin with", registered.name, "--mirror", "stick", "--accept-licence")
    fails(
        f"{registered.addresses[0]}: Connection refused.*--mirror",
        registered.name,
        "--accept-licence",
        "--timeout",
        "1",
    )
    (tmp_path / "m.onnx").write_text("x")
    fails("is another file", registered.name, "--out", tmp_path)


def test_the_list(server, registered):
    listed = json.loads(run("--list", "--json").stdout)["models"]
    assert {entry["name"] for entry in listed} == set(MODELS)
    assert not any(entry["present"] for entry in listed)
    run(registered.name, "--mirror", server.url, "--accept-licence")
    listed = json.loads(run("--list", "--json").stdout)["models"]
    assert [entry["name"] for entry in listed if entry["present"]] == [registered.name]
    table = run("--list").stdout
    assert all(name in table for name in MODELS) and "Apache-2.0" in table


def test_the_use_of_an_embedder_is_a_command_that_export_understands(server, registered, monkeypatch, tmp_path):
    embedder = replace(MODELS["sface-2021dec"], file="m.onnx", sha256=registered.sha256, size_bytes=len(DATA))
    monkeypatch.setitem(MODELS, embedder.name, embedder)
    out = tmp_path / "with a space" / "m.onnx"
    result = run(embedder.name, "--mirror", server.url, "--accept-licence", "--out", out)
    line = next(line for line in result.stdout.splitlines() if line.startswith("use: "))
    program, command, *arguments = shlex.split(line.removeprefix("use: "))
    assert (program, command) == ("edgeface", "export")
    export = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]
    given_options = export.make_context("export", arguments).params
    assert given_options["onnx"] == out
    said = foreign_said(given_options)
    assert said is not None
    preprocessing = complete(said)
    # As OpenCV's FaceRecognizerSF gives a face to SFace.
    face = np.arange(112 * 112 * 3, dtype=np.uint32).reshape(1, 112, 112, 3).astype(np.uint8)
    cv2 = pytest.importorskip("cv2")
    blob = cv2.dnn.blobFromImage(face[0, ..., ::-1].copy(), 1, (112, 112), (0, 0, 0), True, False)
    np.testing.assert_array_equal(preprocessing.apply(face), blob)


def test_a_fetched_detector_has_a_name(server, registered, tmp_path, monkeypatch):
    name = registered.name
    assert fetched_file("some/where.onnx", "detector") == fetched_file("./some/where.onnx", "detector")
    with pytest.raises(ConfigError, match=f"not on this machine yet; fetch it with: edgeface bundle fetch {name}"):
        fetched_file(name, "detector")
    with pytest.raises(ConfigError, match="sface-2021dec is a face embedder, a face detector is needed"):
        fetched_file("sface-2021dec", "detector")
    result = CliRunner().invoke(app, ["verify", "a.png", "b.png", "--detector", name])
    assert result.exit_code == 1 and "not on this machine yet" in result.stderr
    run(name, "--mirror", server.url, "--accept-licence")
    assert fetched_file(name, "detector") == default_path(registered)
    default_path(registered).write_bytes(b"something else")
    with pytest.raises(FetchError, match="is another file"):
        fetched_file(name, "detector")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"my own")
    assert str(fetched_file(name, "detector")) == name
