"""Frames a second of the camera loop against a loop written by hand, on the same networks and the same frames.

usage: bench_run.py BUNDLE --detector FILE [--precision NAME] [--source FILE] [--frames N] [--rounds N]

The frames are 640 x 480 with one face: painted ones, made before any clock starts, or those of a video file, shrunk to
640 px. The loop by hand asks OpenCV's FaceDetectorYN on every frame, aligns with cv2.warpAffine, embeds each face of
each frame by its own run of onnxruntime and holds it against the gallery; whom at least three frames name at a score
above the threshold is there. Both have one CPU thread and take turns, each run in a process of its own, so that its
memory is its own. `cpu_ms` is the processor's time for a frame, which other load disturbs less than the frame rate.
Needs a detector that OpenCV reads, which is YuNet. `bare` is our loop without quality network and cohort, by cosine, so
that what those two cost shows in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIZE_WH = (640, 480)
FRAMES_NAME = "frames.raw"
BARE_THRESHOLD = 0.68
"""A cosine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--detector", required=True)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--source")
    parser.add_argument("--min-face", type=float, default=40, help="of our loop; 24 makes it look at 640 px, too")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=("ours", "bare", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        found = _plain(options) if options.loop == "plain" else _ours(options, bare=options.loop == "bare")
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        _prepare(options, Path(name))
        rounds: dict[str, list[dict[str, object]]] = {"plain": [], "bare": [], "ours": []}
        for _ in range(options.rounds):
            for loop, results in rounds.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--loop", loop, "--folder", name]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=_ENVIRONMENT)
                results.append(json.loads(done.stdout.splitlines()[-1]))
    for loop, results in rounds.items():
        for found in results:
            print(loop, " ".join(f"{key} {value}" for key, value in found.items()))
    for what, better in (("fps", 1), ("cpu_ms", -1)):
        plain, bare, ours = (
            float(np.median([float(str(found[what])) for found in results])) for results in rounds.values()
        )
        print(f"by {what} {(ours / plain) ** better:.2f} times as fast as the loop by hand")
        print(f"by {what} {(ours / bare) ** better:.2f} times as fast as without quality network and cohort")
    people = {json.dumps(found["people"]) for results in rounds.values() for found in results}
    print(f"people: {' or '.join(sorted(people))}")


_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _prepare(options: argparse.Namespace, folder: Path) -> None:
    """Make the frames and the gallery, with whoever the frames show and some others in it."""
    import cv2

    from edgeface.data.synthetic import Stream, Visit, nth_identity
    from edgeface.faces import align
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.portrait import one_face
    from edgeface.runtime.recognizer import open_recognizer

    recognizer = open_recognizer(
        options.bundle, precision=options.precision, provider="cpu", detector=Path(options.detector)
    )
    frames = np.empty((options.frames, SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    if options.source:
        capture = cv2.VideoCapture(options.source)
        count = 0
        while count < options.frames and (read := capture.read())[0]:
            frames[count] = cv2.cvtColor(cv2.resize(read[1], SIZE_WH, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
            count += 1
        for row in range(count, options.frames):
            frames[row] = frames[row % count]
    else:
        visit = Visit(nth_identity(1, 0), "person 0", 0, options.frames + 400, face_px=140.0)
        stream = Stream(1, [visit])
        for row in range(options.frames):
            frames[row] = stream.frame(row + 130).image
    frames.tofile(folder / FRAMES_NAME)
    with Gallery(folder / "people.db", recognizer.embedder.space, recognizer.embedder.dimension, create=True) as people:
        shown = recognizer.detector.detect(frames[options.frames // 3])
        if len(shown):
            largest = one_face(shown, frames[0], "the frame", largest=True)
            people.add("person 0", recognizer.embed_face(align(frames[options.frames // 3], largest.landmarks[0])))
        for number in range(1, 10):
            other = Stream(1, [Visit(nth_identity(1, number), None, 0, 200, face_px=140.0)]).frame(100).image
            people.add(f"person {number}", recognizer.embed_one(other, f"person {number}", largest=True))


def _ours(options: argparse.Namespace, *, bare: bool) -> dict[str, object]:
    import cv2

    from edgeface.runtime.cameras.frames import FrameSequence
    from edgeface.runtime.deciding.decision import DecisionSettings
    from edgeface.runtime.deciding.gate import OPEN
    from edgeface.runtime.events import ListSink
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.loop import RunSettings, run
    from edgeface.runtime.recognizer import open_recognizer
    from edgeface.scoring import COSINE

    cv2.setNumThreads(1)
    recognizer = open_recognizer(
        options.bundle,
        precision=options.precision,
        provider="cpu",
        detector=Path(options.detector),
        max_side=4096,
        min_face=options.min_face,
        low_share=0.5,
    )
    with Gallery(options.folder / "people.db") as people:
        limit = recognizer.limits.search(people.precisions(None))
        threshold = BARE_THRESHOLD if bare else limit.cosine
        settings = RunSettings(DecisionSettings(threshold, limit.fmr), OPEN if bare else recognizer.gate)
        events = ListSink()
        source = FrameSequence(_frames(options), fps=30.0)
        cpu_s = time.process_time()
        summary = run(
            source,
            recognizer.detector,
            recognizer.embedder,
            people,
            settings,
            [events],
            scoring=COSINE if bare else recognizer.scoring,
        )
        cpu_s = time.process_time() - cpu_s
    if summary.error is not None:
        raise summary.error
    named = Counter(event.identity for event in events.events if event.event == "match")
    return {
        "fps": round(summary.fps, 1),
        "cpu_ms": round(1e3 * cpu_s / summary.frames, 2),
        "p50_ms": round(summary.stage_ms["total"].p50, 2),
        "p99_ms": round(summary.stage_ms["total"].p99, 2),
        "rss_mb": _memory_mb(),
        "embedded": summary.embedded,
        "stages": {stage: round(times.p50, 2) for stage, times in summary.stage_ms.items()},
        "people": sorted(name for name in named if name),
    }


def _plain(options: argparse.Namespace) -> dict[str, object]:
    import cv2

    from edgeface.faces import TEMPLATE, similarity_transform
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.deciding.limits import bundle_limits
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.telemetry import import_onnxruntime

    onnxruntime = import_onnxruntime()
    cv2.setNumThreads(1)
    detector = cv2.FaceDetectorYN.create(options.detector, "", SIZE_WH, 0.6, 0.3, 50)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    bundle = open_bundle(options.bundle)
    session = onnxruntime.InferenceSession(bundle.embedder(options.precision), session_options)
    name = session.get_inputs()[0].name
    with Gallery(options.folder / "people.db") as people:
        names, templates = people.templates()
        limit = bundle_limits(bundle, options.precision).search(people.precisions(None)).cosine
    votes: Counter[str] = Counter()
    embedded, times = 0, []
    started_s, cpu_s = time.perf_counter(), time.process_time()
    for image in _frames(options):
        before_s = time.perf_counter()
        _, found = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        for face in found if found is not None else ():
            matrix = similarity_transform(face[4:14].reshape(5, 2), TEMPLATE)
            crop = cv2.warpAffine(image, matrix, (112, 112))
            scores = templates @ session.run(None, {name: crop[None]})[0][0]
            embedded += 1
            if scores.max() >= limit:
                votes[names[int(scores.argmax())]] += 1
        times.append(1e3 * (time.perf_counter() - before_s))
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    return {
        "fps": round(len(times) / seconds, 1),
        "cpu_ms": round(1e3 * cpu_s / len(times), 2),
        "p50_ms": round(float(np.percentile(times, 50)), 2),
        "p99_ms": round(float(np.percentile(times, 99)), 2),
        "rss_mb": _memory_mb(),
        "embedded": embedded,
        "people": sorted(person for person, count in votes.items() if count >= 3),
    }


def _frames(options: argparse.Namespace) -> Iterator[npt.NDArray[np.uint8]]:
    """Read the frames from disk one by one, so that they do not count as memory of the loop."""
    width, height = SIZE_WH
    with (options.folder / FRAMES_NAME).open("rb") as file:
        while data := file.read(3 * width * height):
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _memory_mb() -> float:
    """Return the most memory that this process has had so far; `getrusage` would count its parent's, too."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise OSError("no VmHWM in /proc/self/status: this needs Linux")


if __name__ == "__main__":
    main()
