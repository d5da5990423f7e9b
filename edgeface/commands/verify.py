"""`edgeface verify`: are these two pictures one person?"""

from pathlib import Path
from typing import Annotated, Final

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

TWO_PEOPLE: Final = 3
CANNOT_SAY: Final = 4
"""Exit code for two people; 0 is for one, 1 for an error, 2 for a wrong option."""


def verify_command(
    first: Annotated[Path, typer.Argument(help="Picture with one face.")],
    second: Annotated[Path, typer.Argument(help="Picture with one face.")],
    *,
    bundle: opt.BundlePath = "default",
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    threads: opt.Threads = 1,
    fmr: opt.Fmr = None,
    threshold: opt.ThresholdCosine = None,
    detector: opt.DetectorPath = None,
    require_key: opt.RequireKey = None,
    largest: Annotated[bool, typer.Option(help="With several faces in a picture, take the largest.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Say whether two pictures show the same person: 1:1, with the score and the threshold.

    A face that is too dark, blurred, covered, cut or turned to be compared gives no answer: "cannot say", and why.

    For scripts: the exit code is 0 for the same person, 3 for two people, 4 where it cannot be said, 1 after an error.

    Example: edgeface verify a.jpg b.jpg --bundle my.bundle && echo "come in"
    """
    from edgeface.files import readable_name
    from edgeface.images import read_photograph
    from edgeface.runtime.recognizer import open_recognizer
    from edgeface.runtime.verification import verify

    images = [read_photograph(path).image for path in (first, second)]
    recognizer = open_recognizer(
        bundle,
        precision=precision,
        provider=provider,
        threads=threads,
        fmr=fmr,
        threshold=threshold,
        detector=detector,
        require_keys=require_key or (),
    )
    names = (readable_name(str(first)), readable_name(str(second)))
    found = verify(recognizer, images[0], images[1], names, largest=largest)
    scoring = recognizer.scoring
    if as_json:
        console.print_json(
            {
                "same": found.same,
                "score": found.score,
                "scoring": scoring.kind,
                "threshold": found.threshold,
                "fmr": found.fmr,
                "precision": recognizer.precision,
                "why": found.why,
            }
        )
    elif found.same is None:
        typer.echo(f"cannot say: {found.why}")
    else:
        rate = f"for a false match rate of {found.fmr:g}" if found.fmr else "as given"
        typer.echo(
            f"{'same person' if found.same else 'two people'}: {scoring.word} {found.score:.4f}, threshold "
            f"{found.threshold:.4f} ({rate}, {recognizer.precision})"
        )
    if found.same is None:
        raise typer.Exit(CANNOT_SAY)
    if not found.same:
        raise typer.Exit(TWO_PEOPLE)
