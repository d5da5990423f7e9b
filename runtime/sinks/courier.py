"""Takes events to another machine, in a thread of its own: nothing that a network does delays the loop."""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from edgeface.errors import ConfigError
from edgeface.runtime.clock import steady_s
from edgeface.runtime.events import Event, SinkState
from edgeface.runtime.sinks import late
from edgeface.runtime.sinks.outbox import Letter, Outbox

logger = logging.getLogger(__name__)

PATIENCE_TRIES: Final = 10
PATIENCE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a letter.

    Attributes:
        outcome: `sent`; `again`: it may work later; `refused`: the same letter will not be taken; `late`: it was not
            sent, because its time was over before it could leave.
        why: it was not sent. Without credentials, it goes into logs.
        after_s: the destination asks to be left alone for so long.
        answered: of `again`: the destination was there, so that it may be the letter that it cannot bear.
    """

    outcome: Literal["sent", "again", "refused", "late"]
    why: str = ""
    after_s: float = 0.0
    answered: bool = False


class Transport(Protocol):
    """A way to one destination."""

    kind: str
    """Letters are kept under this word, such as `webhook`."""
    place: str
    """What to call the destination; no credentials."""

    def send(self, letter: Letter) -> Reply:
        """Deliver one letter, unless it is later than its `until_s` when it could leave.

        Takes a bounded time. Called from one thread.
        """
        ...

    def abort(self) -> None:
        """End a `send` in another thread soon, if there is one."""
        ...

    def close(self) -> None:
        """Free what is held open; called after the last `send`."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures in a row: twice as long each time, and a little at random.

    Without the random part, all devices of a house would come back to their server in the same moment.

    Attributes:
        first_s: after the first failure.
        longest_s: never longer.
        jitter: this share of the wait is random, in [0, 1].

    Raises:
        ConfigError: a value is out of range.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.longest_s and 0 <= self.jitter <= 1):
            raise ConfigError(f"a wait between tries cannot be {self}; use for example {Backoff()}")

    def wait_s(self, failures: int, chance: float) -> float:
        """Return the wait after `failures` (at least 1) in a row; `chance` is uniform in [0, 1)."""
        doubled = self.first_s * 2.0 ** min(failures - 1, 64)
        return min(self.longest_s, doubled) * (1 - self.jitter * chance)


class Courier:
    """Delivers the events that are written to it, in order, each at least once.

    An event is in the outbox when `write` returns. The one at the head of the queue is tried until it is sent or
    refused, and the others wait behind it. Refused ones are set aside in the outbox and tried again when the next run
    starts, which is when a token or an address can have changed. One that the destination answers and does not take,
    `PATIENCE_TRIES` times and for `PATIENCE_S`, counts as refused: what breaks its receiver must not hold up all
    others.

    A match that was not sent while it held is no match any more: see `edgeface.runtime.sinks.late`. Its age goes by a
    clock of this process, as the wall clock of a device may say anything; so what an earlier run left is late.

    Args:
        outbox: where letters wait; belongs to the caller.
        transport: the way to the destination, owned from now on.
        backoff: waits between tries.
        if_late: what is done with late matches.
        clock: seconds that never go back; the one that the letters' `until_s` goes by.
        chance: gives numbers that are uniform in [0, 1).
        start: whether to begin delivering; tests call `step` instead.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        backoff: Backoff | None = None,
        if_late: late.Late = "mark",
        clock: Callable[[], float] = steady_s,
        chance: Callable[[], float] = random.random,
        start: bool = True,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._backoff = backoff or Backoff()
        self._if_late = if_late
        self._clock = clock
        self._chance = chance
        self._after = 0  # number of the last letter that needs no more work
        self._due_s = clock()
        self._failures = 0
        self._sent = 0
        self._refused = 0
        self._late = 0
        self._tried = (0, 0, 0.0)  # a letter's number, how often it was answered and not taken, since when
        self._overtaken = 0  # number of a letter whose time was over while it was being sent
        self._error: str | None = None
        self._last_refusal: str | None = None
        self._changed = threading.Condition()  # guards everything below
        self._has_news = True
        self._is_idle = False
        self._is_stopping = False
        revived = outbox.revive(transport.kind)
        if waiting := outbox.count(transport.kind):
            note = f", {revived} of them were refused then" if revived else ""
            logger.warning("%d events of an earlier run wait for %s%s", waiting, transport.place, note)
        # A daemon, so that a network that never answers cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"courier {transport.kind}", daemon=True)
        if start:
            self._thread.start()

    def write(self, event: Event) -> None:
        """Put the event into the outbox and wake the thread.

        Raises:
            OSError: the outbox is closed.
        """
        self._outbox.add(self._transport.kind, event.id, event.to_json(), event.until_s)
        self._wake()

    def catch_up(self) -> None:
        """Let the outbox write what it keeps in memory."""
        self._outbox.catch_up()

    def state(self) -> SinkState:
        """Return how many events were sent, wait, were refused and are lost; also after `close`."""
        kind = self._transport.kind
        waiting = self._outbox.count(kind, self._after)
        lost = self._outbox.dropped.get(kind, 0)
        error = self._error or self._outbox.error
        name = f"{kind} {self._transport.place}"
        return SinkState(name, self._sent, waiting, self._refused, lost, error, self._late)

    def hurry(self) -> None:
        """Try at once, whatever was to be waited for."""
        with self._changed:
            self._due_s = self._clock()
            self._failures = 0
        self._wake()

    def finish(self, timeout_s: float) -> None:
        """Wait until everything is delivered, but not longer than that; then stop. What waits stays in the outbox."""
        if self._thread.is_alive() and timeout_s > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._is_idle, timeout_s)
        self.close()

    def close(self) -> None:
        """Stop delivering at once; idempotent."""
        with self._changed:
            if self._is_stopping:
                return
            self._is_stopping = True
            self._changed.notify_all()
        self._transport.abort()
        if self._thread.is_alive():
            self._thread.join(1.0)
        if not self._thread.is_alive():
            self._transport.close()
        if waiting := self._outbox.count(self._transport.kind, self._after):
            logger.warning("%d events for %s wait in %s", waiting, self._transport.place, self._outbox.path)

    def step(self) -> float | None:
        """Try the next letter if it is time.

        Returns:
            Seconds until there is something to do; None if nothing waits.
        """
        now_s = self._clock()
        if now_s < self._due_s:
            return self._due_s - now_s
        kind = self._transport.kind
        letter = self._outbox.first(kind, self._after)
        if letter is None:
            return None
        is_late = self._is_late(letter)
        if is_late and self._if_late == "drop":
            self._outbox.done(kind, letter)
            self._settle(letter, is_late)
            return 0.0
        outgoing = replace(letter, body=late.late(letter.body), until_s=None) if is_late else letter
        try:
            reply = self._transport.send(outgoing)
        except Exception as error:  # whatever it is, the next events may not be stuck behind a dead thread
            logger.exception("sending to %s failed", self._transport.place)
            reply = Reply("again", f"{type(error).__name__}: {error}", answered=True)
        if reply.answered and self._is_hopeless(letter, now_s):
            reply = Reply("refused", f"{reply.why}, {PATIENCE_TRIES} times and more")
        if reply.outcome == "again":
            return self._wait(reply)
        if reply.outcome == "late":
            self._overtaken = letter.number
            return 0.0
        if reply.outcome == "sent":
            self._outbox.done(kind, letter)
            self._sent += 1
            self._last_refusal = None
        else:
            self._outbox.refuse(kind, letter, reply.why)
            self._refused += 1
            if reply.why != self._last_refusal:
                logger.warning("event %s refused by %s: %s", letter.event, self._transport.place, reply.why)
            self._last_refusal = reply.why
        self._settle(letter, is_late)
        if self._error is not None:
            logger.warning("%s answers again", self._transport.place)
        self._failures, self._error = 0, None
        return 0.0

    def _is_hopeless(self, letter: Letter, now_s: float) -> bool:
        """Count a try that was answered, and tell whether there were enough of them for this letter."""
        number, tries, since_s = self._tried
        self._tried = (letter.number, tries + 1, since_s) if number == letter.number else (letter.number, 1, now_s)
        return self._tried[1] >= PATIENCE_TRIES and now_s - self._tried[2] >= PATIENCE_S

    def _is_late(self, letter: Letter) -> bool:
        if letter.until_s is None:
            return late.is_perishable(letter.body)
        return letter.number == self._overtaken or self._clock() >= letter.until_s

    def _settle(self, letter: Letter, is_late: bool) -> None:
        self._after = letter.number
        if is_late:
            self._late += 1
            if self._late == 1:
                what = "is left out" if self._if_late == "drop" else f"is sent as {late.LATE_MATCH}"
                logger.warning("match %s %s: it could not reach %s in time", letter.event, what, self._transport.place)

    def _wait(self, reply: Reply) -> float:
        self._failures += 1
        wait_s = max(reply.after_s, self._backoff.wait_s(self._failures, self._chance()))
        self._due_s = self._clock() + wait_s
        if reply.why != self._error and not self._is_stopping:
            logger.warning("%s: %s; events wait in the outbox", self._transport.place, reply.why)
        self._error = reply.why
        return wait_s

    def _wake(self) -> None:
        with self._changed:
            self._has_news, self._is_idle = True, False
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._is_stopping:
                    return
                self._has_news = False
            wait_s = self.step()
            with self._changed:
                self._is_idle = wait_s is None and not self._has_news
                self._changed.notify_all()
                if wait_s != 0:
                    self._changed.wait_for(lambda: self._has_news or self._is_stopping, wait_s)
