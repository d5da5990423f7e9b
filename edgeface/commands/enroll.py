"""`edgeface enroll`: people in."""

from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def enroll_command(
    name: Annotated[str, typer.Argument(help="Who it is.")],
    *,
    image: Annotated[list[Path] | None, typer.Option(help="Picture with one face; give several times.")] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Take the pictures from this camera instead.")] = None,
    shots: Annotated[int, typer.Option(min=1, max=20, help="Pictures to take from the camera.")] = 5,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    bundle: opt.BundlePath = "default",
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    detector: opt.DetectorPath = None,
    require_key: opt.RequireKey = None,
    largest: Annotated[bool, typer.Option(help="With several faces in a picture, take the largest.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Add a person to the gallery, from pictures or a camera. All of the pictures are taken, or none.

    Templates of any precision of the bundle can be compared with faces of any other: each has its own threshold.

    Examples:

      edgeface enroll alice --image a1.jpg --image a2.jpg --bundle my.bundle

      edgeface enroll alice --camera 0 --bundle my.bundle --precision fp32
    """
    from edgeface.errors import ConfigError
    from edgeface.runtime.enrolment import camera_portraits, enroll, file_portraits
    from edgeface.runtime.recognizer import open_recognizer

    if bool(image) == (camera is not None):
        raise ConfigError("give pictures with --image FILE (several times), or a camera with --camera N")
    key = console.gallery_key(gallery_key)
    # Enrolment compares nothing, so a bundle without thresholds will do.
    recognizer = open_recognizer(
        bundle,
        precision=precision,
        provider=provider,
        detector=detector,
        threshold=1.0,
        require_keys=require_key or (),
    )
    if camera is not None:
        console.say(f"look at camera {camera}; taking {shots} pictures", as_json)
        portraits = camera_portraits(recognizer, camera, shots)
    else:
        portraits = file_portraits(recognizer, image or [], largest=largest)
    path = gallery or console.default_gallery()
    result = enroll(recognizer, path, name, portraits, key=key, command="edgeface enroll")
    if as_json:
        console.print_json(
            {"name": result.name, "templates": result.templates, "people": result.people, "gallery": str(path)}
        )
        return
    typer.echo(f"enrolled {result.name} with {result.templates} pictures; {result.people} people in {path}")
