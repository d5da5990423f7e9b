"""Where the events of the soak test go: the project's own sinks, with a disk and a server below them that fail."""

import errno
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from soak_device import Device
from soak_server import FAULTS as SERVER_FAULTS
from soak_server import Server

from edgeface.runtime.events import Event, EventSink, SinkState
from edgeface.runtime.sinks import file
from edgeface.runtime.sinks.courier import Backoff, Courier
from edgeface.runtime.sinks.file import FileSink
from edgeface.runtime.sinks.hooks import HookSink
from edgeface.runtime.sinks.outbox import Outbox
from edgeface.runtime.sinks.webhook import Webhook

FAULTS = ("full disk", "slow disk", "no rotation", "file moved away", "outbox read-only", *SERVER_FAULTS)
_FLUSH_S = 60.0
_MAX_BYTES = 100_000  # of a file of events: there are to be many
_KEEP = 1000  # more than there will be: nothing may be thrown away


class Disk:
    """Stands for the module `os` in `edgeface.runtime.sinks.file`: a disk that is full, slow or stubborn at times."""

    def __init__(self, seed: int) -> None:
        self.refused = 0
        self.cut = 0
        self.full_until_s = self.stubborn_until_s = 0.0
        self.slow_for = 0  # writes
        self._random = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        if time.monotonic() < self.full_until_s:
            if self._random.random() < 0.5:  # there is room for some of it
                self.cut += 1
                return os.write(descriptor, data[: self._random.randrange(1, len(data))])
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.slow_for:
            self.slow_for -= 1
            time.sleep(0.05)
        return os.write(descriptor, data)

    def replace(self, source: Path, target: Path) -> None:
        if time.monotonic() < self.stubborn_until_s:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        os.replace(source, target)


class Account:
    """A sink that counts, notes all ids, and knows how long the camera took to be seen again after it was there."""

    def __init__(self, device: Device, told: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.recoveries_s: list[float] = []
        self._device = device
        self._lost_s = 0.0
        self._told = told.open("w")

    def write(self, event: Event) -> None:
        self.counts[event.event] += 1
        self._told.write(event.id + "\n")
        if event.event == "camera_lost":
            self._lost_s = time.monotonic()
        elif event.event == "camera_back":
            there_s = max(self._device.returned_s, self._lost_s)
            self.recoveries_s.append(time.monotonic() - there_s)

    def catch_up(self) -> None:
        pass

    def state(self) -> SinkState:
        return SinkState("account", sent=sum(self.counts.values()))

    def close(self) -> None:
        self._told.close()


class Outputs:
    """All sinks of a run, and the faults below them."""

    def __init__(self, folder: Path, device: Device, seed: int, clock: Any) -> None:
        self.disk = Disk(seed)
        vars(file)["os"]  # a KeyError here: the sink writes in another way now
        vars(file)["os"] = self.disk
        self._folder = folder
        self._told, self._events = folder / "told.txt", folder / "events.jsonl"
        self._moved = 0
        self._outbox_until_s = 0.0
        self.account = Account(device, self._told)
        self.server = Server(folder / "arrived.txt")
        self._file = FileSink(self._events, max_bytes=_MAX_BYTES, keep=_KEEP)
        self._clock = clock
        self._outbox, self._courier = self._post()
        program = shutil.which("true")
        assert program is not None
        self._hooks = HookSink({"camera_back": [[program]]})
        self.sinks: Sequence[EventSink] = (self.account, self._file, self._courier, self._hooks)

    def order(self, fault: str, chance: float) -> None:
        """Begin a fault; `chance` in [0, 1) says how long it takes."""
        until_s = time.monotonic() + 0.3 + 1.5 * chance
        if fault == "full disk":
            self.disk.full_until_s = until_s
        elif fault == "slow disk":
            self.disk.slow_for = 5
        elif fault == "no rotation":
            self.disk.stubborn_until_s = until_s
        elif fault == "file moved away":
            self._moved += 1
            if self._events.exists():
                os.replace(self._events, self._folder / f"moved-{self._moved}.jsonl")
        elif fault == "outbox read-only":
            self._outbox_until_s = until_s
            self._let_outbox(write=False)
        else:
            self.server.fail(fault, 0.3 + 2.0 * chance)

    def tick(self) -> None:
        """End what is over; called often."""
        if self._outbox_until_s and time.monotonic() >= self._outbox_until_s:
            self._outbox_until_s = 0.0
            self._let_outbox(write=True)

    def finish(self) -> None:
        """Let everything work again, and end as `edgeface run` does; then deliver what waits, as its next run does."""
        self.disk.full_until_s = self.disk.stubborn_until_s = self._outbox_until_s = 0.0
        self._let_outbox(write=True)
        self._courier.hurry()
        self._hooks.finish(_FLUSH_S)
        self._courier.finish(_FLUSH_S)
        self._outbox.close()
        self._file.close()
        self.account.close()

    def verdict(self, states: Sequence[SinkState]) -> tuple[dict[str, Any], list[str]]:
        """Return what was seen and what is wrong, at the end of everything; `states` are those of the summary."""
        outbox, courier = self._post()
        courier.finish(_FLUSH_S)
        left = courier.state()
        outbox.close()
        met = self.server.stop()
        told = self._told.read_text().split()
        lines = [line.split() for line in self.server.ids.read_text().splitlines()]
        arrived = [line[0] for line in lines]
        late = {line[0] for line in lines if len(line) > 1}
        files = [ids_in(path) for path in sorted(self._folder.glob("events.jsonl*"))]
        files += [ids_in(path) for path in sorted(self._folder.glob("moved-*.jsonl"))]
        written = Counter(identity for ids in files for identity in ids)
        first = list(dict.fromkeys(arrived))
        place = {identity: number for number, identity in enumerate(told)}
        end = {name: sink.state() for name, sink in (("file", self._file), ("webhook", self._courier))}
        hooks = self._hooks.state()
        checks = {
            f"{sum(written.values())} lines of {len(written)} events in files, {len(told)} told": (
                written == Counter(told)
            ),
            "a file is out of order": all(is_ordered(ids, place) for ids in files),
            f"{len(first)} events of {len(told)} reached the server": set(first) == set(told),
            "events reached the server out of order": is_ordered(first, place),
            f"{len(late)} events came late to the server, {end['webhook'].late} by account": (
                len(late) == end["webhook"].late
            ),
            f"{left.waiting} events still wait in the outbox, {left.error}": left.waiting == 0,
            f"{left.sent} events were kept, or sent again, in the next run": left.sent == 0,
            f"events lost or refused by account: {[*states, *end.values()]}": not any(
                state.lost or state.refused for state in (*states, *end.values())
            ),
            f"hooks: {hooks}": (hooks.sent, hooks.waiting) == (self.account.counts["camera_back"], 0),
            f"the server met {met}": met.get("", 0) >= len(told) * 0.9,
        }
        seen = {
            "events told, in files, at server": [len(told), len(written), len(first)],
            "files, moved away": [len(files), self._moved],
            "writes refused, cut by full disk": [self.disk.refused, self.disk.cut],
            "requests by what they met": {mode or "well": count for mode, count in sorted(met.items())},
            "arrived twice": len(arrived) - len(first),
            "waited at the end of the loop": [state.waiting for state in states if state.name.startswith("webhook")],
            "sent in the run after it": left.sent,
            "matches that came late": len(late),
            "hooks run": hooks.sent,
        }
        return seen, [what for what, is_right in checks.items() if not is_right]

    def _post(self) -> tuple[Outbox, Courier]:
        outbox = Outbox(self._folder / "outbox.db")
        # Shorter times than usual, in which months go by in minutes.
        webhook = Webhook(self.server.url, timeout_s=0.5, secret="soak", clock=self._clock)
        return outbox, Courier(outbox, webhook, backoff=Backoff(first_s=0.05, longest_s=0.5))

    def _let_outbox(self, *, write: bool) -> None:
        with self._outbox._lock:
            self._outbox._connection.execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")


def ids_in(path: Path) -> list[str]:
    """Return the ids in the lines of a file, and "torn" for each line that is no whole JSON object."""
    ids = []
    with path.open(errors="replace") as lines:
        for line in lines:
            try:
                ids.append(str(json.loads(line)["id"]))
            except (ValueError, TypeError):
                ids.append("torn")
    return ids


def is_ordered(ids: Iterable[str], place: Mapping[str, int]) -> bool:
    """Tell whether ids come in the order in which they were told."""
    places = [place.get(identity, -1) for identity in ids]
    return places == sorted(places)
