"""The run folder of a detector: its configuration, weights and state."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeface.errors import CheckpointError, ConfigError, UnknownNameError
from edgeface.files import new_folder, write_text
from edgeface.models.detector import STRIDES, DetectorShape, FaceDetector
from edgeface.training.detection.augment import LARGEST_FACE
from edgeface.training.detection.metrics import DetectorReport

STATE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Everything that decides the outcome of a training run.

    Attributes:
        data: folder of `detect.jsonl`, `detect-train.tar` and `detect-val.tar`.
        out: run folder; gets `config.json`, `metrics.jsonl` and `checkpoint/`.
        steps: number of batches.
        batch: pictures in one.
        side: of a training picture in pixels, a multiple of 32.
        learning_rate: at its peak; AdamW.
        weight_decay: of the convolutions.
        warmup_steps: the rate rises so long, then falls along a cosine to a hundredth.
        averaging: the weights that are kept are an exponential average of the trained ones with this momentum.
        scenes: number of drawn scenes to mix in.
        scene_share: how often a scene is drawn instead of a photograph, in [0, 1].
        seed: of the weights, scenes and batches.
        checkpoint_every: steps between two checkpoints.
        threads: CPU threads for PyTorch and OpenCV; 0 leaves them as they are.
        shape: of the network.
        start: run folder of a trained detector of that shape to begin with, or None to begin with noise.
    """

    data: Path
    out: Path
    steps: int = 7500
    batch: int = 32
    side: int = 192
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 200
    averaging: float = 0.998
    scenes: int = 800
    scene_share: float = 0.27
    seed: int = 0
    checkpoint_every: int = 500
    threads: int = 0
    shape: DetectorShape = field(default_factory=DetectorShape)
    start: Path | None = None

    def __post_init__(self) -> None:
        if self.side < 64 or self.side % 32:
            raise ConfigError(f"side must be a multiple of 32 from 64 up, got {self.side}; use for example 192")
        for name in ("steps", "batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.scene_share <= 1 or (self.scene_share and not self.scenes):
            raise ConfigError(f"scene_share lies in [0, 1] and needs scenes, got {self.scene_share} of {self.scenes}")


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What is known about trained weights.

    Attributes:
        step: when they were kept.
        shape: of the network.
        max_face: the largest face that they were taught, in pixels.
        scores: on the val part, if the run was finished.
    """

    step: int
    shape: DetectorShape
    max_face: int
    scores: DetectorReport | None


def save_checkpoint(
    config: DetectorConfig,
    network: FaceDetector,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    scores: DetectorReport | None,
) -> None:
    """Replace `checkpoint/` of the run folder as a whole.

    `detector.safetensors` holds the averaged weights, the ones to deploy; `training.safetensors` what a resumed
    run needs besides; `state.json` the rest.
    """
    training = {f"network.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        training |= {f"optimizer.{number}.{name}": tensor.contiguous() for name, tensor in values.items()}
    state = {
        "version": STATE_VERSION,
        "kind": "detector",
        "step": step,
        "config": plain(config),
        "scores": asdict(scores) if scores else None,
    }
    with new_folder(config.out / "checkpoint") as folder:
        save_file({name: tensor.contiguous() for name, tensor in average.items()}, folder / "detector.safetensors")
        save_file(training, folder / "training.safetensors")
        write_text(folder / "state.json", json.dumps(state, indent=2) + "\n")


def load_training(
    config: DetectorConfig,
    network: FaceDetector,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> int:
    """Fill network, average and optimizer from the checkpoint of the run folder; returns its step, or 0.

    Raises:
        CheckpointError: the checkpoint is broken or of another network.
    """
    folder = config.out / "checkpoint"
    if not folder.exists():
        return 0
    kept, info = load_detector(folder)
    try:
        saved = load_file(folder / "training.safetensors")
        network.load_state_dict({n.removeprefix("network."): t for n, t in saved.items() if n.startswith("network.")})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be resumed: {error}; start a new run") from None
    for name, tensor in kept.state_dict().items():
        average[name].copy_(tensor)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return info.step


def load_detector(path: Path) -> tuple[FaceDetector, DetectorInfo]:
    """Load the averaged weights of a run folder or its checkpoint folder, in eval mode.

    Raises:
        CheckpointError: there is none, or it is broken or of another version.
    """
    folder = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    try:
        state = json.loads((folder / "state.json").read_text())
        if (state["version"], state["kind"]) != (STATE_VERSION, "detector"):
            raise CheckpointError(
                f"{folder} holds a {state['kind']} of version {state['version']}, not a detector of 1"
            )
        shape = _shape(state["config"]["shape"])
        network = FaceDetector(shape)
        network.load_state_dict(load_file(folder / "detector.safetensors"))
        scores = DetectorReport(**state["scores"]) if state["scores"] else None
    except FileNotFoundError as error:
        raise CheckpointError(f"no detector checkpoint in {path}: {error.filename} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"the detector checkpoint {folder} is broken: {error}") from None
    return network.eval(), DetectorInfo(int(state["step"]), shape, largest_face(state["config"]["side"]), scores)


def configure(data: Path, out: Path, overrides: Iterable[str] = (), start: Path | None = None) -> DetectorConfig:
    """Make a configuration from `key=value` overrides of the numbers in `DetectorConfig`.

    Raises:
        ConfigError: an override is malformed, names no number, or is out of range.
    """
    kinds = {item.name: type(item.default) for item in fields(DetectorConfig) if isinstance(item.default, int | float)}
    values: dict[str, Any] = {}
    for override in overrides:
        name, _, text = override.partition("=")
        if name not in kinds:
            raise UnknownNameError("detector setting", name, kinds)
        try:
            values[name] = kinds[name](text)
        except ValueError:
            raise ConfigError(f"{name} should be a number ({kinds[name].__name__}), got {text!r}") from None
    return DetectorConfig(data, out, start=start, **values)


def largest_face(side: int) -> int:
    """Return the largest face that training pictures of this side show, in pixels, rounded up to whole cells."""
    return math.ceil(LARGEST_FACE * side / STRIDES[-1]) * STRIDES[-1]


def plain(config: DetectorConfig) -> dict[str, Any]:
    """Return a configuration as JSON can hold it."""
    return asdict(config) | {
        "data": str(config.data),
        "out": str(config.out),
        "start": str(config.start) if config.start else None,
    }


def _shape(values: dict[str, Any]) -> DetectorShape:
    return DetectorShape(tuple(values["widths"]), tuple(values["depths"]), values["neck"])
