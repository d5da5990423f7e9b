"""Fixtures that several test files share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from edgeface.telemetry import switch_off
from tests.schemas import assert_printed

switch_off()  # before a test imports onnxruntime by itself

# How long an example takes says nothing here: machines are busy.
settings.register_profile("edgeface", deadline=None)
settings.load_profile("edgeface")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and peers, outside the project; tests that need it skip where it is not."""
    folder = Path(os.environ.get("EDGEFACE_SHARED", ROOT.parent / "shared")) / "data"
    if not (folder / "lfw" / "pairs.txt").is_file():
        pytest.skip(f"real data not found in {folder}; set EDGEFACE_SHARED to use it")
    return folder


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """A folder in memory where there is one, for tests that write many files to the disk and wait for it each time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def printed_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What any test has a command print with --json is held against the command's schema."""
    invoke = CliRunner.invoke

    def checked(self: CliRunner, app: Any, args: Any = None, **more: Any) -> Any:
        result = invoke(self, app, args, **more)
        if result.exit_code == 0 and not isinstance(args, str) and "--json" in (args or ()):
            assert_printed(list(args), result.stdout)
        return result

    monkeypatch.setattr(CliRunner, "invoke", checked)
