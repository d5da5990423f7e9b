"""A web server in a thread that answers as it is told, for tests of what servers do wrong."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Any], None]


class WebServer:
    """`answers` are functions that get the request handler, in turn; then `usual` is asked.

    `requests` are (path, headers, body), `connections` counts those that were made.
    """

    def __init__(self, usual: Answer) -> None:
        outer = self
        self.answers: list[Answer] = []
        self.usual = usual
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                outer.requests.append((self.path, dict(self.headers), body))
                (outer.answers.pop(0) if outer.answers else outer.usual)(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # clients that go away are what is tested

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.place = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def say(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a status, a body and headers, in whose names an underscore is a hyphen."""

    def answer(handler: Any) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang_up(handler: Any) -> None:
    """End the connection at once."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
