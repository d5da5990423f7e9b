"""metrics.jsonl: one line for some steps, none twice."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgeface.files import parse_json, write_text


class Window:
    """Sums over the steps since the last line."""

    def __init__(self) -> None:
        self._losses: list[tuple[float | None, ...]] = []
        self._counts: dict[str, float] = {}
        self._wait_s = 0.0
        self._time_s = 0.0

    def add(self, *losses: Tensor | None, wait_s: float, step_s: float) -> None:
        """Count one step: its losses, and the time it took in all and waiting for faces."""
        self._losses.append(tuple(None if loss is None else loss.item() for loss in losses))
        self._wait_s += wait_s
        self._time_s += step_s

    def count(self, counts: Mapping[str, float]) -> None:
        """Count what one step had to offer, as `edgeface.losses.Head.counts`."""
        for name, value in counts.items():
            self._counts[name] = self._counts.get(name, 0.0) + value

    def line(self, step: int, epoch: float, lr: float, batch_size: int) -> dict[str, Any]:
        """Return the means as a line for the journal; a loss that the run does not use is None."""
        columns = zip(*self._losses, strict=True)
        loss, identity, imitation = (None if None in c else math.fsum(c) / len(c) for c in columns)
        return {
            "step": step,
            "epoch": round(epoch, 4),
            "loss": loss,
            "identity_loss": identity,
            "teacher_loss": imitation,
            "lr": lr,
            "faces_per_s": round(len(self._losses) * batch_size / self._time_s, 1),
            "data_wait": round(self._wait_s / self._time_s, 4),
            **{name: round(total / len(self._losses), 4) for name, total in self._counts.items()},
        }


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add one line to the journal."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read the journal up to a line that is not whole, as a crash may cut off the last; a missing file is empty."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_bytes().splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def cut_journal(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run writes again."""
    lines = [line for line in read_journal(path) if isinstance(line.get("step"), int) and line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
