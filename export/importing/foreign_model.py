"""From a file that somebody else wrote to a network that takes prepared pictures and gives embeddings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import EdgefaceError, ExportError
from edgeface.export.cleaning import clean_model
from edgeface.export.importing.batch import MixedError
from edgeface.export.importing.branches import fold_branches
from edgeface.export.importing.freeing import free_batch
from edgeface.export.importing.functions import inline_local
from edgeface.export.importing.graphs import used_names
from edgeface.export.importing.inputs import Image, set_inputs, take_image
from edgeface.export.importing.legal import legalised
from edgeface.export.importing.old_opsets import modernise
from edgeface.export.importing.opsets import at_opset
from edgeface.export.importing.outputs import MAX_OUTPUTS, Output, as_row, choose, cut_to, of_values
from edgeface.export.importing.quantized import quantized_form, scales_by_batch, unpack_weights
from edgeface.export.importing.reading import Source, read_source
from edgeface.export.importing.running import open_plain, probe_faces
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.soundness import check_embedder, check_mode
from edgeface.runtime.embedder import MAX_BATCH
from edgeface.runtime.providers.session import Session

_NEAR: Final = 1e-3
"""By how much of what tells faces apart two forms of one network may differ."""
_NEAR_INT8: Final = 0.05
"""The same in int8, where a sum that is a hair larger can be a whole step more."""

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user says of a network that cannot be told from its file.

    Attributes:
        output: the tensor that is the embedding; None if that can be told.
        set_inputs: inputs besides the picture that are the same for every face, by name.
    """

    output: str | None = None
    set_inputs: Mapping[str, float] = field(default_factory=dict)


NOTHING_SAID: Final = Choices()


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A foreign network without what kept it from being used; it computes what the file computes.

    Attributes:
        model: takes one float32 input, prepared pictures, and gives (batch, dimension) float32.
        image: that input.
        dimension: numbers of an embedding.
        quantized: how it was quantized, in words; None for one that computes in floating point.
        single: why it takes one face in a run, None if that is not so, or can perhaps be changed.
        source: the file.
        said: what a user should be told.
    """

    model: onnx.ModelProto
    image: Image
    dimension: int
    quantized: str | None
    single: str | None
    source: Source
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deployable:
    """A foreign network at the opset that it is exported at, for any number of faces if that can be had.

    Attributes:
        model: as `ForeignModel.model`.
        batch: faces in every run, None if that is free.
        single: why it takes one face in a run, None if it does not.
        said: what a user should be told.
    """

    model: onnx.ModelProto
    batch: int | None
    single: str | None
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _End:
    """A network that ends at one of the outputs, and what it gave."""

    model: onnx.ModelProto
    image: Image
    single: str | None
    said: tuple[str, ...]
    output: Output
    shape: tuple[int, ...]
    values: Values


def open_foreign(path: Path, preprocessing: Preprocessing, choices: Choices = NOTHING_SAID) -> ForeignModel:
    """Read a foreign embedder and bring it into a form that can be run.

    Raises:
        ExportError: it is missing, not ONNX, or no embedder; the message says what to do.
        BundleError: it has something that inspection lets no network have.
    """
    source = read_source(path)
    name = str(path)
    model = set_inputs(modernise(inline_local(_plain(source.model))), choices.set_inputs, name)
    end = _chosen_end(model, preprocessing, choices, name)
    dimension, image = end.output.shape[0], end.image
    model = as_row(end.model, end.shape, dimension, image.batch)
    single, said = end.single, list(end.said)
    quantized = quantized_form(model, image.name)
    if not single and scales_by_batch(model):
        single = "its int8 scales are found from all faces of a run, which would change one another"
    if image.batch is None and not single and not _is_free(model, end, quantized):
        reshaped = as_row(end.model, (), dimension, None)
        if _is_free(reshaped, end, quantized):
            model = reshaped
        else:  # it says that any number will do, and is made for one
            image = replace(image, batch=1)
    if single:
        image = replace(image, batch=1)
    model = _with_batch(model, image.batch)
    check_embedder(model, named=choices.output is not None)
    if unused := _unused(source.model, model):
        said.append(f"left out: {unused}, which the embedding does not depend on")
    said += [f"the network is quantized already: {quantized}; it goes in as it is"] if quantized else []
    return ForeignModel(model, image, dimension, quantized, single, source, tuple(said))


def deployable(foreign: ForeignModel, opset: int) -> Deployable:
    """Bring a foreign network to an opset, and make the number of faces free where that is proven.

    Raises:
        ExportError: neither its opset nor its number of faces can be exported.
    """
    name, said = str(foreign.source.path), []
    pictures = foreign.image.preprocessing.apply(probe_faces())
    expected = _one_by_one(open_plain(foreign.model, name), foreign.image, pictures)

    def same(model: onnx.ModelProto) -> bool:
        return _agrees(lambda: _one_by_one(open_plain(model, name), foreign.image, pictures), expected, foreign)

    model, told = at_opset(foreign.model, opset, same)
    said += [told] if told else []
    batch, why = foreign.image.batch, foreign.single
    if batch is not None and why is None:
        try:
            freed = free_batch(model, foreign.image, name)
            image = replace(foreign.image, batch=None)
            if _agrees(lambda: _at_once(open_plain(freed, name), image, pictures), expected, foreign):
                freed, remaining = at_opset(freed, opset, same)  # with less shape arithmetic it may go further
                said = [remaining] if remaining else []
                told = f"the network was made for {batch} {_faces(batch)} in a run and takes any number now"
                return Deployable(
                    freed, None, None, (*said, f"{told}: {len(pictures)} at once give what each gives alone")
                )
            why = "several faces at once give something else than each alone"
        except MixedError as error:
            why = str(error)
    if batch is None:
        return Deployable(model, None, None, tuple(said))
    if batch > 1:
        raise ExportError(
            f"{name} is made for {batch} faces in every run, and that cannot be changed: {why}; export it for 1 face "
            "(torch.onnx.export with an example of one picture), or with a free batch (dynamic_axes)"
        )
    return Deployable(model, batch, why, (*said, f"the network takes 1 face in every run: {why}"))


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without what only describes the network, or trains it, under the standard name of its operators."""
    model = clean_model(model)
    del model.graph.value_info[:], model.training_info[:]
    for node in model.graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain
    imports = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in imports.items())
    return model


def _chosen_end(model: onnx.ModelProto, preprocessing: Preprocessing, choices: Choices, name: str) -> _End:
    """Return the network up to the output that is the embedding."""
    names = [choices.output] if choices.output else list(dict.fromkeys(value.name for value in model.graph.output))
    if not 1 <= len(names) <= MAX_OUTPUTS:
        listed = ", ".join(names[:MAX_OUTPUTS])
        raise ExportError(f"{name} has {len(names)} outputs; say which is the embedding with --output NAME: {listed}")
    ends: dict[str, _End] = {}
    refused: dict[str, EdgefaceError] = {}
    for output in names:
        try:
            ends[output] = _run_to(model, output, preprocessing, name)
        except EdgefaceError as error:
            refused[output] = error
    if not ends:
        raise next(iter(refused.values()))
    chosen = choose(
        {output: end.output for output, end in ends.items()},
        {output: end.values for output, end in ends.items()},
        {output: str(error) for output, error in refused.items()},
    )
    end = ends[chosen]
    if len(names) > 1:
        others = ", ".join(output for output in names if output != chosen)
        end = replace(end, said=(f"output {chosen} is the embedding; left out: {others}", *end.said))
    return end


def _run_to(model: onnx.ModelProto, output: str, preprocessing: Preprocessing, name: str) -> _End:
    """Bring what makes one output into a form that can be run, and run it."""
    cut, image, said = take_image(cut_to(model, output, name), preprocessing, name)
    straight = fold_branches(cut, image, name)
    single = "a branch of it (If) depends on the number of faces" if straight.single else None
    if single:
        image = replace(image, batch=1)
    known, told = legalised(_with_batch(straight.model, image.batch))
    if quantized_form(known, image.name) is None:
        known, count = unpack_weights(known, image.name)
        told += (
            (f"{count} weights are stored in int8 and used in float32, so they are stored in that",) if count else ()
        )
    if straight.folded:
        told += (f"{straight.folded} branches (If) with a constant condition are decided",)
    known = cut_to(known, output, name)
    if image.batch is not None and image.batch > MAX_BATCH:
        raise ExportError(f"{name} is made for {image.batch} faces in a run, edgeface runs {MAX_BATCH} at most")
    check_mode(known)
    session = open_plain(known, name)
    pictures = image.preprocessing.apply(probe_faces())
    seen = [session.run({image.name: _filled(image, picture)})[0] for picture in pictures]
    return _End(
        known,
        image,
        single,
        (*said, *told),
        of_values(output, seen[0], image.batch or 1),
        seen[0].shape,
        np.stack([values.reshape(-1) for values in seen]),
    )


def _with_batch(model: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
    """Return a copy whose input and output are declared for a number of faces."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.shape.dim:
            size = value.type.tensor_type.shape.dim[0]
            if batch is None:
                size.dim_param = "batch"
            else:
                size.dim_value = batch
    return copy


def _filled(image: Image, picture: Values) -> Values:
    """Return a picture as often as the network takes it in a run."""
    return np.repeat(picture[None], image.batch or 1, axis=0)


def _one_by_one(session: Session, image: Image, pictures: Values) -> Values:
    return np.concatenate([session.run({image.name: _filled(image, picture)})[0][:1] for picture in pictures])


def _at_once(session: Session, image: Image, pictures: Values) -> Values:
    return session.run({image.name: pictures})[0]


def _is_free(model: onnx.ModelProto, end: _End, quantized: str | None) -> bool:
    """Whether several faces at once give what each gave alone."""
    pictures = end.image.preprocessing.apply(probe_faces())
    try:
        made = _at_once(open_plain(model, "the network"), end.image, pictures)
    except EdgefaceError:
        return False
    return _near(made, end.values, _NEAR_INT8 if quantized else _NEAR)


def _agrees(run: Callable[[], Values], expected: Values, foreign: ForeignModel) -> bool:
    try:
        made = run()
    except EdgefaceError:
        return False
    return _near(made, expected, _NEAR_INT8 if foreign.quantized else _NEAR)


def _near(made: Values, expected: Values, share: float) -> bool:
    """Whether embeddings differ by no more than a share of what tells faces apart."""
    if made.shape != expected.shape:
        return False
    spread = float(np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2)))
    rounding = 1e-5 * float(np.abs(expected).max())
    return bool(np.abs(made - expected).max() <= share * spread + rounding)


def _faces(count: int) -> str:
    return "face" if count == 1 else "faces"


def _unused(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    """Name the inputs of a file that are gone, and the large weights that no node of it uses, such as a loss head's."""
    stored = {tensor.name for tensor in before.graph.initializer}
    used = set().union(*(used_names(node) for node in before.graph.node))
    kept = used | {value.name for value in after.graph.input}
    inputs = [f"input {value.name}" for value in before.graph.input if value.name not in stored | kept]
    unused = [tensor for tensor in before.graph.initializer if tensor.name not in used and len(tensor.dims) > 1]
    return ", ".join([*inputs, *(f"weight {tensor.name} {list(tensor.dims)}" for tensor in unused[:3])])
