"""Output that is not UTF-8, not there, full or not read any more; signals at any time."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.commands import streams
from edgeface.runtime.gallery.gallery import Gallery
from tests.test_runtime_bundle import write_bundle

PROGRAM = [sys.executable, "-m", "edgeface"]
NAME = "Zoë 小明 🙂"
unix = pytest.mark.skipif(sys.platform == "win32", reason="the signals and devices of Unix")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    path = tmp_path_factory.mktemp("ü") / "galérie.db"
    with Gallery(path, "space", 3, create=True) as opened:
        opened.add(NAME, np.array([1, 0, 0], np.float32), source="łódź.jpg")
    return path


# --- encodings


@given(st.text() | st.text(st.characters(categories=["Cs"])))
def test_what_an_encoding_lacks_is_written_as_json_writes_it(text):
    for encoding in ("ascii", "latin-1", "utf-8", "cp1252"):
        written = text.encode(encoding, streams.ERRORS).decode(encoding)
        quoted = json.dumps(text, ensure_ascii=False).encode(encoding, streams.ERRORS).decode(encoding)
        assert json.loads(quoted).encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")
        assert written == text or "\\u" in written


def invoke(encoding, *arguments):
    """Run a command whose streams have an encoding; give the bytes of standard output."""
    result = CliRunner(charset=encoding).invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


REPORTS = [
    ["gallery", "list", "--gallery", "GALLERY"],
    ["gallery", "list", NAME, "--gallery", "GALLERY"],
    ["gallery", "log", "--gallery", "GALLERY"],
    ["doctor", "--bundle", "BUNDLE", "--gallery", "GALLERY"],
    ["bundle", "inspect", "BUNDLE"],
    ["bundle", "verify", "BUNDLE"],
    ["bundle", "fetch", "--list"],
    ["bench", "--bundle", "BUNDLE", "--runs", "10", "--provider", "cpu"],
]


@pytest.mark.parametrize(
    ("report", "encoding"),
    [*((report, "ascii") for report in REPORTS), *((report, "latin-1") for report in REPORTS[:3])],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_reports_in_other_encodings(report, encoding, gallery, tmp_path):
    bundle = write_bundle(tmp_path / "bündel 束.bundle", name="ß 束")
    arguments = [{"GALLERY": gallery, "BUNDLE": bundle}.get(word, word) for word in report]
    result = invoke(encoding, *arguments)
    assert result.exit_code == 0
    result.stdout_bytes.decode(encoding)
    as_json = invoke(encoding, *arguments, "--json").stdout_bytes
    assert as_json.isascii() and json.loads(as_json)
    if report[:2] == ["gallery", "list"] and len(report) == 4:
        assert json.loads(as_json)["people"][0]["name"] == NAME
        shown = {"ascii": r"Zo\u00eb \u5c0f\u660e \ud83d\ude42", "latin-1": r"Zoë \u5c0f\u660e \ud83d\ude42"}
        assert shown[encoding] in result.stdout_bytes.decode(encoding)


def test_help_and_mistakes_in_ascii():
    assert invoke("ascii", "run", "--help").stdout_bytes.isascii()
    result = invoke("ascii", "verify", f"{NAME}.png", "b\udcff.png")
    assert result.exit_code == 1 and result.stderr_bytes.isascii() and b"Zo\\u00eb" in result.stderr_bytes
    assert invoke("ascii", "gallery", "list", "--such").stderr_bytes.isascii()


# --- what is behind the streams


def shell(line, *arguments):
    """Run a line of a shell in which "$@" is the program with its arguments."""
    return subprocess.run(
        ["/bin/bash", "-c", line, "bash", *PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@unix
@pytest.mark.parametrize("arguments", [["--help"], ["gallery", "list"]])
def test_streams_that_are_closed_full_or_left(arguments, gallery):
    if arguments == ["gallery", "list"]:
        arguments = [*arguments, "--gallery", gallery]
    whole = shell('"$@"', *arguments)
    assert whole.returncode == 0
    closed = shell('"$@" >&- <&-', *arguments)
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", whole.stderr)
    full = shell('"$@" >/dev/full', *arguments)
    message = "error: there is no room: No space left on device; free some space and try again\n"
    assert (full.returncode, full.stderr) == (1, message)
    # Remarks that cannot be shown are no reason to fail.
    assert shell('"$@" 2>/dev/full', *arguments).stdout == whole.stdout
    left = shell('"$@" | true; echo ${PIPESTATUS[0]}', *arguments)
    assert "Traceback" not in left.stderr and "Exception" not in left.stderr
    assert left.stdout in ("0\n", "1\n")


@unix
def test_mistakes_that_nobody_can_read_keep_their_exit_code(gallery):
    assert shell('"$@" 2>/dev/full', "gallery", "list", "--gallery", "/no/gallery.db").returncode == 1
    assert shell('"$@" >&- 2>&-', "gallery", "list", "--such").returncode == 2


@unix
def test_a_closed_stream_is_not_the_next_file(tmp_path):
    """A library that prints must not write into a database that got the number of standard output."""
    code = "import os, sys; from edgeface.commands import streams; streams.replace_missing(); "
    code += f"number = os.open({str(tmp_path / 'f')!r}, os.O_CREAT | os.O_WRONLY); "
    code += f"print(number, file=open({str(tmp_path / 'g')!r}, 'w'))"
    subprocess.run(["/bin/bash", "-c", '"$0" -c "$1" >&- 2>&- <&-', sys.executable, code], check=True)
    assert int((tmp_path / "g").read_text()) > 2


# --- signals


@unix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_signal_is_an_exit_code_and_no_word(number, share):
    """Sent as early as the program can know of it: from its first line on."""
    after_s = random.Random(f"{number} {share}").uniform(0.0, 0.5) * share
    code = (
        "import os, sys, threading; from edgeface.__main__ import main; "
        f"threading.Timer({after_s}, os.kill, (os.getpid(), {int(number)})).start(); "
        "sys.argv = ['edgeface', 'models']; main()"
    )
    begun = "from edgeface.commands.first_moments import leave_at_once; leave_at_once(); "
    done = subprocess.run([sys.executable, "-c", begun + code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, "")


@unix
def test_an_interruption_that_a_library_swallows_comes_again_and_cleaning_up_is_left_alone(tmp_path):
    code = f"""
import os, signal, time
from edgeface.commands import signals
signals.end_on_signals()
try:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except: pass
    try:
        time.sleep(60)
    finally:
        time.sleep(0.5)
        open({str(tmp_path / "cleaned")!r}, "w").close()
finally:
    code = signals.exit_code()
    print(code)
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "143\n", "")
    assert (tmp_path / "cleaned").exists() and time.monotonic() - begun < 50


@unix
def test_children_are_left_to_the_process_that_started_them():
    from edgeface.children import deaf_children

    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('here')"
    with deaf_children():
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (0, "here\n", "")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
