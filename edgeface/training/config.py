"""What a training run does, read from TOML and `key=value` overrides, with every key and type checked."""

import difflib
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal

from edgeface.data.augment import AugmentConfig
from edgeface.errors import ConfigError, UnknownNameError
from edgeface.losses import LOSSES
from edgeface.losses.config import LossConfig as LossConfig
from edgeface.models import MODELS

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
    """Which network of `edgeface.models.MODELS`, how many numbers an embedding has, and what it knows already.

    Attributes:
        name: of the network.
        embedding_size: D.
        start: checkpoint folder or run folder of the same network to begin with; empty for fresh weights.
    """

    name: str = "resnet-edge"
    embedding_size: int = 128
    start: str = ""


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
        for kind, name, choices in (("model", self.model.name, MODELS), ("loss", self.loss.name, LOSSES)):
            if name not in choices:
                raise UnknownNameError(kind, name, choices)
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
            *((f"augment.{f.name}", getattr(self.augment, f.name), 0, 1) for f in fields(self.augment)),
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
        sections = {f.name: f.type for f in fields(cls)}
        built: dict[str, Any] = {}
        for section, table in values.items():
            kind = sections.get(section)
            if kind is None or not isinstance(kind, type) or not is_dataclass(kind):
                inner = next(iter(table), "") if isinstance(table, Mapping) else ""
                raise _unknown(f"{section}.{inner}" if inner else section, source)
            if not isinstance(table, Mapping):
                raise ConfigError(f"{section} in {source} is {table!r}; it should be a table of keys")
            hints = typing.get_type_hints(kind)
            for key in table:
                if key not in hints:
                    raise _unknown(f"{section}.{key}", source)
            built[section] = kind(
                **{key: _typed(f"{section}.{key}", value, hints[key]) for key, value in table.items()}
            )
        return cls(**built)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return nested tables of plain values, as `from_dict` takes them."""
        return asdict(self)


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
    values: dict[str, dict[str, Any]] = {}
    source = "the overrides"
    if recipe:
        if recipe not in recipe_names():
            raise UnknownNameError("recipe", recipe, recipe_names())
        source = f"recipe {recipe}"
        _merge(values, tomllib.loads((_recipes() / f"{recipe}.toml").read_text(encoding="utf-8")), source)
    if path:
        source = str(path)
        try:
            _merge(values, tomllib.loads(path.read_text(encoding="utf-8")), source)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {path}: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        section, dot, name = key.strip().partition(".")
        if not equals:
            raise ConfigError(f"the override {override!r} has no value; write it as key=value, as run.epochs=20")
        if not dot:
            raise _unknown(section, "the overrides")
        _merge(values, {section: {name: _value(text.strip())}}, "the overrides")
    return TrainConfig.from_dict(values, source)


def changed_keys(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """Return what decides otherwise in two configurations, as (key, old value, new value); see `PLACES`.

    What `old` does not know yet had its default.
    """
    before, after = _flat(TrainConfig().to_dict()) | _flat(old), _flat(new)
    return [(k, before.get(k), v) for k, v in after.items() if k not in PLACES and v != before.get(k)]


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    return tuple(sorted(f.name.removesuffix(".toml") for f in _recipes().iterdir() if f.name.endswith(".toml")))


def _recipes() -> Traversable:
    return resources.files("edgeface.training") / "recipes"


def _merge(values: dict[str, dict[str, Any]], more: Mapping[str, Any], source: str) -> None:
    for section, table in more.items():
        if not isinstance(table, Mapping):
            raise _unknown(section, source)
        values.setdefault(section, {}).update(table)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word or a path without quotes


def _flat(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, table in config.items() for key, value in table.items()}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return `value` if it is of the type that `hint` says; an integer will do for a float."""
    if typing.get_origin(hint) is UnionType:  # X | None, where None is "not set"
        return None if value is None else _typed(key, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{key} = {value!r} is not a choice; use one of: {', '.join(choices)}")
        return value
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:  # bool is not an int here
        raise ConfigError(f"{key} = {value!r} is of type {type(value).__name__}; it should be {hint.__name__}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{key} = {value} is not finite; give a number")
    return value


def _unknown(key: str, source: str) -> ConfigError:
    known = [f"{section.name}.{f.name}" for section in fields(TrainConfig) for f in fields(section.type)]  # type: ignore[arg-type]
    last = key.rpartition(".")[2]
    same = [k for k in known if k.endswith(f".{last}")]
    near = list(dict.fromkeys([*same, *difflib.get_close_matches(key, known, n=3, cutoff=0.5)]))[:3]
    sections = [section.name for section in fields(TrainConfig)]
    hint = f"nearest: {', '.join(near)}" if near else f"the sections are {', '.join(sections)}"
    return ConfigError(f"unknown config key {key!r} in {source}; {hint}")
