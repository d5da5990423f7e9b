"""What a training run does, read from TOML and `key=value` overrides, with every key and type checked."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from edgeface.data.augment import AugmentConfig
from edgeface.errors import ConfigError
from edgeface.losses import LOSSES
from edgeface.losses.config import LossConfig as LossConfig
from edgeface.models import MODELS, is_built_in
from edgeface.plugins import Kind, Plugin, find, is_plugin, unknown
from edgeface.training.settings import differences, from_tables, read_settings

PLACES: Final = frozenset({"data.path", "data.workers", "teacher.path", "teacher.transform"})
"""Keys that say where the data lies and how it is read, not what it is: they may differ within a run."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What to train on.

    Attributes:
        path: as `edgeface.data.open_faces`; empty when the faces are handed over in memory.
        split: train on this split where the data has splits.
        val_split: hold out this split where the data has splits.
        val_identities: share of the identities to hold out where the data has no splits, in [0, 0.5].
        workers: processes that decode and augment; -1 chooses by the number of cores.
    """

    path: str = ""
    split: str = "train"
    val_split: str = "val"
    val_identities: float = 0.1
    workers: int = -1


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which network, how many numbers an embedding has, and what it knows already.

    Attributes:
        name: as `edgeface.models.build_model`: of `MODELS`, of timm, or a plug-in.
        embedding_size: D.
        start: checkpoint folder or run folder of the same network to begin with, or of one that lacks some blocks of
            this one (resnet-edge for resnet-edge-deep), which then begin as blocks that change nothing; empty for fresh
            weights.
        options: of a plug-in, all that its constructor takes besides the embedding size; in a file and on the command
            line they are keys of `model`.
    """

    BESIDE_PLUGIN = frozenset({"name", "embedding_size", "start", "options"})
    """Keys that hold for every network; all others are for the constructor of a plug-in, if that is the network."""

    name: str = "resnet-edge"
    embedding_size: int = 128
    start: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @staticmethod
    def names_plugin(name: object) -> bool:
        """Tell whether a network of this name is a plug-in."""
        return isinstance(name, str) and not is_built_in(name) and is_plugin(Kind.backbone, name)


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """Embeddings of another network to imitate, also of faces without identity.

    Attributes:
        path: .npz with `key` (N,) and `embedding` (N, D), or an ONNX embedder of this project (.onnx), which is asked
            for each batch; empty for no teacher.
        transform: .npz with `mean`, `basis` and `scale`, applied to the embeddings first; empty for none.
        weight: factor of the distillation loss.
    """

    path: str = ""
    transform: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """How the weights move.

    Attributes:
        name: `adamw` or `sgd` (Nesterov momentum).
        lr: peak learning rate, reached after the warm-up; falls to `final_lr` along a cosine.
        final_lr: as a share of `lr`.
        warmup_epochs: length of the linear rise from zero.
        weight_decay: of weight matrices and kernels only, not of biases, norms and slopes.
        momentum: of `sgd`.
        clip_norm: largest norm of the gradient; 0 does not clip.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    final_lr: float = 0.01
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    momentum: float = 0.9
    clip_norm: float = 5.0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How long, on what, and what is written.

    Attributes:
        seed: of weights, order, augmentation, held-out identities and pairs.
        epochs: passes over the training faces.
        batch_size: faces in a step, of all processes together; the incomplete batch at the end of an epoch is dropped.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto` is float32 on a CPU, bfloat16 on a GPU that has it and else float16.
        log_steps: steps between two lines of metrics.jsonl.
        eval_epochs: epochs between two evaluations; the last epoch is always evaluated.
        checkpoint_epochs: epochs between two checkpoints; the last epoch always writes one.
        val_pairs: pairs drawn from the held-out identities.
        sampler: what a batch is made of. `shuffle`: every face once an epoch; `balanced`: every identity equally
            often; `pk`: a few faces of each of a few identities, which losses over pairs need.
        faces_per_identity: of the sampler `pk`, by default 4; divides the batch size.
        sync_batch_norm: let batch norms see the faces of all processes, so that several do what one would; slower.
    """

    seed: int = 0
    epochs: int = 20
    batch_size: int = 128
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    log_steps: int = 20
    eval_epochs: int = 1
    checkpoint_epochs: int = 1
    val_pairs: int = 3000
    sampler: Literal["shuffle", "balanced", "pk"] = "shuffle"
    faces_per_identity: int | None = None
    sync_batch_norm: bool = False


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides what a training run computes."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        for kind, part, is_known, names in (
            (Kind.backbone, self.model, is_built_in(self.model.name), MODELS),
            (Kind.loss, self.loss, self.loss.name in LOSSES, LOSSES),
            (Kind.augmentation, self.augment, not self.augment.name, {}),
        ):
            if is_known and part.options:
                raise ConfigError(f"{', '.join(part.options)} are options of a plug-in, and {part.name!r} is none")
            if not is_known and not is_plugin(kind, part.name):
                raise unknown(kind, part.name, names)
        limits = (
            ("run.epochs", self.run.epochs, 1, 1_000_000),
            ("data.val_identities", self.data.val_identities, 0, 0.5),
            ("data.workers", self.data.workers, -1, 256),
            ("loss.scale", self.loss.scale, 1e-3, 1e4),
            ("loss.margin", self.loss.margin, -1, 8),
            ("loss.weight", self.loss.weight, 0, 1e6),
            ("teacher.weight", self.teacher.weight, 0, 1e6),
            ("optimizer.lr", self.optimizer.lr, 0, 1e6),
            ("optimizer.final_lr", self.optimizer.final_lr, 0, 1),
            ("optimizer.warmup_epochs", self.optimizer.warmup_epochs, 0, self.run.epochs),
            ("optimizer.weight_decay", self.optimizer.weight_decay, 0, 100),
            ("optimizer.momentum", self.optimizer.momentum, 0, 1),
            ("optimizer.clip_norm", self.optimizer.clip_norm, 0, 1e9),
            ("run.seed", self.run.seed, 0, 2**32 - 1),
            ("run.batch_size", self.run.batch_size, 2, 1_000_000),
            ("run.log_steps", self.run.log_steps, 1, 1_000_000),
            ("run.eval_epochs", self.run.eval_epochs, 1, 1_000_000),
            ("run.checkpoint_epochs", self.run.checkpoint_epochs, 1, 1_000_000),
            ("run.val_pairs", self.run.val_pairs, 0, 10_000_000),
            *((f"augment.{name}", chance, 0, 1) for name, chance in self.augment.chances().items()),
        )
        for key, value, low, high in limits:
            if not low <= value <= high:
                raise ConfigError(f"{key} = {value} is out of range; use a value from {low} to {high:g}")
        if self.run.faces_per_identity is not None and self.run.sampler != "pk":
            raise ConfigError(
                f"run.faces_per_identity = {self.run.faces_per_identity} has no effect on the sampler "
                f"{self.run.sampler}; set run.sampler=pk or leave it out"
            )
        if not (self.loss.weight or (self.teacher.path and self.teacher.weight)):
            raise ConfigError("nothing to learn: loss.weight is 0 and there is no teacher; set one of them")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "the configuration") -> "TrainConfig":
        """Build a configuration from nested tables; what is not named keeps its default.

        Raises:
            ConfigError: an unknown key, a value of the wrong type or out of range.
        """
        return from_tables(cls, values, source)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested tables of plain values, as `from_dict` takes them."""
        tables = asdict(self)
        if self.loss.names_plugin(self.loss.name):  # its options may be called as those of other losses are
            tables["loss"] = {"name": self.loss.name, "weight": self.loss.weight, "options": self.loss.given()}
        return tables

    def plugins(self) -> tuple[Plugin, ...]:
        """Return the plug-ins that a run loads, with the packages that they come from."""
        named = (
            (Kind.backbone, self.model.name, is_built_in(self.model.name)),
            (Kind.loss, self.loss.name, self.loss.name in LOSSES or not self.loss.weight),
            (Kind.augmentation, self.augment.name, not self.augment.name),
        )
        found = (find(kind, name) for kind, name, is_known in named if not is_known)
        return tuple(plugin for plugin in found if plugin is not None)


def load_config(path: Path | None = None, overrides: Iterable[str] = (), recipe: str = "") -> TrainConfig:
    """Read a configuration: a recipe of this package, then a TOML file, then `key=value` overrides.

    Args:
        path: TOML file, or None.
        overrides: such as `optimizer.lr=1e-3`; the value is TOML, or else taken as text.
        recipe: a name from `recipe_names`, or empty.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value of the wrong type or out of range.
        UnknownNameError: there is no such recipe.
    """
    return read_settings(TrainConfig, "embed", path, overrides, recipe)


def changed_keys(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """Return what decides otherwise in two configurations, as (key, old value, new value); see `PLACES`.

    What `old` does not know yet had its default.
    """
    return differences(TrainConfig().to_dict(), old, new, PLACES)
