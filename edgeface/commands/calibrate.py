"""`edgeface calibrate`: thresholds from one's own faces."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.export.people import People
    from edgeface.export.recalibration import Recalibration
    from edgeface.export.report.effects import Effect
    from edgeface.runtime.bundle import Bundle

MAX_EACH = 40  # as export.people.MAX_EACH, which is not imported for the sake of --help
SHOWN = 5
"""So many suspects and skipped pictures are shown; --json has all."""


def calibrate_command(
    bundle: Annotated[str, typer.Argument(help="Bundle folder or zip, or 'default'.")],
    *,
    data: Annotated[
        str, typer.Option(help="Identity folders of photographs or aligned crops; or shards, .rec, .csv of crops.")
    ],
    split: opt.Split = None,
    out: Annotated[Path | None, typer.Option(help="New bundle: a folder, or a zip if it ends in .zip.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the bundle instead.")] = False,
    fmr: Annotated[
        str | None, typer.Option(help="False match rates to choose thresholds for [default: those of the bundle].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the data [default: the name of --data].")] = None,
    each: Annotated[
        int, typer.Option(min=2, max=MAX_EACH, help="Pictures of one person at most; 2000 are taken in all.")
    ] = MAX_EACH,
    check_crops: Annotated[
        bool,
        typer.Option("--check-crops", help="Leave out crops whose face the detector sees elsewhere, or not at all."),
    ] = False,
    only_alike: Annotated[
        bool,
        typer.Option(
            "--only-alike",
            help="Of two people, count only those who are alike: for each, the nearer half of the others. Then a rate "
            "also holds among people of one sex; it takes twice as many pairs.",
        ),
    ] = False,
    allowance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=10,
            help="What a face loses of its scores for each unit of fitness that it lacks to be a template: so that "
            "two blurred strangers do not match [default: as the bundle has it].",
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave this person out, as one who has another name too; repeatable.")
    ] = None,
    cohort: opt.CohortFaces = None,
    cohort_split: opt.CohortSplit = None,
    no_cohort: opt.NoCohort = False,
    seed: Annotated[int, typer.Option(min=0, help="For drawing the cohort and what is done to its faces.")] = 0,
    largest: Annotated[bool, typer.Option(help="With several faces in a photograph, take the largest.")] = False,
    detector: opt.DetectorPath = None,
    provider: opt.Provider = "auto",
    threads: opt.Threads = 0,
    require_key: opt.RequireKey = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Choose the thresholds of a bundle anew, on the people and the cameras that it will see.

    Every picture is compared with every other, in each pair of precisions. A false match rate needs 3 / rate pairs of
    people: 25 people for 1e-2, 78 for 1e-3.

    Men and women are hardly ever mistaken for each other. So among people of both sexes errors are about half as
    frequent as among men alone. Where everybody may be of one sex, or for a bundle that others will use, add
    --only-alike.

    With --cohort the bundle gets a cohort: from then on its scores are relative to strangers, and drift less with
    light, blur and covered faces. A cohort that it has stays, unless --no-cohort takes it out.

    Examples:

      edgeface calibrate my.bundle --data colleagues/ --fmr 1e-2 --out ours.bundle

      edgeface calibrate my.bundle --data colleagues/ --in-place --json

      edgeface calibrate old.bundle --data colleagues/ --cohort faces/ --out new.bundle
    """
    from edgeface.data import open_faces
    from edgeface.errors import ConfigError
    from edgeface.export.people import gather_people
    from edgeface.export.recalibration import check_people, check_place, recalibrate, write_recalibrated
    from edgeface.export.strangers import draw_strangers, make_cohort
    from edgeface.files import readable_name
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.deciding.gate import bundle_gate
    from edgeface.runtime.detection.detector import Detector
    from edgeface.runtime.embedder import bundle_embedder
    from edgeface.runtime.recognizer import bundle_detector
    from edgeface.runtime.signature import refuse_loose

    if (out is None) != in_place:
        raise ConfigError("give a new bundle with --out PATH, or replace this one with --in-place")
    opt.check_cohort(cohort, cohort_split, no_cohort=no_cohort)
    if detector is not None:
        refuse_loose(detector, require_key or ())
    opened = open_bundle(bundle, require_keys=require_key or ())
    check_place(opened, out)
    rates = console.rates(fmr) if fmr is not None else _rates(opened)
    label = readable_name(name or Path(data).name)
    faces = open_faces(data, split=split)
    check_people(len(faces.identities) - len(set(without or ())), rates, label, only_alike=only_alike)

    def finder() -> Detector:
        return bundle_detector(opened, detector, provider=provider, threads=threads)

    with console.progress("reading pictures", quiet or as_json) as advance:
        people = gather_people(
            faces,
            finder,
            bundle_gate(opened, provider=provider, threads=threads),
            largest=largest,
            each=each,
            check_crops=check_crops,
            without=without or (),
            progress=advance,
        )
    embedders = {
        precision: bundle_embedder(opened, precision=precision, provider=provider, threads=threads)[0]
        for precision in opened.manifest.precisions
    }

    def step(text: str) -> None:
        console.say(text, quiet or as_json)

    strangers = None
    if cohort is not None:
        manifest = opened.manifest
        drawn = draw_strangers(
            open_faces(cohort, split=cohort_split),
            manifest.embedder.dimension,
            finder,
            seed=seed,
            name=Path(cohort).name,
        )
        step(f"cohort: embedding {drawn.source}")
        strangers = make_cohort(drawn, embedders[manifest.baseline], manifest.space)
    result = recalibrate(
        opened,
        embedders,
        people,
        label,
        rates,
        step,
        cohort=strangers,
        plain=no_cohort,
        only_alike=only_alike,
        allowance=allowance,
    )
    written = write_recalibrated(opened, result, out)
    _warn(opened, people, result, written)
    if as_json:
        console.print_json(_facts(opened, people, result, written))
        return
    effects = [("old", effect) for effect in result.before] + [("new", effect) for effect in result.after]
    effects.sort(key=lambda aged: (aged[1].threshold.pair, -aged[1].threshold.asked_fmr))
    header = ["", "faces", "FMR", "threshold", "interval", "FMR here", "interval", "FNMR here", "interval"]
    console.table([_row(age, effect) for age, effect in effects], header)
    typer.echo(f"bundle: {written}")


def _rates(bundle: "Bundle") -> tuple[float, ...]:
    from edgeface.errors import ConfigError

    rates = sorted({threshold.asked_fmr for threshold in bundle.manifest.thresholds}, reverse=True)
    if not rates:
        raise ConfigError(f"bundle {bundle.path} has no thresholds so far; say for which rates, such as --fmr 1e-2")
    return tuple(rates)


def _row(age: str, effect: "Effect") -> list[str]:
    threshold = effect.threshold
    low, high = threshold.interval
    return [
        age,
        threshold.pair,
        f"{threshold.asked_fmr:g}",
        f"{threshold.cosine:.4f}",
        f"{low:.4f} to {high:.4f}",
        f"{effect.fmr:.2g}",
        f"{effect.fmr_interval[0]:.2g} to {effect.fmr_interval[1]:.2g}",
        f"{effect.fnmr:.2g}",
        f"{effect.fnmr_interval[0]:.2g} to {effect.fnmr_interval[1]:.2g}",
    ]


def _warn(bundle: "Bundle", people: "People", result: "Recalibration", written: Path) -> None:
    """Say on stderr what a reader of the result must know."""
    from edgeface.scoring import WORDS

    word = WORDS[result.manifest.scoring]
    for suspect in result.suspects[:SHOWN]:
        console.say(
            f"warning: {console.printable(suspect.first)} and {console.printable(suspect.second)} look like one person "
            f"({word} {suspect.score:.3f}); if they are, put their pictures into one folder: they raise the thresholds"
        )
    if len(result.suspects) > SHOWN:
        console.say(f"warning: and {len(result.suspects) - SHOWN} more such pairs; --json lists all")
    if people.skipped:
        from edgeface.image_kinds import describe_kinds

        reasons = "; ".join(console.printable(skipped.reason) for skipped in people.skipped[:SHOWN])
        kinds = describe_kinds(skipped.kind for skipped in people.skipped)
        console.say(f"note: {len(people.skipped)} pictures were left out ({kinds}): {reasons}")
    if bundle.signed_by is not None:
        console.say(
            f"note: the signature does not hold for new thresholds, so {written} has none; sign it again: "
            f"edgeface bundle sign {written} --key KEY"
        )


def _facts(bundle: "Bundle", people: "People", result: "Recalibration", written: Path) -> dict[str, Any]:
    data = result.manifest.threshold_data
    return {
        "bundle": str(written),
        "data": None if data is None else data.model_dump(),
        "scoring": result.manifest.scoring,
        "cohort": None if result.manifest.cohort is None else result.manifest.cohort.model_dump(),
        "before": [_effect_facts(effect) for effect in result.before],
        "thresholds": [_effect_facts(effect) for effect in result.after],
        "suspects": [{"names": [s.first, s.second], "score": s.score} for s in result.suspects],
        "skipped": [
            {"picture": skipped.key, "why": skipped.reason, "kind": skipped.kind} for skipped in people.skipped
        ],
        "must_be_signed_again": bundle.signed_by is not None,
    }


def _effect_facts(effect: "Effect") -> dict[str, Any]:
    threshold = effect.threshold.model_dump()
    return threshold | {
        "fmr": effect.threshold.asked_fmr,
        "supported_fmr": effect.threshold.fmr,
        "measured_fmr": effect.fmr,
        "measured_fmr_interval": effect.fmr_interval,
        "measured_fnmr": effect.fnmr,
        "measured_fnmr_interval": effect.fnmr_interval,
    }
