"""What a foreign network expects of a face, and what its embeddings need: outside its graph, and as nodes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.resampling import Affine
from edgeface.export.spreading import OutputTransform
from edgeface.faces import FACE_SIZE

Layout = Literal["nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]
Channels = float | tuple[float, float, float]
"""One number for all channels, or three, in the order in which the network sees the channels."""

SIDES: Final = range(16, 1025)
"""Pixels that the height and the width of a network's input may have."""

EPSILON: Final = np.float32(1e-12)
"""Added to a squared length: nothing is divided by zero, and an embedding of zeros stays one."""

_CROP: Final = (FACE_SIZE, FACE_SIZE)
_PLACES: Final = {"nchw": (3, 2, 1), "nhwc": (2, 1, 3)}
"""Where width, height and channels stand in a shape."""

Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a foreign network expects: (pixel - mean) * scale, with pixels in [0, 255], and what its embeddings need.

    Attributes:
        layout: `nchw` or `nhwc`; None where the shape of the network's input shall tell.
        channel_order: `rgb` or `bgr`.
        mean: subtracted from each pixel value.
        scale: multiplied after that, for example 1 / 127.5.
        affine: from the 112 x 112 crop to the network's input; None if that shows the same piece of the face.
        transform: of the unit embeddings; None if they are compared as they are.
        size_wh: width and height of the network's input; None where its shape shall tell.
        usual_wh: width and height that such networks have; taken where neither `size_wh` nor the shape tells.
        remarks: sentences that a user should read about how this came about.

    Raises:
        ExportError: a value that makes no sense.
    """

    layout: Layout | None
    channel_order: ChannelOrder
    mean: Channels
    scale: Channels
    affine: Affine | None = None
    transform: OutputTransform | None = None
    size_wh: tuple[int, int] | None = None
    usual_wh: tuple[int, int] | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.layout not in ("nchw", "nhwc", None):
            raise ExportError(f"--input-layout is nchw or nhwc, not {self.layout!r}")
        if self.channel_order not in ("rgb", "bgr"):
            raise ExportError(f"--channel-order is rgb or bgr, not {self.channel_order!r}")
        mean, scale = (np.asarray(value, np.float64) for value in (self.mean, self.scale))
        if not {mean.shape, scale.shape} <= {(), (3,)}:
            raise ExportError("--mean and --scale are one number each, or one for each of the 3 channels")
        with np.errstate(over="ignore"):
            finite = np.isfinite(mean.astype(np.float32)).all() and np.isfinite(scale.astype(np.float32)).all()
        if not finite or not scale.astype(np.float32).all():
            raise ExportError(
                f"--mean and --scale must be finite and --scale not zero, got {in_words(self.mean)} and "
                f"{in_words(self.scale)}"
            )
        if self.size_wh is not None and not all(side in SIDES for side in self.size_wh):
            raise ExportError(
                f"a network's input has {SIDES[0]} to {SIDES[-1]} pixels a side, not {in_pixels(self.size_wh)} "
                "(height x width)"
            )

    def __str__(self) -> str:
        moved = ""
        if self.affine is not None:
            moved = f", resampled by {self.affine.straight.round(4).tolist()}"
        elif self.size_wh not in (None, _CROP):
            moved = f", resized to {in_pixels(self.size_wh)}"
        layout = self.layout or "layout of the network"
        return f"{layout} {self.channel_order}{moved}, (pixel - {in_words(self.mean)}) * {in_words(self.scale)}"

    @property
    def resampling(self) -> Affine | None:
        """From the crop to the network's input; None where that is the crop."""
        if self.affine is not None or self.size_wh in (None, _CROP):
            return self.affine
        assert self.size_wh is not None
        return Affine.resize(self.size_wh)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The axes of the network's input without the batch: (3, height, width) or (height, width, 3)."""
        width, height = self.size_wh or _CROP
        return (3, height, width) if self.layout == "nchw" else (height, width, 3)

    def fitted(self, name: str, shape: Sequence[int | str | None]) -> Self:
        """Return the same with the layout and size that a network's input has.

        Args:
            name: of the input.
            shape: of the input; what is not a number is free.

        Raises:
            ExportError: it is no picture of 3 channels, or not of this layout or size; or its shape does not tell what
                has to be known.
        """
        seen = [size if isinstance(size, int) and size > 0 else None for size in shape]
        layout = self.layout or _only_layout(name, shape, seen)
        width, height, channels = (seen[place] for place in _PLACES[layout]) if len(seen) == 4 else (None, None, 0)
        if channels not in (3, None):
            asked = "(N, 3, height, width)" if layout == "nchw" else "(N, height, width, 3)"
            raise ExportError(f"input {name} has shape {list(shape)}, {layout} needs {asked}; check --input-layout")
        size_wh, remarks = self._size_for(name, width, height)
        return replace(self, layout=layout, size_wh=size_wh, remarks=(*self.remarks, *remarks))

    def _size_for(self, name: str, width: int | None, height: int | None) -> tuple[tuple[int, int], tuple[str, ...]]:
        """Return the size of the input, and what should be said of how it was found."""
        declared = (width, height)
        if self.size_wh is not None:
            if not _agree(declared, self.size_wh):
                raise ExportError(
                    f"input {name} takes {in_pixels(declared)} pixels (height x width), --input-size says "
                    f"{in_pixels(self.size_wh)}; leave it out"
                )
            return self.size_wh, ()
        if width is not None and height is not None:
            if width not in SIDES or height not in SIDES:
                raise ExportError(
                    f"input {name} takes {in_pixels(declared)} pixels (height x width); {SIDES[0]} to {SIDES[-1]} a "
                    "side can be brought in; check --input-layout"
                )
            return (width, height), self._remarks_on((width, height))
        if self.affine is not None:
            raise ExportError(
                f"input {name} leaves its size open; with --input-affine that has to be known: say it with "
                "--input-size HEIGHTxWIDTH"
            )
        usual = self.usual_wh or _CROP
        if not _agree(declared, usual):
            raise ExportError(
                f"input {name} takes {in_pixels(declared)} pixels (height x width), so its size is not known; say it "
                "with --input-size HEIGHTxWIDTH"
            )
        return usual, ()

    def _remarks_on(self, size_wh: tuple[int, int]) -> tuple[str, ...]:
        if self.affine is not None or size_wh in (_CROP, self.usual_wh):
            return ()
        return (
            f"the network takes {in_pixels(size_wh)} pixels (height x width), so the crop of 112 x 112 is resized to "
            "that inside the graph; if it expects another piece of the face, say which with --input-affine",
        )

    def apply(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Prepare (N, 112, 112, 3) uint8 RGB faces outside the graph, as a plain loop on a device would.

        Returns:
            (N, 3, height, width) or (N, height, width, 3) float32, as `layout` says.
        """
        resampling = self.resampling
        resampled = faces if resampling is None else resampling.warp(faces, self.size_wh or _CROP)
        pixels = resampled[..., ::-1] if self.channel_order == "bgr" else resampled
        floats = (pixels.astype(np.float32) - np.asarray(self.mean, np.float32)) * np.asarray(self.scale, np.float32)
        return np.ascontiguousarray(floats.transpose(0, 3, 1, 2) if self.layout == "nchw" else floats)

    def finish(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn what the network gives, (N, T), into unit embeddings (N, D), outside the graph."""
        unit = unit_length(embeddings)
        return unit if self.transform is None else unit_length(self.transform.apply(unit))

    def nodes(self, graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], str]:
        """Prepare the input `faces` in a graph.

        Args:
            graph: gets the constants.

        Returns:
            The nodes, and the name of what they make: what `apply` returns.
        """
        nodes = [helper.make_node("Cast", ["faces"], ["pixels"], name="pre/cast", to=TensorProto.FLOAT)]
        source = "pixels"
        if self.channel_order == "bgr":
            for name, number in (("pre/start", -1), ("pre/end", -4), ("pre/axis", 3), ("pre/step", -1)):
                graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), name))
            names = ["pre/start", "pre/end", "pre/axis", "pre/step"]
            nodes.append(helper.make_node("Slice", [source, *names], ["pre/bgr"], name="pre/reverse"))
            source = "pre/bgr"
        resampling = self.resampling
        if resampling is not None:
            more, source = resampling.nodes(source, self.size_wh or _CROP, graph)
            nodes += more
        if (resampling is None) == (self.layout == "nchw"):
            # Pixels have their channels last, and what was resampled has them first.
            moved, axes = ("pre/nchw", [0, 3, 1, 2]) if self.layout == "nchw" else ("pre/nhwc", [0, 2, 3, 1])
            nodes.append(helper.make_node("Transpose", [source], [moved], name="pre/transpose", perm=axes))
            source = moved
        for op_type, value, neutral in (("Sub", self.mean, 0.0), ("Mul", self.scale, 1.0)):
            numbers = np.array(value, np.float32)
            if (numbers == neutral).all():
                continue
            if numbers.ndim and (numbers == numbers[0]).all():
                numbers = numbers[0]
            elif numbers.ndim and self.layout == "nchw":
                numbers = numbers[:, None, None]
            constant, result = f"pre/{op_type.lower()}_value", f"pre/{op_type.lower()}"
            graph.initializer.append(numpy_helper.from_array(numbers, constant))
            nodes.append(helper.make_node(op_type, [source, constant], [result], name=f"pre/{op_type}"))
            source = result
        return nodes, source


def unit_length(vectors: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Divide each row of (N, D) by its length; a row of zeros stays one."""
    squares = (vectors * vectors).sum(axis=1, keepdims=True)
    unit: npt.NDArray[Number] = vectors / np.sqrt(squares + squares.dtype.type(EPSILON))
    return unit


def _only_layout(name: str, shape: Sequence[int | str | None], seen: Sequence[int | None]) -> Layout:
    layouts: tuple[Layout, ...] = ("nchw", "nhwc")
    found = [layout for layout in layouts if len(seen) == 4 and seen[_PLACES[layout][2]] == 3]
    if len(found) != 1:
        raise ExportError(f"input {name} has shape {list(shape)}, which does not tell its layout; give --input-layout")
    return found[0]


def _agree(declared: tuple[int | None, int | None], size_wh: tuple[int, int]) -> bool:
    return all(seen in (None, side) for seen, side in zip(declared, size_wh, strict=True))


def in_pixels(size_wh: tuple[int | None, int | None] | None) -> str:
    """Return a width and height as `HEIGHT x WIDTH`."""
    width, height = size_wh or (None, None)
    return f"{height or 'any'} x {width or 'any'}"


def in_words(value: Channels) -> str:
    """Return a mean or scale as it is printed."""
    return f"{value:g}" if isinstance(value, float | int) else "[" + ", ".join(f"{one:g}" for one in value) + "]"
