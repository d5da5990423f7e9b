"""From the options that name data to pairs and what else to measure; from those that name a model to the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeface.errors import ConfigError
from edgeface.files import readable_name

if TYPE_CHECKING:
    from edgeface.data.faceset import FaceSet
    from edgeface.data.pairs import Pairs
    from edgeface.evaluation.assessment import Plan
    from edgeface.evaluation.models import OpenModel
    from edgeface.export.importing.foreign_model import Choices
    from edgeface.export.preprocessing import Channels
    from edgeface.export.presets import Said

FOREIGN_OPTIONS: Final = (
    *("preprocessing", "input_layout", "channel_order", "mean", "scale"),
    *("input_size", "input_affine", "output_transform"),
)
"""Parameters of the commands that say what a foreign network expects."""


def open_pairs(data: str, pairs: Path | None, split: str | None) -> "tuple[FaceSet, Pairs, str]":
    """Open faces and pairs, and name the protocol.

    The pairs are those of the list if one is given, those of a verification file, those of a `pairs.txt` that lies
    beside the faces, or else drawn.
    """
    from edgeface.data import make_pairs, open_bin, open_faces, read_lfw_pairs

    if Path(data).suffix == ".bin" and pairs is None:
        if split is not None:
            raise ConfigError(f"{data} is a verification file, which has no splits; leave out --split {split}")
        return *open_bin(Path(data).expanduser()), readable_name(Path(data).stem)
    faces = open_faces(data, split=split)
    folder = Path(data) if Path(data).is_dir() else Path(data).parent
    if pairs is None and split is None and (folder / "pairs.txt").is_file():
        pairs = folder / "pairs.txt"
    if pairs is not None:
        return faces, read_lfw_pairs(pairs, faces), "lfw" if pairs.name == "pairs.txt" else readable_name(pairs.stem)
    return faces, make_pairs(faces), "drawn from identities" + (f", split {split}" if split else "")


def open_plan(
    data: str,
    pairs: Path | None,
    split: str | None,
    *,
    templates: Path | None,
    template_pairs: Path | None,
    identify: str | None,
    labels: Path | None,
    fmr: float,
    replicates: int,
    seed: int,
) -> "Plan":
    """Open all that `edgeface eval` measures on; every file is read and checked before a face is embedded.

    Raises:
        ConfigError: options that do not go together.
        DataError: a file that cannot be used.
    """
    from edgeface.data import open_faces
    from edgeface.evaluation.assessment import Plan
    from edgeface.evaluation.groups import read_labels
    from edgeface.evaluation.identification import draw_search, read_search
    from edgeface.evaluation.items import face_items
    from edgeface.evaluation.templates import read_template_pairs, read_templates

    if (templates is None) != (template_pairs is None):
        raise ConfigError("--templates and --template-pairs go together; give both, or neither")
    if templates is not None and template_pairs is not None:
        if pairs is not None:
            raise ConfigError("--pairs are of faces and --template-pairs of templates; give one of them")
        items = read_templates(templates, open_faces(data, split=split))
        compared, protocol = read_template_pairs(template_pairs, items), readable_name(template_pairs.stem)
    else:
        faces, compared, protocol = open_pairs(data, pairs, split)
        items = face_items(faces)
    search = None
    if identify is not None:
        search = draw_search(items, seed) if identify == "drawn" else read_search(Path(identify), items)
    return Plan(
        protocol=protocol,
        items=items,
        pairs=compared,
        fmr=fmr,
        replicates=replicates,
        seed=seed,
        search=search,
        labels=read_labels(labels, items) if labels else None,
    )


def open_named(
    model: Path,
    said: "Said | None",
    network: str | None,
    choices: "Choices | None" = None,
    *,
    precision: str,
    provider: str,
    threads: int,
    cosine: bool = False,
    allow_plugins: Sequence[str] = (),
) -> "OpenModel":
    """Open a model: weights of a named network, a foreign ONNX network if something was said of it, or one of ours.

    `cosine` leaves a bundle's cohort out; `allow_plugins` are those that a run folder may name.

    Raises:
        ConfigError, CheckpointError, BundleError, ExportError, ProviderError: as the kind of model raises them.
    """
    from edgeface.evaluation.models import OpenModel, open_model

    if choices is not None and said is None:
        raise ConfigError("--output and --set-input are for foreign networks; say what preprocessing it needs, too")
    if network is not None:
        from edgeface.export.presets import Said
        from edgeface.export.weights import open_weights_embedder

        if precision not in ("auto", "fp32"):
            raise ConfigError(f"{model} runs in fp32, not {precision}; export it to a bundle first")
        embedder, remarks = open_weights_embedder(model, network, said or Said())
        return OpenModel(embedder, readable_name(str(model)), "fp32", "torch", remarks=remarks)
    if said is None:
        return open_model(
            model,
            precision=precision,
            provider=provider,
            threads=threads,
            cosine=cosine,
            allow_plugins=allow_plugins,
        )
    from edgeface.export.importing.foreign_model import NOTHING_SAID
    from edgeface.export.presets import complete
    from edgeface.export.sources import ForeignEmbedder
    from edgeface.runtime.signature import refuse_loose

    refuse_loose(model)
    foreign = ForeignEmbedder(
        model, complete(said), provider=provider, threads=threads, choices=choices or NOTHING_SAID
    )
    name = readable_name(str(model))
    return OpenModel(foreign, name, "as stored", foreign.provider, remarks=foreign.preprocessing.remarks)


def foreign_choices(output: str | None, set_inputs: Sequence[str] | None) -> "Choices | None":
    """Return what was said of a foreign network besides its preprocessing, None if nothing was.

    Raises:
        ConfigError: a constant input is not of the form NAME=NUMBER.
    """
    if output is None and not set_inputs:
        return None
    from edgeface.export.importing.foreign_model import Choices

    constants = {}
    for text in set_inputs or ():
        name, _, number = text.rpartition("=")
        try:
            constants[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"--set-input is of the form NAME=NUMBER, such as is_train=0; got {text!r}")
    return Choices(output, constants)


def foreign_said(options: Mapping[str, Any]) -> "Said | None":
    """Return what was said of a foreign network, None if nothing was.

    Args:
        options: parameters of a command by name, among them those of `FOREIGN_OPTIONS`.

    Raises:
        ConfigError: a number cannot be read.
        ExportError: a file is missing or malformed.
    """
    given = {name: options[name] for name in FOREIGN_OPTIONS}
    if all(value is None for value in given.values()):
        return None
    from edgeface.export.presets import Said
    from edgeface.export.resampling import Affine
    from edgeface.export.spreading import OutputTransform

    affine, transform = given["input_affine"], given["output_transform"]
    return Said(
        preset=given["preprocessing"],
        layout=given["input_layout"],
        channel_order=given["channel_order"],
        mean=channels("--mean", given["mean"]),
        scale=channels("--scale", given["scale"]),
        size_wh=pixels(given["input_size"]),
        affine=None if affine is None else Affine.read(affine),
        transform=None if transform is None else OutputTransform.read(transform),
    )


def channels(option: str, text: str | None) -> "Channels | None":
    """Read one number, or three with commas, one for each channel.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    raise ConfigError(f"{option} takes one number, or three with commas such as 123.675,116.28,103.53; got {text!r}")


def pixels(text: str | None) -> tuple[int, int] | None:
    """Read `N` or `HEIGHTxWIDTH`; returns width and height.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise ConfigError(f"--input-size takes N or HEIGHTxWIDTH in pixels, such as 160 or 112x96; got {text!r}")
    return int(sides[-1]), int(sides[0])
