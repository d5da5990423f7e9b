"""The checkpoint of a quality network: its weights, configuration and state."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeface.errors import CheckpointError, ConfigError
from edgeface.evaluation.discard import QualityReport
from edgeface.files import new_folder, write_text
from edgeface.models.quality import QualityNet
from edgeface.training.quality.config import QualityConfig, changed_settings
from edgeface.training.quality.learner import QualityLearner

STATE_VERSION: Final = 1
KIND: Final = "quality network"


@dataclass(frozen=True, slots=True)
class QualityInfo:
    """What is known about trained weights.

    Attributes:
        epoch: epochs done.
        config: of the run.
        scores: on the views held apart, if the run was finished.
    """

    epoch: int
    config: QualityConfig
    scores: QualityReport | None


def is_quality(path: Path) -> bool:
    """Whether a run folder or checkpoint folder is that of a quality network, as far as its `state.json` says."""
    try:
        state = json.loads((_checkpoint_folder(path) / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and state.get("kind") == KIND


def save_checkpoint(learner: QualityLearner, out: Path, epoch: int, scores: QualityReport | None) -> None:
    """Replace `checkpoint/` of the run folder `out` as a whole."""
    training: dict[str, Tensor] = {}
    for number, values in learner.optimizer.state_dict()["state"].items():
        training |= {f"optimizer.{number}.{name}": tensor.contiguous() for name, tensor in values.items()}
    state = {
        "version": STATE_VERSION,
        "kind": KIND,
        "epoch": epoch,
        "config": learner.config.to_dict(),
        "scores": asdict(scores) if scores else None,
    }
    with new_folder(out / "checkpoint") as folder:
        weights = {name: tensor.contiguous() for name, tensor in learner.network.state_dict().items()}
        save_file(weights, folder / "quality.safetensors")
        save_file(training, folder / "training.safetensors")
        write_text(folder / "state.json", json.dumps(state, indent=2) + "\n")


def load_training(learner: QualityLearner, out: Path) -> int:
    """Fill a learner from the checkpoint of the run folder `out`; returns the epochs that were done, or 0.

    Raises:
        ConfigError: the run was started with other settings.
        CheckpointError: the checkpoint is broken or of another network.
    """
    folder = out / "checkpoint"
    if not folder.exists():
        return 0
    network, info = load_quality(folder)
    if changed := changed_settings(info.config.to_dict(), learner.config.to_dict()):
        key, before, now = changed[0]
        raise ConfigError(f"{out} was started with {key} = {before}, not {now}; resume with the same settings")
    try:
        saved = load_file(folder / "training.safetensors")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in saved.items():
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
        groups = learner.optimizer.state_dict()["param_groups"]
        learner.optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder} cannot be resumed: {error}; start a new run") from None
    learner.network.load_state_dict(network.state_dict())
    return info.epoch


def load_quality(path: Path) -> tuple[QualityNet, QualityInfo]:
    """Load a run folder or its checkpoint folder, in eval mode.

    Raises:
        CheckpointError: there is none, or it is broken or of another version.
    """
    folder = _checkpoint_folder(path)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        kind, version = state.get("kind", "network of another kind"), state.get("version")
        if (kind, version) != (KIND, STATE_VERSION):
            raise CheckpointError(
                f"{folder} holds a {kind} of version {version}, not a {KIND} of {STATE_VERSION}; train one with: "
                "edgeface train --task quality"
            )
        config = QualityConfig.from_dict(state["config"], str(folder / "state.json"))
        network = QualityNet()
        network.load_state_dict(load_file(folder / "quality.safetensors"))
        scores = QualityReport(**state["scores"]) if state["scores"] else None
        return network.eval(), QualityInfo(int(state["epoch"]), config, scores)
    except FileNotFoundError as error:
        raise CheckpointError(f"no quality checkpoint in {path}: {error.filename} is missing") from None
    except ConfigError as error:
        raise CheckpointError(f"the quality checkpoint {folder} is of another edgeface: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"the quality checkpoint {folder} is broken: {error}") from None


def _checkpoint_folder(path: Path) -> Path:
    return path / "checkpoint" if (path / "checkpoint").is_dir() else path
