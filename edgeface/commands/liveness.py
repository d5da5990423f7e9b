"""`edgeface liveness`: how an anti-spoofing network does against attacks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.intervals import Rate


def liveness_test_command(
    network: Annotated[Path, typer.Argument(help="Anti-spoofing network (.onnx), its contract (.json) beside it.")],
    *,
    attacks: Annotated[Path, typer.Option(help="Folder with a folder of pictures for each kind of attack.")],
    bona_fide: Annotated[Path, typer.Option(help="Folder of pictures of living people.")],
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Live from this score on [default: the contract's].")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="ONNX face detector [default: the built-in one].")] = None,
    provider: opt.Provider = "auto",
    threads: opt.Threads = 1,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Report how many attacks of each kind pass (APCER) and how many living people do not (BPCER), ISO/IEC 30107-3.

    Example: edgeface liveness test fas.onnx --attacks attacks/ --bona-fide people/
    """
    from edgeface.errors import BundleError
    from edgeface.runtime.bundle import BUILT_IN_DETECTOR
    from edgeface.runtime.detection.detector import open_detector
    from edgeface.runtime.liveness.attacks import run_attacks
    from edgeface.runtime.liveness.spoofing import open_spoof_detector
    from edgeface.runtime.signature import refuse_loose

    for loose in (network, detector):
        if loose is not None:
            refuse_loose(loose)
    fakes = open_spoof_detector(network, provider=provider, threads=threads)
    path = detector or BUILT_IN_DETECTOR
    if not path.is_file():
        raise BundleError(f"detector not found: {path}")
    finder = open_detector(path.read_bytes(), provider=provider, threads=threads, name=str(path))
    with console.progress("pictures", quiet or as_json) as advance:
        report = run_attacks(finder, fakes, attacks, bona_fide, threshold, advance)
    if as_json:
        console.print_json(report.to_json())
        return
    rows = [
        [f"APCER {kind.kind}", *_cells(kind.taken_for_live(report.threshold)), str(kind.no_face), str(kind.unreadable)]
        for kind in report.attacks
    ]
    living = report.bona_fide
    rows.append(
        ["BPCER", *_cells(living.taken_for_attack(report.threshold)), str(living.no_face), str(living.unreadable)]
    )
    console.table(rows, ["", "rate", "95 %", "pictures", "no face", "unreadable"])
    worst = report.worst
    typer.echo(
        f"at threshold {report.threshold:.4f}; the worst kind is {console.printable(worst.kind)}: "
        f"{worst.taken_for_live(report.threshold).value:.1%} pass"
    )
    strict = report.threshold_for(0.05)
    if strict is None:
        typer.echo("no threshold stops 95 % of every kind of attack")
    else:
        typer.echo(
            f"the lowest threshold that stops 95 % of every kind is {strict:.4f}; "
            f"there {living.taken_for_attack(strict).value:.1%} of living people are turned away"
        )


def _cells(rate: "Rate") -> list[str]:
    return [f"{rate.value:.2%}", f"{rate.interval[0]:.2%} to {rate.interval[1]:.2%}", str(rate.trials)]
