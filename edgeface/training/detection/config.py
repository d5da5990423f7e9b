"""What a training run of a detector does; read from TOML and overrides as `edgeface.training.settings` does."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeface.errors import ConfigError
from edgeface.models.detector import DetectorShape
from edgeface.training.settings import differences, from_tables, read_settings

PLACES: Final = frozenset({"data.path", "run.threads", "run.log_steps", "run.checkpoint_steps"})
"""Keys that do not decide what comes out: they may differ within a run."""


@dataclass(frozen=True, slots=True)
class DetectionData:
    """What to train on.

    Attributes:
        path: folder of `detect.jsonl`, `detect-train.tar` and `detect-val.tar`.
        scenes: number of drawn scenes to mix in.
        scene_share: how often a scene is drawn instead of a photograph, in [0, 1].
    """

    path: str = ""
    scenes: int = 800
    scene_share: float = 0.27


@dataclass(frozen=True, slots=True)
class DetectionOptimizer:
    """How the weights move: AdamW.

    Attributes:
        lr: peak learning rate; after the warm-up it falls along a cosine to a hundredth.
        warmup_steps: length of the linear rise.
        weight_decay: of the convolutions.
        averaging: the weights that are kept are an exponential average of the trained ones with this momentum.
    """

    lr: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.02
    averaging: float = 0.998


@dataclass(frozen=True, slots=True)
class DetectionRun:
    """How long, and what is written.

    Attributes:
        seed: of the weights, scenes and batches.
        steps: number of batches.
        batch_size: pictures in one.
        side: of a training picture in pixels, a multiple of 32.
        start: run folder of a trained detector of the same shape to begin with; empty to begin with noise.
        threads: CPU threads for PyTorch and OpenCV; 0 leaves them as they are.
        log_steps: steps between two lines of metrics.jsonl.
        checkpoint_steps: steps between two checkpoints.
    """

    seed: int = 0
    steps: int = 7500
    batch_size: int = 32
    side: int = 192
    start: str = ""
    threads: int = 0
    log_steps: int = 50
    checkpoint_steps: int = 500


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Everything that decides what a training run of a detector computes.

    Raises:
        ConfigError: a value is out of range.
    """

    data: DetectionData = field(default_factory=DetectionData)
    model: DetectorShape = field(default_factory=DetectorShape)
    optimizer: DetectionOptimizer = field(default_factory=DetectionOptimizer)
    run: DetectionRun = field(default_factory=DetectionRun)

    def __post_init__(self) -> None:
        limits = (
            ("data.scenes", self.data.scenes, 0, 1_000_000),
            ("data.scene_share", self.data.scene_share, 0, 1),
            ("model.neck", self.model.neck, 1, 4096),
            *(("model.widths", width, 1, 4096) for width in self.model.widths),
            *(("model.depths", depth, 0, 100) for depth in self.model.depths),
            ("optimizer.lr", self.optimizer.lr, 0, 1e30),
            ("optimizer.warmup_steps", self.optimizer.warmup_steps, 0, 1_000_000_000),
            ("optimizer.weight_decay", self.optimizer.weight_decay, 0, 100),
            ("optimizer.averaging", self.optimizer.averaging, 0, 1),
            ("run.seed", self.run.seed, 0, 2**32 - 1),
            ("run.steps", self.run.steps, 1, 1_000_000_000),
            ("run.batch_size", self.run.batch_size, 1, 1_000_000),
            ("run.side", self.run.side, 64, 4096),
            ("run.threads", self.run.threads, 0, 1024),
            ("run.log_steps", self.run.log_steps, 1, 1_000_000),
            ("run.checkpoint_steps", self.run.checkpoint_steps, 1, 1_000_000_000),
        )
        for key, value, low, high in limits:
            if not low <= value <= high:
                raise ConfigError(f"{key} = {value} is out of range; use a value from {low} to {high:g}")
        if self.run.side % 32:
            raise ConfigError(f"run.side must be a multiple of 32, got {self.run.side}; use for example 192")
        if self.data.scene_share and not self.data.scenes:
            raise ConfigError("data.scene_share needs scenes; set data.scenes, or data.scene_share=0")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "the configuration") -> "DetectorConfig":
        """Build a configuration from nested tables; what is not named keeps its default.

        Raises:
            ConfigError: an unknown key, a value of the wrong type or out of range.
        """
        return from_tables(cls, values, source)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested tables of plain values, as `from_dict` takes them."""
        return asdict(self)


def load_detector_config(
    path: Path | None = None, overrides: Iterable[str] = (), recipe: str = "detector"
) -> DetectorConfig:
    """Read a configuration: a recipe, then a TOML file, then overrides; see `edgeface.training.settings`.

    Raises:
        ConfigError: as `read_settings`.
        UnknownNameError: there is no such recipe.
    """
    return read_settings(DetectorConfig, "detect", path, overrides, recipe)


def changed_settings(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """Return what decides otherwise in two configurations, as (key, old value, new value)."""
    return differences(_plain(DetectorConfig().to_dict()), _plain(old), _plain(new), PLACES)


def _plain(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return settings as JSON has them, which knows no tuples."""
    return {
        section: {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}
        for section, table in settings.items()
    }
