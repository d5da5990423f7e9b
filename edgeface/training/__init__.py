"""Training an embedding network."""

from edgeface.training.checkpoint import CheckpointInfo, load_backbone
from edgeface.training.config import TrainConfig, load_config
from edgeface.training.loop import train
from edgeface.training.progress import NoProgress, Progress, Status
from edgeface.training.settings import recipe_names
from edgeface.training.validation import Validation

__all__ = [
    "CheckpointInfo",
    "NoProgress",
    "Progress",
    "Status",
    "TrainConfig",
    "Validation",
    "load_backbone",
    "load_config",
    "recipe_names",
    "train",
]
