"""The whole line on drawn faces: train, evaluate, export, enrol, watch a camera, and check every decision.

Nothing is needed but the package: faces, scenes and the camera's stream are painted by
`edgeface.data.synthetic`. What the embedder learns holds for drawn faces only.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data import InMemoryFaces, make_pairs
from edgeface.data.synthetic import Stream, StreamFrame, Visit, crops, demo_plan, nth_identity, render_face
from edgeface.data.synthetic.nuisance import sample_nuisance
from edgeface.evaluation.models import open_model
from edgeface.evaluation.plots import plot_reports
from edgeface.evaluation.verification import VerificationReport, verify_pairs
from edgeface.export.pipeline import ExportSettings, LabelledPairs, export_bundle
from edgeface.export.sources import checkpoint_network
from edgeface.images import write_image
from edgeface.manifest import Licences, Manifest
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.enrolling.enrolment import enroll
from edgeface.runtime.events import Event, ListSink
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.loop import RunSettings, run
from edgeface.runtime.portrait import Portrait, one_face, portrait
from edgeface.runtime.recognizer import Recognizer, open_recognizer
from edgeface.runtime.showing.recorder import VideoRecorder
from edgeface.runtime.sinks.file import FileSink
from edgeface.runtime.summary import Summary
from edgeface.training.config import load_config
from edgeface.training.loop import train
from edgeface.training.progress import Progress
from edgeface.training.validation import Validation

# Identity k of the generator depends on (seed, k) only: ranges that do not overlap never share a person.
TRAIN_PEOPLE: Final = range(0, 400)
VALIDATION_PEOPLE: Final = range(10_000, 10_040)
TEST_PEOPLE: Final = range(20_000, 20_150)
KNOWN: Final = {"Ada": 30_000, "Ben": 30_001}
STRANGERS: Final = (30_002, 30_003)
CROPS_EACH: Final = 16
FMR: Final = 1e-3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided about one visit, against the truth.

    Attributes:
        visit: number of the visit, from 0.
        truth: who came; None for a stranger.
        decided: who was recognised, `unknown`, or `not seen`.
        score: that stands for the decision; None if there was none.
        correct: the right name and no other, or for a stranger `unknown` and never a name.
    """

    visit: int
    truth: str | None
    decided: str
    score: float | None
    correct: bool


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did."""

    outcomes: tuple[Outcome, ...]
    manifest: Manifest
    report: VerificationReport
    summary: Summary
    seconds: float
    files: tuple[Path, ...]

    @property
    def correct(self) -> int:
        """Number of visits decided correctly."""
        return sum(outcome.correct for outcome in self.outcomes)


def run_demo(out: Path, *, seed: int = 0, workers: int = 2, progress: Progress | None = None, say: Say) -> DemoResult:
    """Run the whole line into the folder `out`, which must be new or an earlier demo's.

    Args:
        out: gets run/, demo.bundle/, gallery.db, camera.mp4, frame.png, roc.png, events.jsonl.
        seed: of people, training and camera.
        workers: processes that paint faces.
        progress: is told how training goes.
        say: is told what is going on, a sentence at a time.

    Raises:
        EdgefaceError: whatever a step raises.
    """
    started = time.monotonic()
    say(f"painting {len(TRAIN_PEOPLE)} people, {CROPS_EACH} pictures each")
    training = _people(TRAIN_PEOPLE, CROPS_EACH, seed, workers)
    validation = _people(VALIDATION_PEOPLE, 10, seed, workers)
    testing = _people(TEST_PEOPLE, 8, seed, workers)

    say("training an ArcFace embedder on them")
    config = load_config(recipe="demo", overrides=[f"run.seed={seed}"])
    train(
        config,
        out / "run",
        faces=training,
        validation=Validation(validation, make_pairs(validation, 1000)),
        progress=progress,
    )

    say(f"exporting fp32 and int8, and measuring both on {len(TEST_PEOPLE)} people never seen")
    pairs = LabelledPairs(testing, make_pairs(testing, 8000), f"{len(TEST_PEOPLE)} drawn people never seen in training")
    manifest = export_bundle(
        checkpoint_network(out / "run"),
        out / "demo.bundle",
        ExportSettings(
            name="demo",
            fmr=(FMR,),
            detector=BUILT_IN_DETECTOR.read_bytes(),
            licences=Licences(weights="MIT", data="MIT (painted by edgeface)"),
        ),
        training.read_many(range(0, len(training), len(training) // 200)),
        "drawn faces",
        pairs,
    )
    opened = {name: open_model(out / "demo.bundle", precision=name, provider="cpu") for name in manifest.precisions}
    reports = {name: verify_pairs(model.embedder, pairs.faces, pairs.pairs) for name, model in opened.items()}
    plot_reports(out / "roc.png", reports, "drawn people never seen in training")

    say("enrolling Ada and Ben, and watching a camera that strangers also pass")
    recognizer = open_recognizer(out / "demo.bundle", precision="int8", provider="cpu")
    gallery = out / "gallery.db"
    gallery.unlink(missing_ok=True)
    for name, number in KNOWN.items():
        enroll(recognizer, gallery, name, _portraits(recognizer, seed, number))
    outcomes, summary = _watch(recognizer, gallery, out, seed)
    names = ("run/curves.png", "roc.png", "frame.png", "camera.mp4", "events.jsonl", "demo.bundle")
    return DemoResult(
        outcomes, manifest, reports["int8"], summary, time.monotonic() - started, tuple(out / name for name in names)
    )


def _people(numbers: range, each: int, seed: int, workers: int) -> InMemoryFaces:
    images, labels = crops(len(numbers), each, seed, start=numbers.start, workers=workers)
    return InMemoryFaces(images, labels, name=f"drawn people {numbers.start} to {numbers.stop - 1}")


def _portraits(recognizer: Recognizer, seed: int, number: int, count: int = 3) -> Sequence[Portrait]:
    """Paint a person before the enrolment camera, and find the face as with a photograph."""
    rng = np.random.default_rng((seed, number))
    pictures = []
    for index in range(count):
        nuisance = dataclasses.replace(sample_nuisance(rng, 0.4), occluder_radius=0.0)
        image = render_face(nth_identity(seed, number), nuisance, size_wh=(320, 320)).image
        found = one_face(recognizer.detector.detect(image), image, f"portrait {index}", largest=True)
        pictures.append(portrait(image, found, f"portrait {index}", recognizer.gate))
    return pictures


class _SyntheticCamera(FrameSource):
    """The painted stream as a source of frames; remembers who was where."""

    def __init__(self, stream: Stream) -> None:
        self.name, self.live, self.fps = "synthetic camera", False, stream.fps
        self.truth: list[StreamFrame] = []
        self._frames = iter(stream)

    def read(self) -> Frame | None:
        """Paint the next frame."""
        painted = next(self._frames, None)
        if painted is None:
            return None
        # Not a slice of the picture: that would keep all of it, and with it the whole video, in memory.
        self.truth.append(dataclasses.replace(painted, image=np.empty((0, 0, 3), np.uint8)))
        return Frame(painted.image, painted.index, painted.time_s)

    def close(self) -> None:
        """Nothing is held open."""


class _Snapshot:
    """Keeps the video, and the frame in which most of the first visitors are in sight."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int], frame: int) -> None:
        self._video = VideoRecorder(path, fps, size_wh)
        self._frame = frame
        self._count = 0
        self.picture: npt.NDArray[np.uint8] | None = None

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Append a frame."""
        if self._count == self._frame:
            self.picture = image.copy()
        self._count += 1
        self._video.write(image)

    def close(self) -> None:
        """Finish the video and the picture."""
        self._video.close()


def _watch(recognizer: Recognizer, gallery: Path, out: Path, seed: int) -> tuple[tuple[Outcome, ...], Summary]:
    """Run the camera loop over the stream, and hold what it said against who was there."""
    visits = demo_plan(
        {name: nth_identity(seed, number) for name, number in KNOWN.items()},
        [nth_identity(seed, number) for number in STRANGERS],
        seed,
    )
    stream = Stream(seed, visits)
    camera = _SyntheticCamera(stream)
    events = ListSink()
    log = out / "events.jsonl"
    log.unlink(missing_ok=True)
    file = FileSink(log)
    snapshots: list[_Snapshot] = []

    def recorder(size_wh: tuple[int, int]) -> _Snapshot:
        snapshots.append(_Snapshot(out / "camera.mp4", stream.fps, size_wh, _best_frame(visits)))
        return snapshots[-1]

    limit = recognizer.threshold
    settings = RunSettings(DecisionSettings(threshold=limit.cosine, fmr=limit.fmr), recognizer.gate)
    try:
        with Gallery(gallery, recognizer.embedder.space, recognizer.embedder.dimension) as people:
            summary = run(
                camera,
                recognizer.detector,
                recognizer.embedder,
                people,
                settings,
                [events, file],
                recorder=recorder,
                scoring=recognizer.scoring,
            )
    finally:
        file.close()
    if summary.error:
        raise summary.error
    picture = next((snapshot.picture for snapshot in snapshots), None)
    if picture is not None:
        write_image(out / "frame.png", picture)
    return judge(visits, camera.truth, events.events), summary


def _best_frame(visits: Sequence[Visit]) -> int:
    """Return the middle of the time in which most visitors overlap."""
    counts = np.zeros(max(visit.start_frame + visit.frames for visit in visits), int)
    for visit in visits:
        still = visit.frames // 3
        counts[visit.start_frame + still : visit.start_frame + visit.frames - still] += 1
    most = np.flatnonzero(counts == counts.max())
    return int(most[len(most) // 4])


def judge(visits: Sequence[Visit], truth: Sequence[StreamFrame], events: Sequence[Event]) -> tuple[Outcome, ...]:
    """Hold the events of a run against the truth, one outcome a visit.

    An event belongs to the visit whose face in that frame overlaps its box the most.
    """
    answers: dict[int, list[Event]] = {number: [] for number in range(len(visits))}
    for event in events:
        if event.event not in ("match", "unknown") or event.box is None or event.frame is None:
            continue
        overlaps = [(_iou(np.array(event.box), face.box), face.visit) for face in truth[event.frame].faces]
        overlap, visit = max(overlaps, default=(0.0, -1))
        if overlap > 0.2:
            answers[visit].append(event)
    return tuple(_outcome(number, visit.name, answers[number]) for number, visit in enumerate(visits))


def _outcome(number: int, truth: str | None, answers: Sequence[Event]) -> Outcome:
    named = {event.identity for event in answers if event.event == "match"}
    last = next((event for event in reversed(answers) if event.event == "match" or not named), None)
    decided = "not seen" if last is None else last.identity if last.event == "match" and last.identity else "unknown"
    correct = named == {truth} if truth is not None else not named and bool(answers)
    return Outcome(number, truth, decided, None if last is None else last.score, correct)


def _iou(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    top_left = np.maximum(first[:2], second[:2])
    bottom_right = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    both = float(np.prod(np.clip(bottom_right - top_left, 0, None)))
    return both / (float(np.prod(first[2:]) + np.prod(second[2:])) - both)
