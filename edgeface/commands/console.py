"""What commands print: results to stdout, everything else to stderr."""

import codecs
import json
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from edgeface.errors import ConfigError
from edgeface.schema_files import SCHEMA_VERSION

if TYPE_CHECKING:
    from edgeface.runtime.gallery.key import GalleryKey


class Advance(Protocol):
    """Moves a progress bar to `done` of `total`, with a few words on how it goes."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Move."""
        ...


def print_json(facts: Mapping[str, Any]) -> None:
    """Print one JSON object as one line on stdout, with the version of its schema (`edgeface.schemas.outputs`).

    Values that are not finite become null.
    """
    is_utf8 = sys.stdout is None or codecs.lookup(sys.stdout.encoding).name == "utf-8"
    typer.echo(
        json.dumps(_finite({"schema": SCHEMA_VERSION, **facts}), ensure_ascii=not is_utf8, allow_nan=False, default=str)
    )


def say(text: str, quiet: bool = False) -> None:
    """Print a line for people on stderr."""
    if not quiet:
        typer.echo(text, err=True)


def table(rows: list[list[str]], header: list[str]) -> None:
    """Print a table on stdout, columns padded to the widest cell."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def complain(error: Exception) -> None:
    """Print an error that a user can mend, as one line on stderr."""
    say(f"error: {one_line(str(error))}")


def one_line(text: str) -> str:
    """Return a text as one line that a terminal shows as it is."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of show: names in a hostile file may hold such characters."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def notes(texts: list[str]) -> None:
    """Print sentences below a table on stdout, broken at spaces, and a blank line."""
    for text in texts:
        typer.echo(textwrap.fill(text, 110))
    typer.echo()


@contextmanager
def progress(title: str, quiet: bool = False) -> Iterator[Advance]:
    """Show a progress bar with time left on a terminal; elsewhere a line now and then, for logs."""
    if quiet:
        yield lambda done, total, note="": None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None, note="")
            yield lambda done, total, note="": bar.update(task, completed=done, total=total, note=note)
    else:
        yield _lines(title)


def _lines(title: str, every_s: float = 15.0) -> Advance:
    last = time.monotonic()

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= every_s or (done == total and total > 0):
            last = time.monotonic()
            typer.echo(f"{title}: {done}/{total} {note}".rstrip(), err=True)

    return advance


def comma_list(text: str) -> tuple[str, ...]:
    """Split `a,b` into its parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def rates(text: str) -> tuple[float, ...]:
    """Read `1e-2,1e-3`.

    Raises:
        ConfigError: a part is not a number between 0 and 1.
    """
    try:
        values = tuple(float(part) for part in comma_list(text))
    except ValueError:
        values = ()
    if not values or not all(0 < value < 1 for value in values):
        raise ConfigError(f"--fmr takes rates between 0 and 1, such as 1e-2,1e-3; got {text!r}")
    return values


def default_gallery() -> Path:
    """Where the gallery lies when none is named."""
    from platformdirs import user_data_path

    return user_data_path("edgeface") / "gallery.db"


def default_outbox() -> Path:
    """Where events wait for webhook and MQTT when no outbox is named."""
    from platformdirs import user_data_path

    return user_data_path("edgeface") / "outbox.db"


def gallery_key(where: str | None) -> "GalleryKey | None":
    """Return the key of the gallery that `--gallery-key` or the environment names; None if neither does.

    Raises:
        ConfigError: there is no key there, or none that can be used.
    """
    from edgeface.runtime.gallery.key import find_key

    return find_key(where)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
