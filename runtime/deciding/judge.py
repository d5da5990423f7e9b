"""What is known of each track, when to look again, and what is worth telling.

No clocks: time comes in as an argument.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edgeface.runtime.deciding.decision import Decision, DecisionSettings, State, answer, decide, objection
from edgeface.runtime.deciding.sequential import weigh
from edgeface.runtime.deciding.tracker import Track
from edgeface.runtime.gallery.comparison import Comparison

Gate = Callable[[int, Decision], Decision]
"""Has the last word on a track's answer, given its id; see `edgeface.runtime.liveness.liveness`."""


@dataclass(slots=True)
class _Memory:
    """What a judge knows of one track."""

    looks: deque[tuple[float, Comparison]]
    """When, and what."""
    verdict: Decision
    """What the looks at this track alone say."""
    decision: Decision
    """What is known, with the other tracks and the gate taken into account."""
    seen_s: float
    last_look_s: float | None = None
    in_doubt: bool = False
    """The last look did not agree with the verdict, or the face was out of sight."""
    reported: tuple[State, str | None] | None = None


@dataclass(slots=True)
class Judge:
    """Remembers the looks at each track and says when to look again.

    Attributes:
        settings: what answers are decided by.
        gate: has the last word on every answer; None lets all pass.
    """

    settings: DecisionSettings
    gate: Gate | None = None
    _tracks: dict[int, _Memory] = field(default_factory=dict)
    _told_s: dict[str, float] = field(default_factory=dict)
    """When a match with somebody was last told."""
    _now_s: float = 0.0
    """The time of the newest sighting; what was seen then is in view."""

    def see(self, track: Track) -> None:
        """Take notice of a track that is in view. One that was away for too long must be recognised anew."""
        memory = self._tracks.get(track.id)
        if memory is None:
            question = self._open_question()
            memory = _Memory(deque(maxlen=self.settings.window), question, question, track.last_seen_s)
            self._tracks[track.id] = memory
        elif track.gap_s > self.settings.max_gap_s and track.gap_frames:
            self._forget(memory, "out of sight for a while, not yet looked at again")
        elif track.gap_frames:
            memory.in_doubt = True
        memory.seen_s = self._now_s = track.last_seen_s

    def candidate(self, track_id: int) -> str | None:
        """Return who a track is by its looks alone, whatever other tracks and the gate say."""
        return self._tracks[track_id].verdict.identity

    def wants_embedding(self, track_id: int, time_s: float, every_s: float | None = None) -> bool:
        """Tell whether a face should be looked at in this frame, or its answer can stand for now.

        Args:
            track_id: which.
            time_s: of the frame.
            every_s: look at least so often; None leaves it to the settings.
        """
        memory = self._tracks[track_id]
        if memory.last_look_s is None or memory.in_doubt or memory.verdict.state == "pending":
            return True
        wait_s = self.settings.refresh_s if memory.verdict.state == "match" else self.settings.retry_s
        wait_s = wait_s if every_s is None else min(wait_s, every_s)
        return abs(time_s - memory.last_look_s) >= wait_s

    def look(self, track_id: int, comparison: Comparison, time_s: float) -> Decision:
        """Take one look at a face and return what is known now."""
        news = self.look_at({track_id: comparison}, time_s)
        return news.get(track_id, self._tracks[track_id].decision)

    def look_at(self, looks: Mapping[int, Comparison], time_s: float) -> dict[int, Decision]:
        """Take one look at each of some faces of a frame, by track; returns what `settle` does."""
        for track_id, comparison in looks.items():
            memory = self._tracks[track_id]
            memory.looks.append((time_s, comparison))
            memory.last_look_s = time_s
            memory.verdict = self._decide(memory, time_s)
            memory.in_doubt = self._vote(comparison) != memory.verdict.identity
        return self.settle(time_s)

    def settle(self, time_s: float) -> dict[int, Decision]:
        """Hold the tracks of a frame against one another and against the gate.

        Returns:
            By track, the answers that are news: to be told once.
        """
        in_view = {track_id: memory for track_id, memory in self._tracks.items() if memory.seen_s == self._now_s}
        holders = self._holders(in_view) if self.settings.exclusive else {}
        news = {}
        for track_id, memory in in_view.items():
            decision = memory.verdict
            holder = track_id if decision.identity is None else holders.get(decision.identity, track_id)
            if holder != track_id:
                decision = _elsewhere(decision, holder, in_view[holder].verdict, self.settings)
            if self.gate is not None:
                decision = self.gate(track_id, decision)
            memory.decision = decision
            if self._is_news(memory, time_s):
                news[track_id] = replace(decision, is_news=True)
        return news

    def refuse(self, track_id: int, reason: str, time_s: float) -> Decision:
        """Take notice that a face was not worth a look. It counts for nothing, but an old answer expires."""
        memory = self._tracks[track_id]
        if memory.last_look_s is not None and abs(time_s - memory.last_look_s) > self.settings.max_age_s:
            self._forget(memory, reason)
        elif memory.verdict.state == "pending":
            memory.verdict = memory.decision = replace(memory.verdict, why=reason)
        return memory.decision

    def decision(self, track_id: int) -> Decision:
        """Return what is known about a track; never news."""
        return self._tracks[track_id].decision

    def reset(self, settings: DecisionSettings) -> None:
        """Ask everybody anew, because the gallery changed: whoever was removed is not recognised any more.

        Args:
            settings: from now on; with more people the threshold is a stricter one.
        """
        self.settings = settings
        for memory in self._tracks.values():
            self._forget(memory, "the gallery changed, not yet looked at again")

    def end(self, track_id: int) -> Decision:
        """Forget a track that ended and return what was known about it."""
        return self._tracks.pop(track_id).decision

    def _decide(self, memory: _Memory, time_s: float) -> Decision:
        within_s = self.settings.within_s
        recent = None
        if within_s is not None:
            recent = sum(abs(time_s - looked_s) <= within_s for looked_s, _ in memory.looks)
        looks = [comparison for _, comparison in memory.looks]
        rule = weigh if self.settings.rule == "llr" else decide
        return rule(looks, self.settings, memory.verdict, recent)

    def _vote(self, comparison: Comparison) -> str | None:
        """Return for whom a look speaks."""
        if comparison.best is None:
            return None
        if self.settings.rule == "llr" and self.settings.evidence is not None:
            return comparison.best.name if comparison.best.score >= self.settings.evidence.neutral else None
        return None if objection(comparison, self.settings) else comparison.best.name

    @staticmethod
    def _holders(in_view: Mapping[int, _Memory]) -> dict[str, int]:
        """Return for each name the track that has it with the highest score; of equal ones the older track."""
        holders: dict[str, int] = {}
        for track_id, memory in sorted(in_view.items()):
            name, score = memory.verdict.identity, memory.verdict.score
            if name is None or score is None:
                continue
            best = None if name not in holders else in_view[holders[name]].verdict.score
            if best is None or score > best:
                holders[name] = track_id
        return holders

    def _is_news(self, memory: _Memory, time_s: float) -> bool:
        """Tell whether an answer is to be told, and remember that it was."""
        state, identity = memory.decision.state, memory.decision.identity
        if state == "pending" or (state, identity) == memory.reported:
            return False
        memory.reported = (state, identity)
        if identity is None:
            return True
        told_s = self._told_s.get(identity)
        if told_s is not None and abs(time_s - told_s) < self.settings.cooldown_s:
            return False
        self._told_s[identity] = time_s
        return True

    def _forget(self, memory: _Memory, reason: str) -> None:
        memory.looks.clear()
        memory.last_look_s = None
        memory.verdict = memory.decision = replace(self._open_question(), why=reason)

    def _open_question(self) -> Decision:
        return answer("pending", None, None, 0, 0, self.settings, "not looked at yet")


def _elsewhere(decision: Decision, holder: int, better: Decision, settings: DecisionSettings) -> Decision:
    """Return the answer for a face whose name another face in view has with more right."""
    why = f"{decision.identity} is already in view: track {holder}, score {better.score:.3f}"
    state: State = "unknown" if settings.claim is None else "rejected"
    return replace(decision, state=state, identity=None, why=why)
