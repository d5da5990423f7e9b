"""`edgeface eval`: how well does a model tell people apart? Of detectors in `edgeface.commands.detection`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from edgeface.commands import conditions as door
from edgeface.commands import console, detection, quality
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.evaluation.assessment import Assessment
    from edgeface.evaluation.shipped import ShippedRates
    from edgeface.intervals import Interval


def eval_command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="Run folder, checkpoint, ONNX file, bundle, or 'default'.")],
    *,
    task: opt.Task = "embed",
    data: opt.Data = None,
    pairs: opt.PairsFile = None,
    split: opt.Split = None,
    templates: Annotated[
        Path | None, typer.Option(help="CSV with template, key and perhaps media: compare templates of faces.")
    ] = None,
    template_pairs: Annotated[Path | None, typer.Option(help="CSV with first, second, same: template pairs.")] = None,
    identify: Annotated[
        str | None, typer.Option(help="Search too: CSV with key, identity, role (gallery or probe), or 'drawn'.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with key and columns of groups: error rates for each value.")
    ] = None,
    fmr: Annotated[
        float, typer.Option(help="False match rate of the threshold that groups, mistakes and flips are looked at.")
    ] = 1e-3,
    conditions: Annotated[
        str | None,
        typer.Option(help="Put the faces under conditions of a door and measure a bundle: all, or some with commas."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="'shipped': TAR and FMR at the bundle's own thresholds, besides those found here."),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Another model to compare with, pair by pair.")] = None,
    against_precision: Annotated[str | None, typer.Option(help="Precision of the other, or of the same model.")] = None,
    against_provider: Annotated[str | None, typer.Option(help="Provider of the other, or of the same model.")] = None,
    cosine: Annotated[
        bool, typer.Option("--cosine", help="Compare by cosine, even if a bundle has a cohort for normalised scores.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Draws for the intervals, 100 or more; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="For drawing the bootstrap and a search.")] = 0,
    max_side: opt.MaxSide = 640,
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    threads: opt.Threads = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, pictures, JSON and CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write ROC and score histograms to this PNG.")] = None,
    input_layout: opt.InputLayout = None,
    channel_order: opt.ChannelOrder = None,
    mean: opt.Mean = None,
    scale: opt.Scale = None,
    network: opt.NetworkName = None,
    preprocessing: opt.Preprocessing = None,
    input_size: opt.InputSize = None,
    input_affine: opt.InputAffine = None,
    output_transform: opt.OutputTransform = None,
    output: opt.EmbeddingOutput = None,
    set_input: opt.SetInput = None,
    allow_plugin: opt.AllowPlugin = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure verification accuracy on pairs of aligned faces, by the 10-fold protocol of LFW, and how sure it is.

    With --task detect it measures a face detector instead: recall, average precision and landmark errors on a folder
    of detect.jsonl and detect-SPLIT.tar. With --task quality MODEL is a quality network: what it saves to refuse the
    faces that it likes least is measured on labelled --data, with the scores of a bundle (--against, or 'default').

    With --conditions MODEL is a bundle: two pictures of each of 300 people at most are put under the named conditions,
    such as dark-20 or mask, and everybody is compared with everybody at the thresholds that ship with it (--fmr chooses
    among them). It says how many faces the gate refuses, and what the stated false match rate is worth for the others.

    The preprocessing options are for foreign networks: they hold for MODEL, and for --against if that is an ONNX file.

    Examples:

      edgeface eval my.bundle --data lfw/ --pairs pairs.txt --precision int8 --out report/

      edgeface eval my.bundle --data lfw/ --precision fp32 --against-precision int8

      edgeface eval my.bundle --data faces/ --identify drawn --labels groups.csv --fmr 1e-2

      edgeface eval my.bundle --data lfw/ --conditions --out door/

      edgeface eval detector.onnx --task detect --data pictures/ --against yunet.onnx
    """
    if opt.check_task(task) == "quality":
        opt.refuse_foreign(context, task, quality.EVAL_OPTIONS)
        quality.evaluate(
            model,
            data,
            split,
            against,
            precision=precision,
            provider=provider,
            threads=threads,
            seed=seed,
            out=out,
            as_json=as_json,
            quiet=quiet,
        )
        return
    if task == "detect":
        opt.refuse_foreign(context, task, detection.EVAL_OPTIONS)
        detection.evaluate(model, data, split or "val", max_side, against, as_json=as_json, quiet=quiet)
        return
    opt.refuse_foreign(context, task, opt.all_but(context, "max_side"))
    if conditions is not None:
        opt.refuse_foreign(context, "embed with --conditions", door.OPTIONS)
        door.evaluate(
            model,
            data,
            split,
            conditions,
            fmr=None if opt.is_default(context, "fmr") else fmr,
            precision=precision,
            provider=provider,
            threads=threads,
            cosine=cosine,
            bootstrap=bootstrap,
            seed=seed,
            out=out,
            as_json=as_json,
            quiet=quiet,
        )
        return
    from edgeface.commands.labelled import foreign_choices, foreign_said, open_named, open_plan
    from edgeface.errors import ConfigError
    from edgeface.evaluation.assessment import assess
    from edgeface.evaluation.facts import to_json
    from edgeface.evaluation.report import make_folder, write_report
    from edgeface.files import readable_name

    if data is None:
        raise ConfigError("eval needs faces to measure on: give --data FOLDER")
    if not 0 < fmr < 1:
        raise ConfigError(f"--fmr is a rate between 0 and 1, such as 1e-3; got {fmr:g}")
    if 0 < bootstrap < 100:
        raise ConfigError(f"--bootstrap {bootstrap} is too few for 95 % intervals; give 100 or more, or 0 for none")
    if against is None and against_precision is not None and model.suffix == ".onnx":
        raise ConfigError(f"{model} is one network in one precision; name the other one with --against")
    if at not in (None, "shipped"):
        raise ConfigError(f"--at takes the word shipped, for the bundle's own thresholds; got {at!r}")
    if out:
        make_folder(out)
    said, choices = foreign_said(context.params), foreign_choices(output, set_input)
    opened = open_named(
        model,
        said,
        network,
        choices,
        precision=precision,
        provider=provider,
        threads=threads,
        cosine=cosine,
        allow_plugins=allow_plugin or (),
    )
    for remark in opened.remarks:
        console.say(remark, quiet or as_json)
    other = None
    if against is not None or against_precision is not None or against_provider is not None:
        chosen = against or model
        other = open_named(
            chosen,
            said if against is None or chosen.suffix == ".onnx" else None,
            network if against is None else None,
            choices,
            precision=against_precision or ("auto" if against else precision),
            provider=against_provider or provider,
            threads=threads,
            cosine=cosine,
            allow_plugins=allow_plugin or (),
        )
    plan = open_plan(
        data,
        pairs,
        split,
        templates=templates,
        template_pairs=template_pairs,
        identify=identify,
        labels=labels,
        fmr=fmr,
        replicates=bootstrap,
        seed=seed,
    )
    with console.progress("embedding", quiet or as_json) as advance:
        measured = assess(plan, opened, other, advance)
    facts = to_json(measured)
    shipped = _at_shipped(model, measured) if at is not None else ()
    if at is not None:
        facts["shipped"] = [rates.to_json() for rates in shipped]
    if plot:
        from edgeface.evaluation.plots import plot_reports

        plot_reports(plot, {measured.precision: measured.report}, f"{measured.model} on {plan.protocol}")
    if out:
        facts["files"] = [readable_name(str(path)) for path in write_report(out, measured, facts)]
    if as_json:
        console.print_json(facts)
        return
    _print_tables(measured)
    if shipped:
        rows = [[f"{one.promised:g}", f"{one.threshold:.4f}", *_rates(one)] for one in shipped]
        console.table(rows, ["promised FMR", "threshold", "TAR", "FMR"])
    if out:
        console.say(f"report: {out / 'report.html'}", quiet)


class EvalCommand(TyperCommand):
    """Takes `--conditions` without a value for all of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what was typed."""
        filled: list[str] = []
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            filled += [word, "all"] if word == "--conditions" and following.startswith("-") else [word]
        rest: list[str] = super().parse_args(ctx, filled)
        return rest


def _at_shipped(model: Path, measured: "Assessment") -> "tuple[ShippedRates, ...]":
    """Measure the thresholds that a bundle ships.

    Raises:
        ConfigError: the model is no bundle, or has none for this precision.
    """
    from edgeface.errors import BundleError, ConfigError
    from edgeface.evaluation.shipped import shipped_rates
    from edgeface.runtime.bundle import open_bundle

    try:
        thresholds = open_bundle(model).manifest.thresholds
    except BundleError as error:
        raise ConfigError(f"--at shipped needs a bundle, which has thresholds: {error}") from None
    report = measured.report
    found = shipped_rates(thresholds, measured.precision, report.scores, report.same, measured.plan.resampling)
    if not found:
        raise ConfigError(f"{model} ships no threshold for {measured.precision}; measure one with edgeface calibrate")
    return found


def _rates(found: "ShippedRates") -> tuple[str, str]:
    def said(rate: float, around: "Interval | None") -> str:
        return f"{rate:.3%}" if around is None else f"{rate:.3%} [{around[0]:.3%}, {around[1]:.3%}]"

    return said(found.tar, found.tar_interval), said(found.fmr, found.fmr_interval)


def _print_tables(measured: "Assessment") -> None:
    """Print what was measured, and how sure it is."""
    from edgeface.evaluation import summary

    tables = [(summary.HEADER, summary.verification_rows(measured), summary.verification_notes(measured))]
    if found := measured.identification:
        tables.append((summary.HEADER, summary.identification_rows(found), summary.identification_notes(found)))
    if measured.groups:
        tables.append((summary.GROUP_HEADER, summary.group_rows(measured.groups), summary.group_notes(measured)))
    if other := measured.comparison:
        rows, notes = summary.comparison_rows(measured, other), summary.comparison_notes(measured, other)
        tables.append((summary.COMPARISON_HEADER, rows, notes))
    for header, rows, notes in tables:
        console.table(rows, list(header))
        console.notes(notes)
