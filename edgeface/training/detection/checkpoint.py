"""The checkpoint of a detector: its weights, configuration and state."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeface.errors import CheckpointError, ConfigError
from edgeface.evaluation.detection import DetectorReport
from edgeface.files import new_folder, parse_json, write_text
from edgeface.models.detector import STRIDES, FaceDetector
from edgeface.training.detection.augment import LARGEST_FACE
from edgeface.training.detection.config import DetectorConfig, changed_settings
from edgeface.training.detection.learner import DetectorLearner
from edgeface.training.fingerprint import list_fingerprint, what_differs

STATE_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What is known about trained weights.

    Attributes:
        step: when they were kept.
        config: of the run.
        max_face: the largest face that they were taught, in pixels.
        scores: on the val part, if the run was finished.
        fingerprint: of the pictures, see `edgeface.training.fingerprint`; None in old checkpoints.
    """

    step: int
    config: DetectorConfig
    max_face: int
    scores: DetectorReport | None
    fingerprint: Mapping[str, str] | None = None


def is_detector(path: Path) -> bool:
    """Whether a run folder or checkpoint folder is that of a detector, as far as its `state.json` says."""
    folder = _checkpoint_folder(path)
    try:
        state = parse_json((folder / "state.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and state.get("kind") == "detector"


def has_checkpoint(out: Path) -> bool:
    """Whether the run folder `out` has something to go on from."""
    return (out / "checkpoint").exists()


def save_checkpoint(
    learner: DetectorLearner, out: Path, step: int, pictures: Sequence[str], scores: DetectorReport | None
) -> None:
    """Replace `checkpoint/` of the run folder `out` as a whole; `pictures` are the names of what it learned from.

    `detector.safetensors` holds the averaged weights, the ones to deploy; `training.safetensors` what a resumed
    run needs besides; `state.json` the rest.
    """
    training = {f"network.{name}": tensor.contiguous() for name, tensor in learner.network.state_dict().items()}
    for number, values in learner.optimizer.state_dict()["state"].items():
        training |= {f"optimizer.{number}.{name}": tensor.contiguous() for name, tensor in values.items()}
    state = {
        "version": STATE_VERSION,
        "kind": "detector",
        "step": step,
        "config": learner.config.to_dict(),
        "scores": asdict(scores) if scores else None,
        "fingerprint": list_fingerprint(pictures),
    }
    with new_folder(out / "checkpoint") as folder:
        average = {name: tensor.contiguous() for name, tensor in learner.average.items()}
        save_file(average, folder / "detector.safetensors")
        save_file(training, folder / "training.safetensors")
        write_text(folder / "state.json", json.dumps(state, indent=2) + "\n")


def load_training(learner: DetectorLearner, out: Path, pictures: Sequence[str]) -> int:
    """Fill a learner from the checkpoint of the run folder `out`; returns the step it was kept at.

    Raises:
        ConfigError: the run was started with other settings.
        CheckpointError: the checkpoint is broken, of another network, or was trained on pictures of other names.
    """
    folder = out / "checkpoint"
    kept, info = load_detector(folder)
    if changed := changed_settings(info.config.to_dict(), learner.config.to_dict()):
        key, before, now = changed[0]
        raise ConfigError(f"{out} was started with {key} = {before}, not {now}; resume with the same settings")
    if other := what_differs(info.fingerprint, list_fingerprint(pictures)):
        raise CheckpointError(f"{folder} was trained on other data: {other} now; resume with the same data")
    try:
        saved = load_file(folder / "training.safetensors")
        weights = {n.removeprefix("network."): t for n, t in saved.items() if n.startswith("network.")}
        learner.network.load_state_dict(weights)
    except (OSError, SafetensorError, LookupError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be resumed: {error}; start a new run") from None
    for name, tensor in kept.state_dict().items():
        learner.average[name].copy_(tensor)
    state: dict[int, dict[str, Tensor]] = {}
    groups = learner.optimizer.state_dict()["param_groups"]
    try:
        for name, tensor in saved.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                state.setdefault(int(number), {})[key] = tensor
        learner.optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be resumed: {error}; start a new run") from None
    return info.step


def load_detector(path: Path) -> tuple[FaceDetector, DetectorInfo]:
    """Load the averaged weights of a run folder or its checkpoint folder, in eval mode.

    Raises:
        CheckpointError: there is none, or it is broken or of another version.
    """
    folder = _checkpoint_folder(path)
    try:
        state = parse_json((folder / "state.json").read_bytes())
        kind, version = state.get("kind", "network of another kind"), state.get("version")
        if (kind, version) != ("detector", STATE_VERSION):
            raise CheckpointError(
                f"{folder} holds a {kind} of version {version}, not a detector of {STATE_VERSION}; train one with: "
                "edgeface train --task detect"
            )
        config = DetectorConfig.from_dict(state["config"], str(folder / "state.json"))
        network = FaceDetector(config.model)
        network.load_state_dict(load_file(folder / "detector.safetensors"))
        scores = DetectorReport(**state["scores"]) if state["scores"] else None
        step, trained_on = int(state["step"]), state.get("fingerprint")
        if not (trained_on is None or isinstance(trained_on, dict)):
            raise TypeError(f"its fingerprint is {trained_on!r:.40}")
    except FileNotFoundError as error:
        raise CheckpointError(f"no detector checkpoint in {path}: {error.filename} is missing") from None
    except ConfigError as error:
        raise CheckpointError(f"the detector checkpoint {folder} is of another edgeface: {error}") from None
    except (
        OSError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError, SafetensorError, RuntimeError
    ) as error:  # fmt: skip
        raise CheckpointError(f"the detector checkpoint {folder} is broken: {error}") from None
    return network.eval(), DetectorInfo(step, config, largest_face(config.run.side), scores, trained_on)


def largest_face(side: int) -> int:
    """Return the largest face that training pictures of this side show, in pixels, rounded up to whole cells."""
    return math.ceil(LARGEST_FACE * side / STRIDES[-1]) * STRIDES[-1]


def _checkpoint_folder(path: Path) -> Path:
    return path / "checkpoint" if (path / "checkpoint").is_dir() else path
