"""Preprocessings that many face networks share, by name, and what becomes of one when a user says more."""

from dataclasses import dataclass
from typing import Final

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.export.preprocessing import ChannelOrder, Channels, Preprocessing, in_pixels, in_words
from edgeface.export.resampling import Affine
from edgeface.export.spreading import OutputTransform
from edgeface.faces import FACE_SIZE


@dataclass(frozen=True, slots=True)
class Preset:
    """(pixel - mean) * scale as its source does it.

    Attributes:
        channel_order: `rgb` or `bgr`.
        mean: in that order.
        scale: likewise.
        size_wh: width and height that such networks usually take; None where there is nothing usual.
        source: who does it so, and where.
    """

    channel_order: ChannelOrder
    mean: Channels
    scale: Channels
    size_wh: tuple[int, int] | None
    source: str


_CROP: Final = (FACE_SIZE, FACE_SIZE)

PRESETS: Final[dict[str, Preset]] = {
    "adaface": Preset("bgr", 127.5, 1 / 127.5, _CROP, "AdaFace (mk-minchul), inference.py: BGR, (x / 255 - 0.5) / 0.5"),
    "arcface": Preset(
        "rgb", 127.5, 1 / 127.5, _CROP, "insightface arcface_torch, dataset.py: RGB, (x / 255 - 0.5) / 0.5"
    ),
    "facenet": Preset(
        "rgb", 127.5, 1 / 128, (160, 160), "davidsandberg/facenet and facenet-pytorch: (x - 127.5) / 128"
    ),
    "imagenet": Preset(
        "rgb",
        (123.675, 116.28, 103.53),
        (1 / 58.395, 1 / 57.12, 1 / 57.375),
        (224, 224),
        "torchvision and timm: mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225 of pixels in [0, 1]",
    ),
    "raw": Preset("rgb", 0.0, 1.0, None, "pixels as they are; the network does the rest itself"),
    "vggface2": Preset(
        "bgr",
        (91.4953, 103.8827, 131.0912),
        1.0,
        (224, 224),
        "ResNet-50 and SENet-50 of Cao et al., 2018, arXiv 1710.08092",
    ),
}
"""What `--preprocessing` takes."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a user said of a network's input; None is what was not said.

    Attributes:
        preset: key of `PRESETS`.
        layout: `nchw` or `nhwc`.
        channel_order: `rgb` or `bgr`.
        mean: in that order.
        scale: likewise.
        size_wh: width and height of the input.
        affine: from the crop to the input.
        transform: of the unit embeddings.
    """

    preset: str | None = None
    layout: str | None = None
    channel_order: str | None = None
    mean: Channels | None = None
    scale: Channels | None = None
    size_wh: tuple[int, int] | None = None
    affine: Affine | None = None
    transform: OutputTransform | None = None


def complete(said: Said) -> Preprocessing:
    """Return what was said as a whole preprocessing: single values go before those of the preset, and that is told.

    Raises:
        ConfigError: a part is missing; nothing is guessed, because a wrong guess costs accuracy silently.
        UnknownNameError: there is no such preset.
        ExportError: a value makes no sense.
    """
    usual, remarks = None, tuple[str, ...]()
    values: tuple[str, Channels, Channels]
    if said.preset is None:
        needed = {
            "--input-layout": said.layout,
            "--channel-order": said.channel_order,
            "--mean": said.mean,
            "--scale": said.scale,
        }
        missing = [option for option, value in needed.items() if value is None]
        if said.channel_order is None or said.mean is None or said.scale is None or missing:
            raise ConfigError(
                f"a foreign network needs its whole preprocessing; missing: {', '.join(missing)}; or name it: "
                f"--preprocessing {', '.join(PRESETS)}"
            )
        values = (said.channel_order, said.mean, said.scale)
    else:
        if said.preset not in PRESETS:
            raise UnknownNameError("preprocessing", said.preset, PRESETS)
        preset = PRESETS[said.preset]
        usual = preset.size_wh
        values, remarks = _overridden(said, preset)
    return Preprocessing(
        said.layout,  # type: ignore[arg-type]  # checked there
        values[0],  # type: ignore[arg-type]
        values[1],
        values[2],
        said.affine,
        said.transform,
        said.size_wh,
        usual,
        remarks,
    )


def _overridden(said: Said, preset: Preset) -> tuple[tuple[str, Channels, Channels], tuple[str, ...]]:
    pairs = (
        ("--channel-order", said.channel_order, preset.channel_order),
        ("--mean", None if said.mean is None else in_words(said.mean), in_words(preset.mean)),
        ("--scale", None if said.scale is None else in_words(said.scale), in_words(preset.scale)),
        ("--input-size", said.size_wh and in_pixels(said.size_wh), preset.size_wh and in_pixels(preset.size_wh)),
    )
    changed = [
        f"{option} {given} instead of {usual}" for option, given, usual in pairs if given and usual and given != usual
    ]
    values = (
        said.channel_order or preset.channel_order,
        preset.mean if said.mean is None else said.mean,
        preset.scale if said.scale is None else said.scale,
    )
    return values, (f"--preprocessing {said.preset}, but with {', '.join(changed)}",) if changed else ()
