"""`edgeface eval`: how well does a model tell people apart?"""

from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def eval_command(
    model: Annotated[Path, typer.Argument(help="Run folder, checkpoint, ONNX file, bundle, or 'default'.")],
    *,
    data: opt.Data = None,
    pairs: opt.PairsFile = None,
    split: opt.Split = None,
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    threads: opt.Threads = 0,
    plot: Annotated[Path | None, typer.Option(help="Write ROC and score histograms to this PNG.")] = None,
    input_layout: opt.InputLayout = None,
    channel_order: opt.ChannelOrder = None,
    mean: opt.Mean = None,
    scale: opt.Scale = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure verification accuracy on pairs of aligned faces, by the 10-fold protocol of LFW.

    Example: edgeface eval my.bundle --data lfw/ --pairs pairs.txt --precision int8
    """
    from edgeface.commands.labelled import foreign_preprocessing, open_pairs
    from edgeface.errors import ConfigError
    from edgeface.evaluation.models import OpenModel, open_model
    from edgeface.evaluation.verification import verify_pairs

    if data is None:
        raise ConfigError("eval needs faces to measure on: give --data FOLDER")
    preprocessing = foreign_preprocessing(input_layout, channel_order, mean, scale)
    if preprocessing is None:
        opened = open_model(model, precision=precision, provider=provider, threads=threads)
    else:
        from edgeface.export.sources import ForeignEmbedder

        foreign = ForeignEmbedder(model, preprocessing, provider=provider, threads=threads)
        opened = OpenModel(foreign, str(model), "as stored", foreign.provider)
    faces, chosen, protocol = open_pairs(data, pairs, split)
    with console.progress("embedding", quiet or as_json) as advance:
        report = verify_pairs(opened.embedder, faces, chosen, advance)
    if plot:
        from edgeface.evaluation.plots import plot_reports

        plot_reports(plot, {opened.precision: report}, f"{opened.name} on {protocol}")
    facts = {
        "protocol": protocol,
        "pairs": report.pairs,
        "accuracy": report.accuracy,
        "accuracy_se": report.accuracy_se,
        "eer": report.eer,
        "auc": report.auc,
        "tar": report.tar,
        "precision": opened.precision,
        "provider": opened.provider,
        "model": opened.name,
    }
    if as_json:
        console.print_json(facts)
        return
    rows = [
        ["pairs", f"{report.pairs} ({protocol})"],
        ["accuracy", f"{report.accuracy:.2%} ± {report.accuracy_se:.2%} (mean, standard error over folds)"],
        ["equal error rate", f"{report.eer:.2%}"],
        ["area under ROC", f"{report.auc:.4f}"],
        *([f"TAR at FAR {rate}", f"{tar:.2%}"] for rate, tar in report.tar.items()),
        ["ran as", f"{opened.precision} on {opened.provider}"],
    ]
    console.table(rows, ["measure", "value"])
