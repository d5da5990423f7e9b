"""`edgeface verify`: are these two pictures one person?"""

from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


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

    Example: edgeface verify a.jpg b.jpg --bundle my.bundle
    """
    from edgeface.images import read_image
    from edgeface.runtime.recognizer import open_recognizer

    images = [read_image(path) for path in (first, second)]
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
    one, two = (
        recognizer.embed_one(image, str(path), largest=largest)
        for image, path in zip(images, (first, second), strict=True)
    )
    scoring = recognizer.scoring
    score = float(scoring.pairs(one[None], two[None])[0])
    limit = recognizer.threshold
    same = score >= limit.cosine
    why = None if same else f"{scoring.word} {score:.4f} is below the threshold {limit.cosine:.4f}"
    if as_json:
        console.print_json(
            {
                "same": same,
                "score": score,
                "scoring": scoring.kind,
                "threshold": limit.cosine,
                "fmr": limit.fmr,
                "precision": recognizer.precision,
                "why": why,
            }
        )
        return
    rate = f"for a false match rate of {limit.fmr:g}" if limit.fmr else "as given"
    typer.echo(
        f"{'same person' if same else 'two people'}: {scoring.word} {score:.4f}, threshold {limit.cosine:.4f} ({rate}, "
        f"{recognizer.precision})"
    )
