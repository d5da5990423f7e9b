"""The rules of the house that a reader could break by accident."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "onnx", "onnxscript", "matplotlib", "safetensors"}

ROOMS = {  # room: what it may import of the project; a room may always import itself
    "contracts": set(),
    "conditions": {"contracts"},
    "data": {"contracts", "conditions"},
    "losses": {"contracts"},
    "models": {"contracts"},
    "runtime": {"contracts"},
    "evaluation": {"contracts", "conditions", "data", "models", "training.checkpoint", "runtime"},
    "training": {"contracts", "conditions", "data", "losses", "models", "evaluation", "runtime"},
    "comparison": {"contracts", "data", "losses", "models", "training", "evaluation"},
    "schemas": {"contracts", "comparison", "data", "evaluation", "runtime"},
    "export": {"contracts", "conditions", "data", "models", "training.checkpoint", "evaluation", "runtime"},
}


def sources(room):
    if room == "contracts":
        own = [p for p in (ROOT / "edgeface").glob("*.py") if p.stem not in ("cli", "__main__", "demo")]
        return own + sorted((ROOT / "edgeface" / "image_formats").glob("*.py"))
    folder = ROOT / room if room in ("export", "runtime") else ROOT / "edgeface" / room
    return sorted(folder.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room_of(module):
    parts = module.split(".")
    if parts[0] != "edgeface":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "contracts"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    wrong = []
    for path in sources(room):
        for module in imports(path):
            target = room_of(module)
            allowed = ROOMS[room] | {room}
            inner = ".".join(module.split(".")[1:3])
            if target is not None and target not in allowed and inner not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


@pytest.mark.parametrize("room", ["contracts", "runtime"])
def test_devices_need_no_torch(room):
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(room)
        for module in imports(path)
        if module.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_the_runtime_imports_without_torch_and_onnx():
    paths = [p.relative_to(ROOT).with_suffix("") for p in sources("runtime") if p.stem != "__init__"]
    modules = [".".join(("edgeface", *path.parts)) for path in paths]
    block = "; ".join(f"sys.modules['{name}'] = None" for name in sorted(HEAVY))
    code = f"import sys, importlib; {block}; [importlib.import_module(m) for m in {modules!r}]"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


def test_help_imports_nothing_heavy():
    code = "import sys, edgeface.cli; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert not {"numpy", "cv2", "torch", "onnx", "onnxruntime", "pydantic"} & set(loaded.stdout.split())


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    # The links are not followed, so each folder is named where it lies.
    folders = {ROOT / name: f"edgeface.{name}" for name in ("export", "runtime")} | {ROOT / "edgeface": "edgeface"}
    found = {
        ".".join((name, *path.parent.relative_to(folder).parts))
        for folder, name in folders.items()
        for path in folder.rglob("__init__.py")
        if not (folder == ROOT / "edgeface" and path.relative_to(folder).parts[0] in ("export", "runtime"))
    }
    assert listed == found


def test_the_links_lead_where_the_files_are():
    for name in ("export", "runtime"):
        assert (ROOT / "edgeface" / name).resolve() == ROOT / name
