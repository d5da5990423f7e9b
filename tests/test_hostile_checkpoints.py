"""Checkpoints that hold anything: read, or refused in one line that is edgeface's own."""

import functools
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeface.errors import CheckpointError, EdgefaceError
from edgeface.losses.ranks import ALONE
from edgeface.models import build_model
from edgeface.training import checkpoint
from edgeface.training.checkpoint import CheckpointInfo, load_backbone, read_info, save_checkpoint
from edgeface.training.class_store import ClassRows, load_classes, save_classes
from edgeface.training.detection.checkpoint import is_detector, load_detector, load_training
from edgeface.training.detection.checkpoint import save_checkpoint as save_detector
from edgeface.training.detection.config import DetectorConfig
from edgeface.training.detection.learner import DetectorLearner
from tests.detector_faces import TINY

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 7, 2**70, 1e308, float("nan"), float("inf"), "", "x", "é", [], [1, "a"], {}, {"a": {"b": []}},
)  # fmt: skip


def an_info(**changes: object) -> CheckpointInfo:
    facts: dict[str, Any] = {
        "model": "mobilefacenet", "embedding_size": 8, "classes": 3, "faces": 9, "loss": "arcface", "data": "faces/",
        "step": 4, "epoch": 1, "seconds": 2.5, "accuracy": None, "best_accuracy": 0.9, "config": {}, "edgeface": "1",
    }  # fmt: skip
    return CheckpointInfo(**{**facts, **changes})


@functools.cache
def a_network() -> torch.nn.Module:
    return build_model("mobilefacenet", 8)


def changed(data: bytes, pick: random.Random) -> bytes:
    """Change bytes, most of them near the beginning, where headers are."""
    mutable = bytearray(data)
    for _ in range(pick.choice((1, 2, 8))):
        place = pick.randrange(len(mutable)) if pick.random() < 0.2 else pick.randrange(min(600, len(mutable)))
        how = pick.random()
        if how < 0.6:
            mutable[place] = pick.choice((pick.randrange(256), ord("9"), ord("["), ord('"'), 0, 255))
        elif how < 0.8:
            del mutable[place : place + pick.randrange(20)]
        else:
            mutable[place:place] = pick.choice((b"99999999", b"[" * 30, b'"', b"-", b"null", b"\xff"))
    return bytes(mutable)


def refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except EdgefaceError:
        return True
    return False


@pytest.mark.parametrize("field", CheckpointInfo.__dataclass_fields__)
def test_any_value_in_any_field(tmp_path: Path, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "load_weights", lambda *_: ())
    state = {"format_version": 2} | {name: getattr(an_info(), name) for name in CheckpointInfo.__dataclass_fields__}
    for value in VALUES:
        (tmp_path / "state.json").write_text(json.dumps({**state, field: value}))
        if not refused(lambda: read_info(tmp_path)) and field in ("model", "embedding_size"):
            refused(lambda: load_backbone(tmp_path))
    with pytest.raises(CheckpointError, match=f"a value for {field} that cannot be|format version"):
        (tmp_path / "state.json").write_text(json.dumps({**state, field: [[]]}))
        read_info(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "null", "7", "[]", '"x"', "\ufeff{}", '{"format_version": []}'])
def test_a_state_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot be read|has format version \[\]"):
        read_info(tmp_path)
    assert not is_detector(tmp_path)
    with pytest.raises(CheckpointError):
        load_detector(tmp_path)


def test_changed_bytes_of_weights(fast_path: Path) -> None:
    save_checkpoint(fast_path / "c", an_info(), a_network(), {})
    weights = fast_path / "c" / "backbone.safetensors"
    whole = weights.read_bytes()
    bad = 0
    for seed in range(14):
        weights.write_bytes(changed(whole, random.Random(seed)))
        bad += refused(lambda: load_backbone(fast_path / "c"))
    assert bad > 8


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I64", "BOOL", "C64", "U8"])
def test_numbers_of_another_kind(fast_path: Path, dtype: str) -> None:
    save_checkpoint(fast_path / "c", an_info(), a_network(), {})
    weights = fast_path / "c" / "backbone.safetensors"
    data = weights.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(name for name in header if name != "__metadata__")
    width = {"F8_E4M3": 1, "I64": 8, "BOOL": 1, "C64": 8, "U8": 1}[dtype]
    header = {name: {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * width]}}
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + bytes(2 * width))
    with pytest.raises(CheckpointError):
        load_backbone(fast_path / "c")


def test_changed_bytes_of_a_class_matrix(fast_path: Path) -> None:
    def rows() -> ClassRows:
        return ClassRows({name: torch.zeros(12, 3) for name in ("weight", "steps")}, 6, 2, ALONE)

    save_classes(fast_path / "classes", rows())
    (file,) = (fast_path / "classes").iterdir()
    whole = file.read_bytes()
    bad = 0
    for seed in range(120):
        file.write_bytes(changed(whole, random.Random(seed)))
        bad += refused(lambda: load_classes(fast_path / "classes", rows()))
    assert bad > 60


def test_changed_bytes_of_a_detector(fast_path: Path) -> None:
    values = DetectorConfig().to_dict()
    values["model"] = asdict(TINY)
    values["data"]["path"] = "x"
    settings = DetectorConfig.from_dict(values)
    learner = DetectorLearner(settings)
    save_detector(learner, fast_path / "run", 2, ["a.jpg"], None)
    folder = fast_path / "run" / "checkpoint"
    shutil.copytree(folder, fast_path / "whole")
    bad = 0
    for seed in range(20):
        pick = random.Random(seed)
        name = pick.choice(("state.json", "detector.safetensors", "training.safetensors"))
        whole = (fast_path / "whole" / name).read_bytes()
        (folder / name).write_bytes(changed(whole, pick))
        bad += refused(lambda: load_detector(folder))
        bad += refused(lambda: load_training(learner, fast_path / "run", ["a.jpg"]))
        (folder / name).write_bytes(whole)
    assert bad > 10
