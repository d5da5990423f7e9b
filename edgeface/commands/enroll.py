"""`edgeface enroll`: people in."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import capture as cam
from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.runtime.deciding.limits import Limits
    from edgeface.runtime.enrolling.enrolment import Show
    from edgeface.runtime.recognizer import Recognizer


def enroll_command(
    name: Annotated[str, typer.Argument(help="Who it is.")],
    *,
    image: Annotated[list[Path] | None, typer.Option(help="Picture with one face; give several times.")] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Take the pictures from this camera instead.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Or from this: video file, picture folder, /dev/videoN, rtsp:// or http://.")
    ] = None,
    any_certificate: cam.AnyCertificate = False,
    shots: Annotated[int, typer.Option(min=1, max=20, help="Pictures to take from the camera or source.")] = 5,
    angles: Annotated[
        int, typer.Option(min=1, max=5, help="Of frontal, left, right, up and down, so many should be shown; 1: any.")
    ] = 5,
    force: Annotated[bool, typer.Option("--force", help="Enrol somebody who looks like somebody else.")] = False,
    threshold: opt.ThresholdCosine = None,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    bundle: opt.BundlePath = "default",
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    detector: opt.DetectorPath = None,
    require_key: opt.RequireKey = None,
    largest: Annotated[bool, typer.Option(help="With several faces in a picture, take the largest.")] = False,
    show: Annotated[
        bool | None, typer.Option("--show/--headless", help="Show a window [default: if there is a display].")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Add a person to the gallery, from pictures or a camera. All of the pictures are taken, or none.

    In front of a camera you are told what is wrong and what is still wanted. Somebody who would be taken for somebody
    else in the gallery is refused.

    Templates of any precision of the bundle can be compared with faces of any other: each has its own threshold.

    Examples:

      edgeface enroll alice --image a1.jpg --image a2.jpg --bundle my.bundle

      edgeface enroll alice --camera 0 --bundle my.bundle --precision fp32
    """
    from edgeface.errors import ConfigError
    from edgeface.runtime.cameras.capture import open_frames
    from edgeface.runtime.cameras.live_settings import LiveSettings
    from edgeface.runtime.enrolling.coach import Coach, CoachSettings
    from edgeface.runtime.enrolling.enrolment import coached_portraits, enroll, file_portraits
    from edgeface.runtime.gallery.gallery import clean_name
    from edgeface.runtime.recognizer import open_recognizer
    from edgeface.runtime.showing.display import has_display

    if [bool(image), camera is not None, source is not None].count(True) != 1:
        raise ConfigError("give pictures with --image FILE (several times), or a camera with --camera N, or --source")
    if show and not has_display():
        raise ConfigError("--show needs a display and there is none; leave it out to read what to do")
    name, key = clean_name(name), console.gallery_key(gallery_key)
    recognizer = open_recognizer(
        bundle,
        precision=precision,
        provider=provider,
        detector=detector,
        threshold=1.0 if threshold is None else threshold,
        require_keys=require_key or (),
    )
    limits = recognizer.limits if threshold is not None else _limits(bundle, recognizer, require_key, as_json)
    path = gallery or console.default_gallery()
    with ExitStack() as stack:
        if image:
            portraits = file_portraits(recognizer, image, largest=largest, force=force)
        else:
            spec = source if source is not None else f"camera:{camera}"
            live = LiveSettings(reconnect=False, any_certificate=any_certificate)
            frames = stack.enter_context(open_frames(spec, live=live))
            same = None if limits is None else limits.search({recognizer.precision: 1}).cosine
            settings = CoachSettings(shots, angles, recognizer.gate.enrol, min_score=same)
            coach = Coach(settings, recognizer.scoring)
            shown = show or (show is None and frames.live and has_display())
            told = stack.enter_context(_telling(shown, as_json))
            portraits = coached_portraits(recognizer, frames, coach, told)
        result = enroll(
            recognizer, path, name, portraits, key=key, command="edgeface enroll", limits=limits, force=force
        )
    for warning in result.warnings:
        console.say(f"warning: {console.printable(warning)}")
    if as_json:
        console.print_json(
            {
                "name": result.name,
                "templates": result.templates,
                "people": result.people,
                "gallery": str(path),
                "warnings": result.warnings,
            }
        )
        return
    typer.echo(f"enrolled {result.name} with {result.templates} pictures; {result.people} people in {path}")


def _limits(bundle: str, recognizer: "Recognizer", require_key: list[Path] | None, quiet: bool) -> "Limits | None":
    """Return the thresholds of the bundle; a bundle without any will do for enrolling."""
    from edgeface.errors import BundleError
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.deciding.limits import bundle_limits

    try:
        return bundle_limits(open_bundle(bundle, require_keys=require_key or ()), recognizer.precision)
    except BundleError as error:
        console.say(f"not checked whether this is like somebody else in the gallery: {error}", quiet)
        return None


@contextmanager
def _telling(window: bool, quiet: bool) -> "Iterator[Show]":
    """Give what shows a frame and the advice: in a window, and as lines on stderr."""
    import time

    from edgeface.runtime.cameras.frames import Frame
    from edgeface.runtime.detection.detections import Detections
    from edgeface.runtime.enrolling.coach import Advice, Teller
    from edgeface.runtime.enrolling.coach_view import CoachView
    from edgeface.runtime.showing.display import Window

    teller, view = Teller(), CoachView()
    screen = Window("edgeface enroll") if window else None

    def show(frame: Frame, found: Detections, advice: Advice) -> bool:
        line = teller.say(time.monotonic(), advice)
        if line is not None:
            console.say(line, quiet)
        return screen is None or screen.show(view.draw(frame.image, found, advice))

    try:
        yield show
    finally:
        if screen is not None:
            screen.close()
