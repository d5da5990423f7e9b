"""Weights of a file, brought into a network of ours: names mapped, every tensor accounted for."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from edgeface.errors import CheckpointError, ConfigError
from edgeface.models import MAX_EMBEDDING_SIZE, MODELS, build_model
from edgeface.models.resnet import FaceResNet
from edgeface.models.weights.files import read_tensors
from edgeface.models.weights.names import in_groups
from edgeface.models.weights.sources import HEADS, SOURCES, Source

_WRAPPERS: Final = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that torch.compile and others put in anywhere."""

_COUNTER: Final = "num_batches_tracked"
"""Of a norm; no network of ours reads it, and old files lack it."""

_SIZES: Final = (64, 96)
"""Two lengths of an embedding: what differs between the networks of both depends on it."""


FEW: Final = 0.1
"""Share of the names of a network, or of a file, that any two networks may have in common."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that fit a network of ours.

    Attributes:
        path: where they lie.
        model: which network, as `edgeface.models.build_model` takes it.
        embedding_size: D, as the tensors have it.
        source: whose names they had.
        tensors: by our names, on the CPU, of any floating type.
        dropped: names in the file, in groups, of what is not the network: loss heads, optimizers.
        fresh: beginnings of the names of blocks that the file lacks; they change nothing before they are trained.
    """

    path: Path
    model: str
    embedding_size: int
    source: Source
    tensors: Mapping[str, Tensor]
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]

    def fill(self, network: nn.Module) -> None:
        """Copy the weights into a network of this kind and size, float32.

        Raises:
            CheckpointError: a number is not finite.
        """
        places = network.state_dict()
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                if not torch.isfinite(tensor).all():
                    raise CheckpointError(f"{self.path} holds numbers that are not finite, in {name}; use another file")
                places[name].copy_(tensor)

    def build(self) -> nn.Module:
        """Return the network with these weights, as its maker has it, in evaluation mode and without gradients.

        Raises:
            CheckpointError: a number is not finite.
        """
        network = build_model(self.model, self.embedding_size)
        self.fill(network)
        return network.eval().requires_grad_(False)


def open_weights(path: Path, model: str, *, may_grow: bool = False) -> Weights:
    """Read weights and match them with a network of ours.

    Args:
        path: as `edgeface.models.weights.files.read_tensors`.
        model: as `edgeface.models.build_model`.
        may_grow: whether the file may be of a network that lacks some blocks of this one, see
            `edgeface.models.resnet.FaceResNet.neutral_parts`.

    Raises:
        CheckpointError: the file cannot be read, or does not fit: missing, unexpected and misshapen tensors are named.
        UnknownNameError, ConfigError, MissingPackageError: as `build_model`.
    """
    tensors = _unwrapped(read_tensors(path))
    match = _match(tensors, model, may_grow=may_grow)
    if match.problem:
        fitting = [name for name in MODELS if name != model and not _match(tensors, name, may_grow=False).problem]
        hint = f"its tensors are those of {' or '.join(fitting)}" if fitting else "no network of edgeface fits it"
        raise CheckpointError(f"{path} does not fit {model}: {match.problem}; {hint}")
    ours = {name: tensors[match.prefix + theirs] for name, theirs in match.names.items()}
    return Weights(path, model, match.embedding_size, match.source, ours, match.dropped, match.fresh)


def swap_channels(network: nn.Module) -> None:
    """Turn a network that sees BGR into one that sees RGB and answers the same, or the other way round, in place.

    Raises:
        ConfigError: its first layer is no convolution of the picture.
    """
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise ConfigError("a network without a convolution of the picture at its beginning sees RGB only")
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1))


@dataclass(frozen=True, slots=True)
class _Match:
    """How the names of a file and of a network go together; `problem` says where they do not, in words."""

    source: Source
    prefix: str
    names: Mapping[str, str]
    embedding_size: int
    dropped: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    problem: str = ""


def _match(tensors: Mapping[str, Tensor], model: str, *, may_grow: bool) -> _Match:
    network = _skeleton(model, _SIZES[0])
    source, prefix, names = _nearest(tensors, network)
    if not names:
        return _Match(SOURCES[0], "", {}, 0, problem=f"the file has other names, {_some(tensors)}")
    found = {name: theirs for name, theirs in names.items() if prefix + theirs in tensors}
    fresh = _grown(network, found) if may_grow else ()
    missing = [
        theirs
        for name, theirs in names.items()
        if name not in found and not theirs.endswith(_COUNTER) and not name.startswith(fresh)
    ]
    wanted = [theirs for theirs in names.values() if not theirs.endswith(_COUNTER)]
    below = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    beside = [name for name in below if not name.endswith(_COUNTER)]
    known = set(wanted)
    others = [name for name in beside if name not in known]
    size = 0 if missing else _embedding_size(tensors, model, prefix, found)
    own = {theirs.partition(".")[0] for theirs in wanted}
    heads = [name for name in others if _is_head(name, tensors[prefix + name], size, own)]
    surplus = [name for name in others if name not in heads]
    problems = [
        f"{what} {', '.join(in_groups(group, universe))}"
        for what, group, universe in (
            ("it lacks", missing, wanted),
            ("it has besides", surplus, beside),
        )
        if group
    ]
    if not missing:
        problems += _misshapen(tensors, _skeleton(model, size), prefix, found)
    outside = [name for name in tensors if not name.startswith(prefix)]
    dropped = in_groups([*(prefix + name for name in heads), *outside], tensors)
    kept = {name: theirs for name, theirs in found.items() if not name.endswith(_COUNTER)}
    return _Match(source, prefix, kept, size, dropped, fresh, "; ".join(problems))


def _nearest(tensors: Mapping[str, Tensor], network: nn.Module) -> tuple[Source, str, dict[str, str]]:
    """Return whose names the file has, what stands before them, and their name of each tensor by ours."""
    best: tuple[int, Source, str, dict[str, str]] = (0, SOURCES[0], "", {})
    for source in SOURCES:
        names = source.names(network)
        if names is None:
            continue
        wanted = {theirs for theirs in names.values() if not theirs.endswith(_COUNTER)}
        counts: Counter[str] = Counter()
        for name in tensors:
            parts = name.split(".")
            for index in range(len(parts)):
                if ".".join(parts[index:]) in wanted:
                    counts[".".join([*parts[:index], ""]) if index else ""] += 1
        if not counts:
            continue
        prefix, count = counts.most_common(1)[0]
        if count > max(best[0], FEW * min(len(wanted), len(tensors))):
            twice = [other for other, number in counts.items() if number == count == len(wanted)]
            if len(twice) > 1:
                raise CheckpointError(
                    f"the file holds the network {len(twice)} times, below {' and '.join(sorted(twice))}; save the one "
                    "that you mean alone with torch.save"
                )
            best = (count, source, prefix, names)
    return best[1:]


@lru_cache(maxsize=64)
def _skeleton(model: str, size: int) -> nn.Module:
    """Build a network of which only names and shapes count."""
    with torch.device("meta" if model in MODELS else "cpu"):
        return build_model(model, size).to("meta")


def _grown(network: nn.Module, found: Collection[str]) -> tuple[str, ...]:
    parts = network.neutral_parts if isinstance(network, FaceResNet) else ()
    return tuple(part for part in parts if not any(name.startswith(part) for name in found))


def _embedding_size(tensors: Mapping[str, Tensor], model: str, prefix: str, found: Mapping[str, str]) -> int:
    """Return D as the first tensor has it that depends on it; one that cannot be is left to the check of shapes."""
    one, other = (_skeleton(model, size).state_dict() for size in _SIZES)
    for name, theirs in found.items():
        differ = [axis for axis, (a, b) in enumerate(zip(one[name].shape, other[name].shape, strict=True)) if a != b]
        tensor = tensors[prefix + theirs]
        if differ and tensor.ndim == one[name].ndim and 1 <= tensor.shape[differ[0]] <= MAX_EMBEDDING_SIZE:
            return tensor.shape[differ[0]]
    return _SIZES[0]


def _is_head(name: str, tensor: Tensor, embedding_size: int, own: Collection[str]) -> bool:
    part = name.partition(".")[0]
    fits = tensor.ndim < 2 or (tensor.ndim == 2 and (not embedding_size or embedding_size in tensor.shape))
    return part.lower() in HEADS and part not in own and fits


def _misshapen(tensors: Mapping[str, Tensor], network: nn.Module, prefix: str, found: Mapping[str, str]) -> list[str]:
    problems = []
    places = network.state_dict()
    for name, theirs in found.items():
        tensor = tensors[prefix + theirs]
        if name.endswith(_COUNTER):
            continue
        if tensor.shape != places[name].shape:
            problems.append(f"{theirs} is {_shape(tensor)} in the file and {_shape(places[name])} in the network")
        elif not tensor.is_floating_point():
            problems.append(f"{theirs} is of the type {tensor.dtype} in the file")
    return problems


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the parts of names that wrappers put in."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        result[name if plain in result else plain] = tensor
    return result


def _some(tensors: Mapping[str, Tensor]) -> str:
    names = in_groups(tensors, tensors)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
