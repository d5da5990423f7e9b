"""What was measured: one line of JSON for each finished job, kept from one call to the next."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edgeface.comparison.jobs import VALUES, Job, Value
from edgeface.errors import ConfigError
from edgeface.files import write_text
from edgeface.training.journal import read_journal

RESULTS: Final = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job.

    Attributes:
        job: what was done.
        value: what it brought; None if it failed.
        error: why it failed, or empty.
    """

    job: Job
    value: Value | None
    error: str = ""


class ResultFile:
    """`results.jsonl` of a comparison.

    A line is appended and flushed to disk when its job is done; one that a crash cut off is dropped when the file is
    opened again. Lines of other settings stay where they are and are not taken.

    Args:
        folder: of the comparison.
        resume: go on with the results that are there.

    Raises:
        ConfigError: there are results and `resume` is not asked.

    Attributes:
        folder: of the comparison.
        path: of the file.
    """

    def __init__(self, folder: Path, resume: bool = False) -> None:
        self.folder = folder
        self.path = folder / RESULTS
        self._lines = read_journal(self.path)
        if self._lines and not resume:
            raise ConfigError(
                f"{folder} holds a comparison already; go on with it (--resume) or choose another folder (--out)"
            )
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in self._lines))

    def measured(self, keys: Sequence[str]) -> dict[str, Value]:
        """Return the values that are there under some of the keys; a job that failed is not there.

        Raises:
            ConfigError: a line is broken.
        """
        wanted, found = set(keys), dict[str, Value]()
        for line in self._lines:
            key, value = line.get("key"), line.get("value")
            if not isinstance(key, str) or key not in wanted or value is None:
                continue
            try:
                found[key] = VALUES[line["kind"]](**value)
            except (KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.path} holds a broken result ({error}); remove its line, or start anew"
                ) from None
        return found

    def add(self, key: str, result: Result) -> None:
        """Append a result."""
        line: dict[str, Any] = {
            "key": key,
            "kind": result.job.kind,
            "loss": result.job.label,
            "seed": result.job.config.run.seed,
            "value": None if result.value is None else asdict(result.value),
            "error": result.error,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
