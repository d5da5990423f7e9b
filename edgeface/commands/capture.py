"""Options of a camera or stream, and what they mean."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgeface.runtime.cameras.live_settings import LiveSettings
    from edgeface.runtime.cameras.video import Asked
    from edgeface.runtime.cameras.view import View

_PANEL = "Camera"

Size = Annotated[
    str | None,
    typer.Option(
        "--size", help="Ask the camera for this picture, such as 1280x720; without it, its own.", rich_help_panel=_PANEL
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps", help="Ask the camera for so many frames a second, or so often for a picture.", rich_help_panel=_PANEL
    ),
]
Rotate = Annotated[int, typer.Option(help="Turn the picture clockwise: 0, 90, 180 or 270.", rich_help_panel=_PANEL)]
Mirror = Annotated[bool, typer.Option("--mirror", help="Swap left and right.", rich_help_panel=_PANEL)]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Look only at x,y,width,height, in pixels of the picture as it was turned and mirrored; boxes in events "
        "count from its corner.",
        rich_help_panel=_PANEL,
    ),
]
Reconnect = Annotated[
    bool,
    typer.Option("--reconnect/--no-reconnect", help="Open a lost camera again, for ever.", rich_help_panel=_PANEL),
]
MaxAway = Annotated[
    float | None,
    typer.Option(help="End when a camera was away for so many seconds; without it, never.", rich_help_panel=_PANEL),
]
WaitForCamera = Annotated[
    bool,
    typer.Option("--wait-for-camera", help="Also wait for one that is not there yet.", rich_help_panel=_PANEL),
]
OpenTimeout = Annotated[float, typer.Option(help="Seconds that opening may take.", rich_help_panel=_PANEL)]
ReadTimeout = Annotated[
    float, typer.Option(help="Seconds without a frame that make a lost camera.", rich_help_panel=_PANEL)
]
FrozenAfter = Annotated[
    float,
    typer.Option(
        min=0.0, help="Seconds of the very same picture that make a lost camera; 0: never.", rich_help_panel=_PANEL
    ),
]
MinFps = Annotated[
    float,
    typer.Option(min=0.0, help="Tell when there are fewer frames a second for 5 s; 0: never.", rich_help_panel=_PANEL),
]

AnyCertificate = Annotated[
    bool,
    typer.Option(
        "--any-certificate",
        help="Take https:// pictures whoever signed the camera's certificate: others in the network could give theirs.",
        rich_help_panel=_PANEL,
    ),
]


def live_settings(
    *,
    reconnect: bool,
    max_away: float | None,
    wait_for_camera: bool,
    open_timeout: float,
    read_timeout: float,
    frozen_after: float,
    min_fps: float,
    any_certificate: bool = False,
) -> "LiveSettings":
    """Return what these options ask for; ConfigError if they cannot be used."""
    from edgeface.runtime.cameras.live_settings import LiveSettings
    from edgeface.runtime.cameras.watch import WatchSettings

    return LiveSettings(
        open_timeout_s=open_timeout,
        read_timeout_s=read_timeout,
        reconnect=reconnect,
        give_up_after_s=max_away,
        wait_at_start=wait_for_camera,
        watch=WatchSettings(frozen_after_s=frozen_after, min_fps=min_fps),
        any_certificate=any_certificate,
    )


def asked_of_camera(size: str | None, fps: float | None) -> "Asked":
    """Return what to ask a camera for; ConfigError if it cannot be asked for that."""
    from edgeface.runtime.cameras.video import Asked

    size_wh = None if size is None else _numbers("size", size, "x", 2)
    return Asked(None if size_wh is None else (size_wh[0], size_wh[1]), fps)


def view_of_camera(rotate: int, mirror: bool, crop: str | None) -> "View":
    """Return how to look at pictures; ConfigError if that cannot be done."""
    from edgeface.runtime.cameras.view import View

    crop_xywh = None if crop is None else _numbers("crop", crop, ",", 4)
    return View(rotate, mirror, None if crop_xywh is None else (crop_xywh[0], crop_xywh[1], crop_xywh[2], crop_xywh[3]))


def _numbers(option: str, text: str, separator: str, count: int) -> list[int]:
    from edgeface.errors import ConfigError

    parts = [part.strip() for part in text.lower().split(separator)]
    if len(parts) != count or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        example = {"size": "1280x720", "crop": "320,0,640,720"}[option]
        raise ConfigError(f"--{option} {text!r} cannot be read; give whole numbers such as {example}")
    return [int(part) for part in parts]
