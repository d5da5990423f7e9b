"""`edgeface data`: look at faces, cut them out of photographs, pack them into shards."""

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeface.data.check import CheckReport
    from edgeface.data.faceset import Skipped
    from edgeface.runtime.detection.detector import Detector

FaceData = Annotated[
    str, typer.Argument(help="Identity folders, a flat folder, tar shards, .rec, .bin, .csv or .lst.", metavar="DATA")
]
Workers = Annotated[int, typer.Option(min=0, max=opt.MOST_THREADS, help="Threads; 0 is one a core.")]
WIDTH = 100
LISTED = 5
"""So many examples of each fault are shown; --json has all."""


def data_check_command(
    data: FaceData,
    *,
    against: Annotated[str | None, typer.Option(help="Test set that should share nothing with the data.")] = None,
    detector: Annotated[
        str | None, typer.Option(help="ONNX face detector, or 'built-in', to measure the alignment of crops.")
    ] = None,
    crops: Annotated[int, typer.Option(min=1, help="How many crops the detector sees.")] = 1000,
    split: opt.Split = None,
    workers: Workers = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Report what is wrong with a data set: broken pictures, copies, wrong names, overlap with a test set, alignment.

    Faults are a result, not an error: the exit code is 0.

    Example: edgeface data check faces/ --against lfw/
    """
    from edgeface.data import open_faces
    from edgeface.data.check import check_faces

    faces = open_faces(data, split=split)
    test = open_faces(against) if against is not None else None
    finder = _open_detector(detector) if detector is not None else None
    with console.progress("checking", quiet or as_json) as advance:
        report = check_faces(faces, test, finder, crops=crops, workers=workers, progress=advance)
    if as_json:
        console.print_json(report.to_json())
    else:
        console.table(_findings(report), ["finding", "count", "examples"])


def _findings(report: "CheckReport") -> list[list[str]]:
    def row(finding: str, items: list[str]) -> list[str]:
        shown = ", ".join(items[:LISTED]) + (", ..." if len(items) > LISTED else "")
        return [finding, str(len(items)), textwrap.shorten(shown, WIDTH, placeholder=" ...")]

    sizes = [f"{count} of {size}" for size, count in report.sizes.items()]
    rows = [
        ["pictures that can be read", str(report.pictures), ""],
        ["identities", str(report.identities), f"{report.unlabelled} pictures without one" * bool(report.unlabelled)],
        row("unreadable, missing or empty", [skipped.reason for skipped in report.unreadable]),
        *_kind_rows(report.unreadable),
        row("groups of the same picture", [" = ".join(copies.keys[:3]) for copies in report.duplicates]),
        row("  of these under two names", [" = ".join(copies.identities[:3]) for copies in report.mislabelled]),
        row("identities with one picture", list(report.single)),
        row("identities with none that can be read", list(report.empty)),
        ["pictures that are no 112x112 crops", str(report.unaligned), ", ".join(sizes[:LISTED])],
    ]
    if report.overlap is not None:
        rows += [
            row(f"identities also in {report.overlap.name}", list(report.overlap.identities)),
            row(f"pictures also in {report.overlap.name}", [f"{a} = {b}" for a, b in report.overlap.pictures]),
            ["  of its pictures not readable", str(report.overlap.unreadable), ""],
        ]
    if report.alignment is not None:
        seen = report.alignment
        rows += [
            ["crops with a face that the detector finds", f"{seen.faces}", f"of {seen.crops} looked at"],
            row("  landmarks far from the template", list(seen.far)),
            [
                "  distance from the template",
                f"{seen.distance_px:.1f} px",
                f"median; all together are shifted by ({seen.offset_px[0]:+.1f}, {seen.offset_px[1]:+.1f}) px",
            ],
        ]
    return rows


def _kind_rows(skipped: "Sequence[Skipped]") -> list[list[str]]:
    """Make a row of each kind of picture that was left out, with what to do about it."""
    from edgeface.image_kinds import ADVICE

    counts = Counter(one.kind for one in skipped)
    return [[f"  {kind}", str(count), ADVICE.get(kind, "")] for kind, count in counts.most_common()]


def data_align_command(
    raw: Annotated[str, typer.Argument(help="Photographs: identity folders, a flat folder, or any other data set.")],
    out: Annotated[Path, typer.Argument(help="Folder for the crops; one of an earlier run goes on.")],
    *,
    detector: Annotated[str, typer.Option(help="ONNX face detector, or 'built-in'.")] = "built-in",
    face: Annotated[
        str, typer.Option(help="Which face of several: prominent (large and near the centre), largest or central.")
    ] = "prominent",
    image_format: Annotated[str, typer.Option("--format", help="Of the crops: jpg, png or webp.")] = "jpg",
    image_quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="Of jpg and webp.")] = 95,
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Take no face that is less certain.")] = 0.0,
    min_face: Annotated[float, typer.Option(min=0.0, help="Take no face that is smaller, in pixels.")] = 0.0,
    max_side: Annotated[int, typer.Option(min=32, help="Photographs are shrunk to this side for detection.")] = 640,
    workers: Workers = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Make aligned 112 x 112 crops of one face of each photograph. A run that was interrupted goes on where it was.

    What became of each photograph is written to align.jsonl beside the crops.

    Example: edgeface data align photographs/ faces/
    """
    from edgeface.data import open_faces
    from edgeface.data.alignment import JOURNAL, AlignSettings, align_photographs
    from edgeface.runtime.deciding.quality import measure

    settings = AlignSettings(face, f".{image_format.lstrip('.')}", image_quality, min_score, min_face)
    photographs = open_faces(raw)
    finder = _open_detector(detector, max_side)
    with console.progress("aligning", quiet or as_json) as advance:
        report = align_photographs(
            photographs,
            out,
            finder,
            settings,
            measure=lambda crop, box, landmarks: measure(crop, box, landmarks).to_json(),
            detector_name=f"{_detector_mark(detector)} at {max_side} px",
            workers=workers,
            progress=advance,
        )
    if as_json:
        console.print_json({**report.to_json(), "out": str(out)})
        return
    rows = [
        ["photographs", str(report.photographs), ""],
        ["aligned crops", str(report.aligned), f"{report.kept} of an earlier run" * bool(report.kept)],
        ["several faces, one taken", str(report.several), ""],
        ["no face found", str(len(report.no_face)), ", ".join(report.no_face[:LISTED])],
        ["unreadable", str(len(report.unreadable)), ", ".join(s.key for s in report.unreadable[:LISTED])],
        *_kind_rows(report.unreadable),
        *(
            [f"  {name}", f"{middle:g}", f"median; 90 % lie between {low:g} and {high:g}"]
            for name, (low, middle, high) in report.quality.items()
        ),
    ]
    console.table(rows, ["what", "count", ""])
    typer.echo(f"crops: {out}; each photograph's fate: {out / JOURNAL}; next: edgeface data check {out}")


def data_pack_command(
    data: FaceData,
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    *,
    shard_mib: Annotated[float, typer.Option(min=0.01, help="Largest size of a shard, in MiB.")] = 256,
    shuffle: Annotated[
        int | None, typer.Option(help="Seed of a random order, which training from sequential reads needs.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Of the shards' names.")] = "faces",
    split: opt.Split = None,
    workers: Workers = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Pack faces into WebDataset shards: the pictures byte for byte, with their identities beside them.

    Example: edgeface data pack faces/ shards/ --shuffle 0
    """
    from edgeface.data import open_faces
    from edgeface.data.packing import pack_faces

    faces = open_faces(data, split=split)
    with console.progress("packing", quiet or as_json) as advance:
        report = pack_faces(
            faces,
            out,
            shard_bytes=int(shard_mib * (1 << 20)),
            shuffle=shuffle,
            prefix=prefix,
            workers=workers,
            progress=advance,
        )
    if as_json:
        console.print_json({**report.to_json(), "out": str(out)})
        return
    _say_unreadable(report.unreadable)
    typer.echo(
        f"packed {report.faces} faces into {len(report.shards)} shards, {report.size / (1 << 20):.1f} MiB, in {out}"
    )


def data_teach_command(
    data: FaceData,
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    *,
    teacher: Annotated[
        str, typer.Option(help="Network to imitate: a bundle, a run folder, or an ONNX file with a contract.")
    ] = "default",
    views: Annotated[int, typer.Option(min=1, help="Of each training face: itself, and faces made of it.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the views.")] = 0,
    threads: Annotated[int, typer.Option(min=0, max=opt.MOST_THREADS, help="Of the teacher; 0 is all cores.")] = 0,
    workers: Workers = 0,
    allow_plugin: opt.AllowPlugin = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Enlarge a face set for distillation: warped and mixed faces, and what a teacher answers for each picture.

    The folder is a data set, with the answers in teacher.npz.

    Example: edgeface data teach faces/ taught/ --views 5, then edgeface train --data taught/
    --set teacher.path=taught/teacher.npz
    """
    from edgeface.data import open_faces
    from edgeface.data.views import TEACHER_FILE, teach_faces
    from edgeface.evaluation.models import open_model

    network = open_model(Path(teacher), threads=threads, allow_plugins=allow_plugin or ()).embedder
    faces = open_faces(data)
    with console.progress("teaching", quiet or as_json) as advance:
        report = teach_faces(faces, out, network, views=views, seed=seed, workers=workers, progress=advance)
    if as_json:
        console.print_json({**report.to_json(), "out": str(out)})
        return
    _say_unreadable(report.unreadable)
    typer.echo(
        f"{report.views} views of {report.faces} faces, {report.size / (1 << 20):.1f} MiB, and the teacher's answers, "
        f"{report.dimension} numbers each, in {out}; next: edgeface train --recipe default-edge-cpu --data {out} "
        f"--set teacher.path={out / TEACHER_FILE}"
    )


def _say_unreadable(skipped: "Sequence[Skipped]") -> None:
    if skipped:
        from edgeface.data.faceset import left_out

        console.say(console.printable(f"left out {len(skipped)} pictures: {left_out(skipped)}"))


def _detector_file(name: str) -> Path:
    """Return the file that `--detector` names.

    Raises:
        ConfigError: it is not there.
    """
    from edgeface.errors import ConfigError
    from edgeface.runtime.bundle import BUILT_IN_DETECTOR
    from edgeface.runtime.fetching.fetch import fetched_file

    path = BUILT_IN_DETECTOR if name == "built-in" else fetched_file(name, "detector")
    if not path.is_file():
        raise ConfigError(f"face detector not found: {path}; give --detector an ONNX file such as YuNet")
    return path


def _detector_mark(name: str) -> str:
    """Return what tells one detector from another: the hash of its file, or the name of a plug-in."""
    from edgeface.files import sha256
    from edgeface.runtime.detection.detector import names_plugin

    return name if names_plugin(name) else sha256(_detector_file(name).read_bytes())[:16]


def _open_detector(name: str, max_side: int = 640) -> "Detector":
    """Open the detector, with one thread in the network: the pictures are what runs in parallel."""
    from edgeface.runtime.detection.detector import load_detector, names_plugin, open_detector
    from edgeface.runtime.signature import refuse_loose

    if names_plugin(name):
        refuse_loose(name, what="a plug-in")
        return load_detector(name)
    path = _detector_file(name)
    if name != "built-in":
        refuse_loose(path)
    return open_detector(path.read_bytes(), max_side=max_side, threads=1, name=str(path))
