"""Checkpoints: weights as safetensors, everything else as JSON; nothing in them can run code.

    checkpoint/
        backbone.safetensors     the network that is exported
        head.safetensors         what only training needs, but for the class matrix
        classes/                 the class matrix and its moments, see `edgeface.training.class_store`
        optimizer.safetensors    moments of the optimizer, and the state of the loss scaler
        state.json               format version, step, configuration, names of the networks

Each folder is written under another name first, so a checkpoint is whole or not there. The best one is for export: it
has no classes and no optimizer, so it cannot be resumed. How many processes wrote it does not matter.
"""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgeface.errors import CheckpointError, EdgefaceError, PluginError
from edgeface.files import parse_json
from edgeface.losses.ranks import ALONE, Ranks
from edgeface.models import MODELS, build_model, is_built_in
from edgeface.plugins import Kind, Plugin, assert_allowed, is_reference, unknown
from edgeface.training.processes import shared_folder

if TYPE_CHECKING:
    from edgeface.training.class_store import ClassRows

FORMAT_VERSION: Final = 2
BACKBONE: Final = "backbone.safetensors"
HEAD: Final = "head.safetensors"
OPTIMIZER: Final = "optimizer.safetensors"
CLASSES: Final = "classes"
STATE: Final = "state.json"
_FLOATS: Final = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
LAST: Final = "checkpoint"
BEST: Final = "best"


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint says about itself.

    Attributes:
        model: as `edgeface.models.build_model`; of a plug-in `module:Class`.
        embedding_size: D.
        classes: identities that the head was trained on.
        faces: pictures that it was trained on.
        loss: as `edgeface.losses.loss_class`; of a plug-in `module:Class`.
        data: what it was trained on, as given.
        step: steps done.
        epoch: epochs done, whole ones.
        seconds: time spent in training so far.
        accuracy: ten-fold accuracy on the held-out pairs at this step, in [0, 1]; None if not measured.
        best_accuracy: the best so far; None if never measured.
        config: the whole configuration, as `TrainConfig.to_dict`.
        edgeface: version of the package that wrote it.
        fingerprint: of the data, see `edgeface.training.fingerprint`; None in old checkpoints.
        plugins: what ran that is not edgeface's own, as `edgeface.plugins.Plugin.to_json`.
    """

    model: str
    embedding_size: int
    classes: int
    faces: int
    loss: str
    data: str
    step: int
    epoch: int
    seconds: float
    accuracy: float | None
    best_accuracy: float | None
    config: Mapping[str, Any]
    edgeface: str
    fingerprint: Mapping[str, str] | None = None
    plugins: Sequence[Mapping[str, str]] = ()

    def plugin(self, kind: Kind) -> Plugin | None:
        """Return what is remembered of the plug-in of a kind, None if there was none."""
        return next((Plugin.from_json(facts) for facts in self.plugins if facts["kind"] == kind), None)


def save_checkpoint(
    folder: Path,
    info: CheckpointInfo,
    backbone: nn.Module,
    head: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor] | None = None,
    classes: "ClassRows | None" = None,
    ranks: Ranks = ALONE,
) -> None:
    """Write a checkpoint folder, whole or not at all; one of the same name is replaced. Every process calls it.

    Args:
        folder: what to write.
        info: what it says about itself.
        backbone: the network that is exported.
        head: the rest of what is trained, but for the class matrix.
        optimizer: from `edgeface.training.optimizer.optimizer_tensors`; without it the run cannot be resumed.
        classes: the class matrix and its moments, if there is one.
        ranks: the processes of the run.
    """
    with shared_folder(folder, ranks) as temporary:
        if classes is not None:
            # It takes half a second to import, and whoever loads a backbone needs none of it.
            from edgeface.training.class_store import save_classes

            save_classes(temporary / CLASSES, classes)
        if ranks.rank == 0:
            save_file(_stored(backbone.state_dict()), temporary / BACKBONE)
            save_file(_stored(head), temporary / HEAD)
            if optimizer is not None:
                save_file(_stored(optimizer), temporary / OPTIMIZER)
            state = {"format_version": FORMAT_VERSION, **asdict(info)}
            if not info.plugins:  # so that an older edgeface reads it, too
                del state["plugins"]
            (temporary / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def recover_checkpoint(folder: Path) -> None:
    """Put back a checkpoint that was moved aside just before the process died, and remove what was left half."""
    if not folder.exists():
        for old in folder.parent.glob(f".{folder.name}.old.*/old"):
            old.rename(folder)
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` names: itself, or the best or last one of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file, not a run folder; if it holds weights, name their network with --model, "
            "such as --model iresnet50"
        )
    for folder in (path, path / BEST, path / LAST):
        if (folder / STATE).is_file():
            return folder
    raise CheckpointError(f"no checkpoint in {path}; give a run folder or a checkpoint folder (with {STATE})")


def read_info(folder: Path) -> CheckpointInfo:
    """Read `state.json` of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, broken or of another format version.
    """
    path = folder / STATE
    try:
        state = parse_json(path.read_bytes())
        version = state.pop("format_version")
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint in {folder}: {STATE} is missing; give a run folder") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another checkpoint") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this edgeface reads {FORMAT_VERSION}; "
            "train again or install the edgeface that wrote it"
        )
    try:
        info = CheckpointInfo(**state)
    except TypeError as error:
        raise CheckpointError(
            f"{path} lacks a field or has an unknown one ({error}); use another checkpoint"
        ) from error
    wrong = [name for name, is_sound in _SOUND.items() if not is_sound(getattr(info, name))]
    if wrong:
        raise CheckpointError(f"{path} has a value for {wrong[0]} that cannot be; use another checkpoint")
    return info


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_plugins(value: object) -> bool:
    try:
        return isinstance(value, list | tuple) and len([Plugin.from_json(facts) for facts in value]) <= len(Kind)
    except (TypeError, ValueError, KeyError, AttributeError):
        return False


_SOUND: Final[Mapping[str, Callable[[Any], bool]]] = {
    "model": _is_text,
    "loss": _is_text,
    "data": _is_text,
    "edgeface": _is_text,
    "embedding_size": _is_count,
    "classes": _is_count,
    "faces": _is_count,
    "step": _is_count,
    "epoch": _is_count,
    "seconds": _is_number,
    "accuracy": lambda value: value is None or _is_number(value),
    "best_accuracy": lambda value: value is None or _is_number(value),
    "config": lambda value: isinstance(value, dict),
    "plugins": _are_plugins,
    "fingerprint": lambda value: value is None or (isinstance(value, dict) and all(map(_is_text, value.values()))),
}
"""What a field may hold: the file says what it likes."""


def load_backbone(path: str | Path, allow: Collection[str] = ()) -> tuple[nn.Module, CheckpointInfo]:
    """Load the embedding network of a run, without its head.

    Args:
        path: run folder (its best checkpoint is taken, or else the last) or checkpoint folder.
        allow: plug-ins that it may name, `module:Class`: their code is run. No other code of a checkpoint ever is.

    Returns:
        The network on the CPU, float32, in evaluation mode and without gradients, and what its checkpoint says.

    Raises:
        CheckpointError: the checkpoint is missing, broken, of another version, or does not fit its network.
        PluginError: its network is a plug-in that is not allowed, not installed, or does not load.
    """
    folder = find_checkpoint(Path(path))
    info = read_info(folder)
    options: dict[str, Any] = {}
    if not is_built_in(info.model):
        if not is_reference(info.model):  # what an entry point leads to is not for a checkpoint to choose
            raise CheckpointError(f"{folder / STATE}: {unknown(Kind.backbone, info.model, MODELS)}")
        # By what would run, not by what is said of it.
        known = info.plugin(Kind.backbone)
        plugin = Plugin(Kind.backbone, info.model) if known is None else replace(known, reference=info.model)
        assert_allowed(plugin, allow, f"the checkpoint {folder}")
        table = info.config.get("model")
        options = table.get("options", {}) if isinstance(table, dict) else {}
    try:
        model = build_model(info.model, info.embedding_size, **options)
    except PluginError:
        raise
    except (EdgefaceError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / STATE}: {error}") from error
    load_weights(folder / BACKBONE, model)
    return model.eval().requires_grad_(False), info


def load_weights(
    path: Path, module: nn.Module, without: Collection[str] = (), optional: Collection[str] = ()
) -> tuple[str, ...]:
    """Fill `module` from a safetensors file; every tensor must be there, of its shape, and finite.

    Args:
        path: of the file.
        module: to fill.
        without: names of tensors that are stored elsewhere.
        optional: beginnings of names; if no tensor has such a beginning, those of the module stay as they are.

    Returns:
        Which of `optional` stayed as they are.

    Raises:
        CheckpointError: the file is missing or broken or does not fit.
    """
    tensors = load_tensors(path)
    absent = tuple(part for part in optional if not any(name.startswith(part) for name in tensors))
    expected = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name not in without and not name.startswith(absent)
    }
    wrong = sorted(
        {name for name in expected if name not in tensors or not _fits(tensors[name], expected[name])}
        | (tensors.keys() - expected.keys())
    )
    if wrong:
        raise CheckpointError(
            f"{path} does not fit the network: {len(wrong)} tensors differ, the first is {wrong[0]}; "
            "was the configuration changed?"
        )
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path} holds numbers that are not finite, in {broken[0]}; use another checkpoint")
    module.load_state_dict(tensors, strict=not (without or absent))
    return absent


def _fits(stored: Tensor, expected: Tensor) -> bool:
    """Whether a tensor has the shape that is expected, and numbers of a kind that converts."""
    kind = _FLOATS if expected.is_floating_point() else {expected.dtype}
    return stored.shape == expected.shape and stored.dtype in kind


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: the file is missing or broken.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; use another checkpoint") from None
    except (OSError, SafetensorError, LookupError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another checkpoint") from error
    return tensors


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # channels_last weights are not contiguous in the sense of the file format
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
