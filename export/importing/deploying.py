"""From a foreign network that runs to one that can be exported: its opset, and any number of faces."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from edgeface.errors import EdgefaceError, ExportError
from edgeface.export.importing.batch import MixedError
from edgeface.export.importing.comparing import at_once, near, one_by_one
from edgeface.export.importing.foreign_model import ForeignModel
from edgeface.export.importing.freeing import free_batch
from edgeface.export.importing.opsets import at_opset
from edgeface.export.importing.running import Values, open_plain, probe_faces


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


def deployable(foreign: ForeignModel, opset: int) -> Deployable:
    """Bring a foreign network to an opset, and make the number of faces free where that is proven.

    Raises:
        ExportError: neither its opset nor its number of faces can be exported.
    """
    name, said = str(foreign.source.path), []
    pictures = foreign.image.preprocessing.apply(probe_faces())
    expected = one_by_one(open_plain(foreign.model, name), foreign.image, pictures)

    def same(model: onnx.ModelProto) -> bool:
        return _agrees(lambda: one_by_one(open_plain(model, name), foreign.image, pictures), expected, foreign)

    model, told = at_opset(foreign.model, opset, same)
    said += [told] if told else []
    batch, why = foreign.image.batch, foreign.single
    if batch is not None and why is None:
        try:
            freed = free_batch(model, foreign.image, name)
            image = replace(foreign.image, batch=None)
            if _agrees(lambda: at_once(open_plain(freed, name), image, pictures), expected, foreign):
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


def _agrees(run: Callable[[], Values], expected: Values, foreign: ForeignModel) -> bool:
    try:
        made = run()
    except EdgefaceError:
        return False
    return near(made, expected, int8=foreign.quantized is not None)


def _faces(count: int) -> str:
    return "face" if count == 1 else "faces"
