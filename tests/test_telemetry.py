"""Nothing leaves the device unasked, and nothing is written under HOME but what the documents say."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeface.data.synthetic.scenes import scene
from edgeface.errors import MissingPackageError
from edgeface.telemetry import SWITCHES, import_onnxruntime, switch_off

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for folder in ("edgeface", "export", "runtime", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != ROOT / "edgeface" / "telemetry.py"
]


# Nothing else of this process: onnxruntime sends nothing where a variable such as CI tells it that all is a test.
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "SYSTEMROOT")


def run(code, home, **environment):
    """Run Python in a fresh process whose home is an empty folder; returns what it prints."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=kept | {"HOME": str(home)} | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def test_one_module_imports_onnxruntime():
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                names += [str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            wrong += [
                f"{path.relative_to(ROOT)} imports {name}" for name in names if name.split(".")[0] == "onnxruntime"
            ]
    assert not wrong


def test_any_import_of_edgeface_switches_off_what_would_be_sent(tmp_path):
    said, _ = run("import edgeface.errors, os; print(*(os.environ[n] for n in %r))" % [*SWITCHES], tmp_path)
    assert said.split() == list(SWITCHES.values())


@pytest.mark.parametrize("value", ["0", "1", "", "no"])
def test_who_sets_the_variable_has_his_way(value):
    environment = {"ORT_DISABLE_TELEMETRY": value}
    switch_off(environment)
    assert environment["ORT_DISABLE_TELEMETRY"] == value
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


USE = """
import sys
from edgeface.cli import main
sys.argv = ["edgeface", *%r]
main()
"""


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("portrait") / "a.png"
    drawn = scene(np.random.default_rng(1), faces=(1, 1), face_px=(120, 150), distractors=(0, 0), strength=0.2)
    cv2.imwrite(str(path), drawn.image[..., ::-1])
    return path


def test_a_session_writes_nothing_at_home(tmp_path, portrait):
    said, heard = run(USE % ["verify", str(portrait), str(portrait)], tmp_path)
    assert "same" in said and not heard
    assert files(tmp_path) == []


def test_the_same_without_the_switch_shows_that_it_is_needed(tmp_path):
    """onnxruntime makes its files with the import. Should this fail, it has stopped to, or asks for another switch."""
    run("import onnxruntime", tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert any("onnxruntime" in name for name in files(tmp_path))


def test_processes_that_are_started_have_the_switch_too(tmp_path):
    code = """
import edgeface.errors, subprocess, sys
child = [sys.executable, "-c", "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"]
print(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
"""
    assert run(code, tmp_path)[0].split() == ["1"]


def test_a_part_of_onnxruntime_and_none_at_all(monkeypatch):
    assert import_onnxruntime("capi").__name__ == "onnxruntime.capi"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization", raising=False)
    for part in ("", "quantization"):
        with pytest.raises(MissingPackageError, match="onnxruntime"):
            import_onnxruntime(part)
