"""A web server for the soak test that fails on order, in a process of its own, and notes which events reached it.

It reads orders from standard input, `MODE SECONDS` a line, and goes on well after each. When that ends it prints one
JSON object: how many requests there were in all, and how many met each mode. Ids go into a file, one a line, in the
order of their arrival, with the word "late" behind those of events that say they are.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any, TextIO

FAULTS = ("server down", "server hangs", "server 500", "server 429", "server cuts")
_ANSWERS = {
    "": b"HTTP/1.1 204 No Content\r\n\r\n",
    "server 500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "server 429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "server cuts": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of",
}


class Server:
    """Starts the process, gives it orders, and reads what it has to say."""

    def __init__(self, ids: Path) -> None:
        self.ids = ids
        command = [sys.executable, __file__, str(ids)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders: IO[str] = self._process.stdin
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/events"

    def fail(self, mode: str, seconds: float) -> None:
        """Let it fail in that way for so long; an earlier order ends."""
        self._orders.write(f"{seconds} {mode}\n")
        self._orders.flush()

    def stop(self) -> dict[str, int]:
        """End it; returns how many requests met each mode, "" for those that were answered well."""
        output, _ = self._process.communicate(timeout=30)
        return dict(json.loads(output))


class _Process:
    def __init__(self, ids: TextIO) -> None:
        self._ids = ids
        self._met: Counter[str] = Counter()
        self._mode, self._until_s = "", 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self._port = 0

    async def run(self) -> None:
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        await self._listen()
        print(self._port, flush=True)
        while line := await orders.readline():
            seconds, _, mode = line.decode().strip().partition(" ")
            self._mode, self._until_s = mode, time.monotonic() + float(seconds)
            if mode == "server down":
                await self._go_down(float(seconds))
        await self._go_down(0.0)
        print(json.dumps(self._met))

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listening.sockets[0].getsockname()[1]

    async def _go_down(self, seconds: float) -> None:
        assert self._listening is not None
        self._listening.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await asyncio.sleep(seconds)
        if seconds:
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request; False where the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields: dict[str, Any] = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        event = json.loads(await reader.readexactly(int(fields["content-length"])))
        mode = self._mode if time.monotonic() < self._until_s else ""
        self._met[mode] += 1
        if mode == "server hangs":
            await asyncio.sleep(self._until_s - time.monotonic())
            return False
        if mode in ("", "server cuts"):  # which has taken the event, but the sender does not know
            assert event["id"] == fields["webhook-id"]
            self._ids.write(event["id"] + (" late\n" if event["late"] else "\n"))
            self._ids.flush()
        writer.write(_ANSWERS[mode])
        await writer.drain()
        return mode != "server cuts"


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        asyncio.run(_Process(file).run())
