"""`edgeface export`: a network and faces in, a bundle out; of detectors in `edgeface.commands.detection`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console, detection, quality
from edgeface.commands import options as opt


def export_command(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Argument(help="Run folder, checkpoint, or with --model a file of weights; not with --onnx.")
    ] = None,
    *,
    task: Annotated[
        str | None,
        typer.Option(help="For what the network is: embed, detect, quality [default: as the run folder says]."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Bundle folder to write; of a detector the .onnx file.")],
    calibration: Annotated[
        str, typer.Option(help="Aligned faces that fix the int8 ranges, as --data; for a detector its training folder.")
    ],
    precision: Annotated[str, typer.Option(help="Any of fp32, fp16, int8, with commas.")] = "fp32,int8",
    calibration_images: Annotated[int, typer.Option(min=16, help="How many of them to use.")] = 200,
    calibration_split: Annotated[str | None, typer.Option(help="Part of --calibration.")] = None,
    calibration_method: Annotated[
        str, typer.Option(help="From activations to int8 ranges: minmax, percentile or entropy.")
    ] = "minmax",
    target: Annotated[
        str, typer.Option(help="Processor to export for: x86-avx2, x86-vnni, arm64, tensorrt, cuda, or auto: this one.")
    ] = "auto",
    min_cosine: Annotated[
        float | None,
        typer.Option(
            help="Of each int8 embedding to the original, on held-out faces, on a scale on which two different faces "
            "have 0: where they have a cosine of 0.9, 0.98 asks for 0.998 [default: 0.98, without --max-drop]."
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Points of TAR at the strictest --fmr that int8 may lose on --data; of a detector points of recall "
            "[default: 0.5]."
        ),
    ] = None,
    max_latency: Annotated[float | None, typer.Option(help="Milliseconds of int8 for a face, one thread.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Size of the int8 file.")] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure what each layer costs in int8, even if none has to be float.")
    ] = False,
    finetune: Annotated[
        int | None,
        typer.Option(
            help="Epochs to train int8 towards the original's embeddings, on calibration faces [default: none]."
        ),
    ] = None,
    max_side: opt.MaxSide = 640,
    min_score: Annotated[
        float | None,
        typer.Option(help="Score that a detector advises [default: where one picture in twenty has a false face]."),
    ] = None,
    data: opt.Data = None,
    pairs: opt.PairsFile = None,
    split: opt.Split = None,
    fmr: Annotated[str, typer.Option(help="False match rates to choose thresholds for.")] = "1e-2,1e-3",
    cohort: opt.CohortFaces = None,
    cohort_split: opt.CohortSplit = None,
    no_cohort: opt.NoCohort = False,
    detector: Annotated[
        str, typer.Option(help="ONNX face detector for the bundle, 'built-in' or 'none'.")
    ] = "built-in",
    quality_network: Annotated[
        str, typer.Option("--quality", help="ONNX quality network for the bundle's gate, 'built-in' or 'none'.")
    ] = "built-in",
    name: Annotated[str | None, typer.Option(help="Name of the bundle [default: that of --out].")] = None,
    batch: Annotated[int | None, typer.Option(help="Faces in every run of the networks [default: any number].")] = None,
    opset: Annotated[int, typer.Option(min=17, max=20, help="ONNX operator set.")] = 18,
    onnx: Annotated[Path | None, typer.Option(help="Foreign ONNX embedder instead of a checkpoint.")] = None,
    network: opt.NetworkName = None,
    preprocessing: opt.Preprocessing = None,
    input_layout: opt.InputLayout = None,
    channel_order: opt.ChannelOrder = None,
    mean: opt.Mean = None,
    scale: opt.Scale = None,
    input_size: opt.InputSize = None,
    input_affine: opt.InputAffine = None,
    output_transform: opt.OutputTransform = None,
    output: opt.EmbeddingOutput = None,
    set_input: opt.SetInput = None,
    allow_plugin: opt.AllowPlugin = None,
    expect: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="FACES EMBEDDINGS",
            help="Two .npy files, (N, 112, 112, 3) uint8 RGB faces and (N, D) embeddings that the network's own code "
            "made of them: the export ends unless they agree.",
        ),
    ] = None,
    weights_licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "not stated",
    data_licence: Annotated[str, typer.Option(help="Licence of the training data.")] = "not stated",
    fact: Annotated[
        list[str] | None, typer.Option(help="'WHAT: TEXT' for the model card, such as 'author: A. Name'; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="For drawing calibration faces and pairs.")] = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Strip the loss head, export to ONNX, quantize, measure and write a bundle.

    A run of `edgeface train --task detect` becomes an ONNX file, in two precisions with the precision in its name;
    int8 is checked against fp32 on the val split of --data, or of --calibration.

    Accuracy and thresholds are measured on --data; without it, on the labelled people of --calibration.

    A foreign network comes in as it is: weights in files beside it, old opsets, other types, a fixed number of faces,
    int8. What is changed for that is said, and the result is compared with the original.

    A bundle gets a cohort of strangers, which scores are relative to, so that they drift less with light, blur and
    covered faces: from --cohort, or else from --calibration if that shows 500 strangers or more.

    Examples:

      edgeface export runs/a --out a.bundle --calibration faces/ --data lfw/

      edgeface export --onnx net.onnx --input-layout nchw --channel-order rgb --mean 127.5 --scale 0.0078125
      --calibration faces/ --data lfw/ --out net.bundle

      edgeface export adaface_ir50.ckpt --model ir50 --calibration faces/ --data lfw/ --out ir50.bundle

      edgeface export runs/detector --out detector.onnx --calibration pictures/ --precision int8
    """
    kind = _task(task, model)
    if kind == "quality":
        opt.refuse_foreign(context, kind, quality.EXPORT_OPTIONS)
        quality.export(
            _run_folder(model),
            out,
            calibration,
            calibration_split,
            calibration_images,
            calibration_method,
            ("fp32",) if opt.is_default(context, "precision") else console.comma_list(precision),
            target,
            opset=opset,
            seed=seed,
            as_json=as_json,
            quiet=quiet,
        )
        return
    if kind == "detect":
        opt.refuse_foreign(context, "detect", detection.EXPORT_OPTIONS)
        asked = detection.DetectorExport(
            model=_run_folder(model),
            out=out,
            calibration=calibration,
            calibration_split=calibration_split or "train",
            calibration_images=calibration_images,
            calibration_method=calibration_method,
            precisions=console.comma_list(precision),
            target=target,
            data=data or calibration,
            split=split or "val",
            max_side=max_side,
            max_drop=max_drop,
            min_score=min_score,
            opset=opset,
            seed=seed,
        )
        detection.export(asked, as_json=as_json, quiet=quiet)
        return
    opt.refuse_foreign(context, "embed", opt.all_but(context, "max_side", "min_score"))
    from edgeface.commands.labelled import foreign_choices, foreign_said, open_pairs
    from edgeface.data import make_pairs, open_faces
    from edgeface.data.faceset import left_out
    from edgeface.errors import ConfigError, DataError
    from edgeface.export.expectation import assert_expected
    from edgeface.export.pipeline import SPREAD_FACT, ExportSettings, LabelledPairs, export_bundle
    from edgeface.export.quantization.bounded import MIN_COSINE, Bounds
    from edgeface.export.quantization.calibration import check_aligned, draw_faces
    from edgeface.export.sources import open_network
    from edgeface.export.strangers import draw_strangers
    from edgeface.files import readable_name
    from edgeface.manifest import Licences
    from edgeface.runtime.bundle import BUILT_IN_DETECTOR
    from edgeface.runtime.detection.detector import Detector, open_detector
    from edgeface.scoring import WORDS

    if (model is None) == (onnx is None):
        raise ConfigError("give either a run folder (or checkpoint) or --onnx FILE")
    opt.check_cohort(cohort, cohort_split, no_cohort=no_cohort)
    rates = console.rates(fmr)
    facts = _facts(fact or ())
    settings = ExportSettings(
        name=readable_name(name or out.name.removesuffix(".bundle")),
        precisions=console.comma_list(precision),
        target=target,
        method=calibration_method,
        bounds=Bounds(
            min_cosine=MIN_COSINE if min_cosine is None and max_drop is None else min_cosine,
            max_drop=max_drop,
            fmr=min(rates),
            max_latency_ms=max_latency,
            max_bytes=max_bytes,
            sensitivity=sensitivity,
        ),
        finetune=finetune,
        batch=batch,
        fmr=rates,
        detector=_detector(detector),
        quality=_quality(quality_network),
        licences=Licences(weights=weights_licence, data=data_licence),
    )

    def step(text: str) -> None:
        console.say(text, quiet or as_json)

    faces = open_faces(calibration, split=calibration_split)
    source = readable_name(Path(calibration).name)
    if faces.skipped:
        step(f"left out of {calibration}: {left_out(faces.skipped)}")
    labelled = None
    if data is not None:
        labelled = LabelledPairs(*open_pairs(data, pairs, split))
        if labelled.faces.skipped:
            step(f"left out of {data}: {left_out(labelled.faces.skipped)}")
    else:
        try:
            labelled = LabelledPairs(faces, make_pairs(faces), f"labelled people of {source}")
        except DataError as error:
            step(f"no accuracy and no thresholds: {error}; give labelled faces with --data")
    step(f"opening {model or onnx}")
    choices = foreign_choices(output, set_input)
    opened = open_network(model, onnx, network, foreign_said(context.params), opset, choices, allow_plugin or ())
    if expect is not None:
        opened = assert_expected(opened, *expect)
    for remark in opened.remarks:
        step(remark)
    drawn = draw_faces(faces, calibration_images, seed)

    def finder() -> Detector:
        return open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="cpu")

    check_aligned(drawn, finder(), calibration)
    step(f"calibration: {drawn}")
    origin = f"{source}: {drawn}"
    if known := sorted(facts.keys() & {*opened.origin, SPREAD_FACT}):
        raise ConfigError(f"--fact {known[0]} is found out by the export itself; call it something else")
    opened = replace(opened, origin=opened.origin | facts)
    strangers = None
    if not no_cohort:
        dimension = opened.reference(drawn.images[:1]).shape[1]
        others = faces if cohort is None else open_faces(cohort, split=cohort_split)
        try:
            strangers = draw_strangers(others, dimension, finder, seed=seed, name=Path(cohort or calibration).name)
        except DataError as error:
            if cohort is not None:
                raise
            step(f"no cohort, scores are plain cosines: {error}")
    manifest = export_bundle(opened, out, settings, drawn.images, origin, labelled, step, strangers)
    if as_json:
        console.print_json(
            {
                "bundle": str(out),
                "space": manifest.space,
                "scoring": manifest.scoring,
                "cohort": None if manifest.cohort is None else manifest.cohort.model_dump(),
                "precisions": {
                    key: entry.model_dump()
                    | {"bytes": manifest.files[entry.file].bytes, "latency_ms": entry.latency_ms["cpu"]}
                    for key, entry in manifest.precisions.items()
                },
                "thresholds": [
                    threshold.model_dump() | {"fmr": threshold.asked_fmr, "supported_fmr": threshold.fmr}
                    for threshold in manifest.thresholds
                ],
            }
        )
        return
    rows = []
    for key, entry in manifest.precisions.items():
        accuracy = f"{entry.accuracy.accuracy:.2%}" if entry.accuracy else "-"
        size = f"{manifest.files[entry.file].bytes / 1e6:.2f} MB"
        rows.append([key, size, f"{entry.min_cosine:.5f}", accuracy, f"{entry.latency_ms['cpu']:.2f} ms"])
    console.table(rows, ["precision", "size", "min cosine", "accuracy", "one face, one thread"])
    for key, entry in manifest.precisions.items():
        if entry.quantization is not None:
            floats = len(entry.quantization.float_nodes)
            typer.echo(f"{key}: {entry.quantization.bound or 'no bound'}; {floats} layers in float")
            typer.echo(f"{key}: {entry.quantization.speed}")
    for threshold in manifest.thresholds:
        short = "" if threshold.fmr == threshold.asked_fmr else f" ({threshold.pairs} pairs support no less)"
        typer.echo(
            f"{threshold.pair}: threshold {threshold.cosine:.4f} "
            f"[{threshold.interval[0]:.4f}, {threshold.interval[1]:.4f}] for FMR {threshold.fmr:g}{short}"
        )
    if manifest.cohort is not None:
        typer.echo(f"scores: {WORDS[manifest.scoring]}, relative to {manifest.cohort.source}")
    typer.echo(f"bundle: {out}")


def _task(task: str | None, model: Path | None) -> str:
    """Return what kind of network is to be exported: as --task says, or else what the run folder holds."""
    if task is not None:
        return opt.check_task(task)
    if model is None or not model.is_dir():
        return "embed"
    from edgeface.training.detection.checkpoint import is_detector
    from edgeface.training.quality.checkpoint import is_quality

    return "detect" if is_detector(model) else "quality" if is_quality(model) else "embed"


def _run_folder(model: Path | None) -> Path:
    from edgeface.errors import ConfigError

    if model is None:
        raise ConfigError("export --task detect or quality takes the run folder of `edgeface train --task ...`")
    return model


def _quality(choice: str) -> bytes | None:
    from edgeface.errors import ConfigError
    from edgeface.runtime.bundle import BUILT_IN_QUALITY

    if choice == "none":
        return None
    path = BUILT_IN_QUALITY if choice == "built-in" else Path(choice)
    if not path.is_file():
        raise ConfigError(f"quality network not found: {path}; give an ONNX file, 'built-in' or 'none'")
    return path.read_bytes()


def _detector(choice: str) -> bytes | None:
    from edgeface.errors import ConfigError
    from edgeface.runtime.bundle import BUILT_IN_DETECTOR
    from edgeface.runtime.detection.detector import names_plugin
    from edgeface.runtime.fetching.fetch import fetched_file

    if choice == "none":
        return None
    if names_plugin(choice):
        raise ConfigError(
            f"--detector {choice} is a plug-in, and a bundle holds networks, no code; give an ONNX file here, and the "
            "plug-in to `edgeface run --detector`"
        )
    path = BUILT_IN_DETECTOR if choice == "built-in" else fetched_file(choice, "detector")
    if not path.is_file():
        raise ConfigError(f"face detector not found: {path}; give an ONNX file, 'built-in' or 'none'")
    return path.read_bytes()


def _facts(texts: Iterable[str]) -> dict[str, str | int | float | None]:
    from edgeface.errors import ConfigError

    facts: dict[str, str | int | float | None] = {}
    for text in texts:
        what, colon, said = (part.strip() for part in text.partition(":"))
        if not (what and colon and said) or not text.isprintable():
            raise ConfigError(f"--fact is one line of the form 'WHAT: TEXT', got {text!r}")
        facts[what] = said
    return facts
