"""A sink: who came when, one line a person and day."""

import csv
from pathlib import Path

from edgeface.runtime.events import Event
from edgeface.runtime.sinks.plugin import SinkPlugin


class Attendance(SinkPlugin):
    """Appends the first match of each person on each day (UTC) to a CSV file.

    The arguments are options: `--sink 'attendance?path=came.csv'`.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", newline="", encoding="utf-8")
        self.seen: set[tuple[str, str]] = set()

    def write(self, event: Event) -> None:
        """Take one event."""
        day = event.time.date().isoformat()
        if event.event == "match" and event.identity is not None and (day, event.identity) not in self.seen:
            self.seen.add((day, event.identity))
            csv.writer(self.file).writerow([day, event.time.strftime("%H:%M:%S"), event.identity])
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
