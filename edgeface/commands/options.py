"""Options that several commands share, worded once."""

from collections.abc import Container
from pathlib import Path
from typing import Annotated, Final

import typer

MOST_THREADS: Final = 1024
"""Beyond any processor; each takes memory and time to start."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result and errors.")]
BundlePath = Annotated[str, typer.Option("--bundle", "-b", help="Bundle folder or zip, or 'default'.")]
Precision = Annotated[str, typer.Option(help="fp32, fp16, int8, or auto: the fastest one measured.")]
Provider = Annotated[
    str,
    typer.Option(
        help="cpu, cuda, tensorrt, openvino, coreml, qnn, xnnpack, or auto: the best that works, with the reason."
    ),
]
Device = Annotated[
    int | None, typer.Option("--device", min=0, help="Number of the GPU or other device [default: the first].")
]
MemoryLimit = Annotated[
    int | None, typer.Option("--memory-limit", min=1, help="Most memory of the GPU to take, in MB [default: no limit].")
]
ProviderLibrary = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-library",
        metavar="NAME=PATH",
        help="Load a provider of onnxruntime from this library, and call it NAME. It runs its code: name only what "
        "you trust.",
    ),
]
BuildEngines = Annotated[
    bool,
    typer.Option("--build-engines", help="Build TensorRT engines that are missing before starting; takes minutes."),
]
CudaGraph = Annotated[
    bool, typer.Option("--cuda-graph/--no-cuda-graph", help="On CUDA, record the launches once and replay them.")
]
Threads = Annotated[int, typer.Option(min=0, max=MOST_THREADS, help="CPU threads for the networks; 0 is one a core.")]
Fmr = Annotated[
    float | None, typer.Option(help="Take the bundle's threshold for this false match rate [default: the strictest].")
]
Fpir = Annotated[
    float | None,
    typer.Option(
        help="How often a stranger may be taken for anybody in the gallery: the threshold follows from this and the "
        "number of templates [default: the bundle's strictest false match rate]."
    ),
]
CohortFaces = Annotated[
    str | None,
    typer.Option("--cohort", help="Faces of strangers that scores are relative to, as --data; 500 or more."),
]
CohortSplit = Annotated[str | None, typer.Option(help="Part of --cohort.")]
NoCohort = Annotated[bool, typer.Option("--no-cohort", help="A bundle without a cohort: its scores are plain cosines.")]
ThresholdCosine = Annotated[
    float | None,
    typer.Option("--threshold", min=-1.0, max=1.0, help="Score to use instead of the bundle's threshold."),
]


def detector_file(choice: str | None) -> str | None:
    """Return the file of a detector that is given as a path, or as the name of one that was fetched; or a plug-in."""
    if choice is None:
        return None
    from edgeface.runtime.detection.detector import names_plugin
    from edgeface.runtime.fetching.fetch import fetched_file

    return choice if names_plugin(choice) else str(fetched_file(choice, "detector"))


DetectorPath = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="ONNX face detector to use instead of the bundle's, the name of one from `edgeface bundle fetch`, or a "
        "plug-in, MODULE:CLASS.",
        callback=detector_file,
    ),
]
RequireKey = Annotated[
    list[Path] | None,
    typer.Option(
        "--require-key",
        help="Refuse what this public key did not sign; several times for one of several keys "
        "[default: those in EDGEFACE_REQUIRE_KEY].",
    ),
]
GalleryPath = Annotated[
    Path | None, typer.Option("--gallery", "-g", help="Gallery file [default: in the user's data folder].")
]
GalleryKeyPlace = Annotated[
    str | None,
    typer.Option(
        "--gallery-key",
        help="Key file of an encrypted gallery, or keyring, or keyring:NAME [default: EDGEFACE_GALLERY_KEY, if set].",
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Aligned faces: identity folders, a flat folder, tar shards, .rec, .bin or .csv."),
]
PairsFile = Annotated[
    Path | None, typer.Option("--pairs", help="pairs.txt of LFW over --data [default: drawn from its identities].")
]
Split = Annotated[str | None, typer.Option(help="Part of --data, such as train or val.")]
NetworkName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Network that the weights in a file of torch.save or safetensors are of, such as iresnet50, ir101 or mbf; "
        "see `edgeface models`.",
    ),
]
InputLayout = Annotated[str | None, typer.Option(help="Of a foreign ONNX network: nchw or nhwc.")]
ChannelOrder = Annotated[str | None, typer.Option(help="Of a foreign network: rgb or bgr.")]
Preprocessing = Annotated[
    str | None,
    typer.Option(
        help="Of a foreign network, its channel order, mean, scale and usual size by name: adaface, arcface, facenet, "
        "imagenet, raw or vggface2. The single options go before it."
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Of a foreign network: subtracted from each pixel (0 to 255). One number, or three with commas, in the "
        "order in which the network sees the channels."
    ),
]
Scale = Annotated[
    str | None, typer.Option(help="Of a foreign network: multiplied after the mean. One number or three, as --mean.")
]
InputSize = Annotated[
    str | None,
    typer.Option(
        help="Of a foreign ONNX network: its picture in pixels, as N or HEIGHTxWIDTH; the crop is resized to it inside "
        "the graph [default: as the network says]."
    ),
]
InputAffine = Annotated[
    Path | None,
    typer.Option(
        help="Of a foreign ONNX network that takes another picture than the 112 x 112 crop: .npy with the 2 x 3 matrix "
        "from pixels of the crop to its own."
    ),
]
EmbeddingOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        help="Of a foreign ONNX network: the tensor that is the embedding, where several could be it, or where a loss "
        "head follows.",
    ),
]
SetInput = Annotated[
    list[str] | None,
    typer.Option(
        "--set-input",
        help="Of a foreign ONNX network: 'NAME=NUMBER' for an input besides the picture that is the same for every "
        "face; repeatable.",
    ),
]
AllowPlugin = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-plugin",
        metavar="MODULE:CLASS",
        envvar="EDGEFACE_ALLOW_PLUGIN",
        help="Load the network of a run folder from this plug-in, if the run names it. It runs the plug-in's code: "
        "allow only what you trust; repeatable.",
    ),
]
OutputTransform = Annotated[
    Path | None,
    typer.Option(
        help="Of a foreign ONNX network: .npz with mean, basis, scale and perhaps share [0.8]; unit embeddings e "
        "become ((e - share * mean) @ basis) * scale, normalised."
    ),
]
MaxSide = Annotated[
    int, typer.Option(min=32, help="Of a detector: pictures are shrunk until their longest side is this, in pixels.")
]
Task = Annotated[str, typer.Option(help="What the network is for: embed faces, detect them, or judge their quality.")]


def check_task(task: str) -> str:
    """Return what `--task` says: embed, detect or quality.

    Raises:
        UnknownNameError: it says something else.
    """
    from edgeface.errors import UnknownNameError

    tasks = ("embed", "detect", "quality")
    if task not in tasks:
        raise UnknownNameError("task", task, tasks)
    return task


def refuse_foreign(context: typer.Context, task: str, own: Container[str]) -> None:
    """Refuse options on the command line that mean nothing to a task.

    Args:
        context: of the command.
        task: as `--task` takes it.
        own: names of the parameters that it knows.

    Raises:
        ConfigError: there is another one.
    """
    from edgeface.errors import ConfigError

    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in own:
            raise ConfigError(f"{parameter.opts[0]} means nothing to --task {task}; leave it out")


def is_default(context: typer.Context, name: str) -> bool:
    """Whether nobody gave a parameter of the command."""
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"


def all_but(context: typer.Context, *names: str) -> frozenset[str]:
    """Return the names of all parameters of a command but some, for `refuse_foreign`."""
    return frozenset(parameter.name or "" for parameter in context.command.params) - frozenset(names)


def check_cohort(cohort: str | None, split: str | None, *, no_cohort: bool) -> None:
    """Raise `ConfigError` if the options of a cohort contradict each other."""
    from edgeface.errors import ConfigError

    if no_cohort and cohort is not None:
        raise ConfigError("--cohort and --no-cohort contradict each other; give one of them")
    if split is not None and cohort is None:
        raise ConfigError(f"--cohort-split {split} is a part of --cohort; give that too")
