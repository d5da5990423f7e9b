"""Putting a person into the gallery: every picture is looked at before the first template is stored."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError, GalleryError, ImageError, NoFaceError
from edgeface.files import readable_name
from edgeface.images import read_photograph
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.deciding.limits import Limits
from edgeface.runtime.deciding.quality import fitness_of
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.enrolling.coach import Advice, Coach, View, pitch, redundant
from edgeface.runtime.gallery.gallery import Gallery, Template, clean_name
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.matching import best_per_person, similarities
from edgeface.runtime.portrait import Portrait, portrait
from edgeface.runtime.recognizer import Recognizer
from edgeface.scoring import COSINE

logger = logging.getLogger(__name__)

CAMERA_PATIENCE_S: Final = 60.0
"""How long to wait for the next picture before giving up."""

MANY_REDUNDANT: Final = 3
"""From so many templates on that say nothing new, a person has too many."""

Show = Callable[[Frame, Detections, Advice], bool]
"""Shows a frame with its faces and the advice; False if the user wants to stop."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who was enrolled with how many templates, how many people the gallery has now, and what is worth knowing."""

    name: str
    templates: int
    people: int
    warnings: tuple[str, ...] = ()


def file_portraits(
    recognizer: Recognizer, paths: Sequence[Path], *, largest: bool = False, force: bool = False
) -> Iterator[Portrait]:
    """Read picture files and find the one face in each.

    With `force` a face that the gate refuses is taken all the same, and the reason is kept with its source.

    Raises:
        ImageError: a file cannot be read, or its face is too poor to be recognised by.
        NoFaceError: no face, or several and not `largest`.
    """
    for path in paths:
        name = readable_name(str(path))
        taken = recognizer.take(read_photograph(path).image, name, largest=largest)
        source = readable_name(path.name)
        if reason := recognizer.gate.refuses(taken.quality, template=True):
            if not force:
                raise ImageError(
                    f"the face in {name} cannot be enrolled, it is {reason}; use a better picture, or --force"
                )
            source = f"{source} (forced: {reason})"
        yield replace(taken, source=source)


def coached_portraits(
    recognizer: Recognizer,
    source: FrameSource,
    coach: Coach,
    show: Show | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Portrait]:
    """Take the pictures that a coach wants from a source.

    Args:
        recognizer: finds and embeds faces.
        source: camera, video or the like.
        coach: decides.
        show: is given every frame with what the coach says.
        clock: gives seconds, for a camera and to lose patience by; a video has its own time.

    Raises:
        SourceError: the source is lost.
        NoFaceError: it ended, or nothing could be taken for `CAMERA_PATIENCE_S`, or the user stopped.
    """
    progress_s = clock()
    fault: str | None = None
    while not coach.done:
        frame = source.read()
        now_s = clock()
        if frame is None or now_s - progress_s > CAMERA_PATIENCE_S:
            raise _too_few(coach, source.name, fault)
        moment_s = now_s if source.live else frame.time_s
        found = recognizer.detector.detect(frame.image)
        seen, view = None, None
        if len(found) == 1:
            seen = portrait(frame.image, found, f"{source.name} picture {coach.taken + 1}", recognizer.gate)
            view = View(seen.quality, pitch(found.landmarks[0]))
        advice = coach.look(moment_s, len(found), view)
        if seen is not None and view is not None and advice.fault is None:
            embedding = recognizer.embed_face(seen.face)
            advice = coach.take(moment_s, view, embedding)
            if advice.fault is None:
                progress_s = now_s
                logger.info("%s", advice)
                yield replace(seen, embedding=embedding)
        fault = advice.fault or fault
        if show is not None and not show(frame, found, advice):
            raise NoFaceError(f"the enrolment was stopped after {coach.taken} of {coach.settings.shots} pictures")


def enroll(
    recognizer: Recognizer,
    gallery: Path,
    name: str,
    portraits: Iterable[Portrait],
    *,
    key: GalleryKey | None = None,
    command: str = "",
    limits: Limits | None = None,
    force: bool = False,
) -> Enrolment:
    """Embed portraits and add them to a person in the gallery, which is made if there is none.

    Args:
        recognizer: embeds them.
        gallery: the file.
        name: of the person.
        portraits: are all looked at before the first is stored.
        key: of an encrypted gallery.
        command: for the gallery's log.
        limits: thresholds to tell people apart by; None does not look whether the person is like somebody else.
        force: enrol somebody who is.

    Raises:
        ConfigError: the name cannot be used.
        GalleryError: the gallery cannot be opened or belongs to another space, or the person looks like somebody else
            in it.
        ImageError, NoFaceError, SourceError: as the portraits raise them; then nothing is stored.
    """
    name = clean_name(name)
    taken = list(portraits)
    embeddings = [recognizer.embed_face(seen.face) if seen.embedding is None else seen.embedding for seen in taken]
    templates = [
        Template(
            embedding,
            seen.quality.sharpness,
            seen.source,
            recognizer.precision,
            None if seen.quality.fitness is None else seen.quality.fitness.score,
        )
        for embedding, seen in zip(embeddings, taken, strict=True)
    ]
    embedder, scoring = recognizer.embedder, recognizer.scoring
    with Gallery(gallery, embedder.space, embedder.dimension, create=True, key=key, command=command) as opened:
        names, side = opened.templates(scoring)
        warnings = []
        if limits is not None and names and embeddings:
            try:
                threshold = limits.search(opened.precisions()).cosine
            except BundleError as error:  # templates of a precision that no threshold is known for
                warnings = [f"not checked whether {name} is like somebody else in the gallery: {error}"]
            else:
                fitness = fitness_of(seen.quality for seen in taken)
                faces = scoring.probes(np.stack(embeddings), fitness)
                warnings = resemblances(name, faces, names, side, threshold, scoring.word, force=force)
        opened.enroll(name, templates, scoring)
        matrix = side[:, : embedder.dimension]
        own = [*matrix[[row for row, other in enumerate(names) if other == name]], *embeddings]
        surplus = redundant(np.stack(own))
        if surplus >= MANY_REDUNDANT:
            warnings.append(
                f"{surplus} of the {len(own)} templates of {name} say nothing that the others do not; they only make "
                f"the threshold stricter: see `edgeface gallery list {name}`, and remove some with --template"
            )
        return Enrolment(name, len(templates), len(opened.list()), tuple(warnings))


def resemblances(
    name: str,
    faces: npt.NDArray[np.float32],
    names: Sequence[str],
    matrix: npt.NDArray[np.float32],
    threshold: float,
    word: str = COSINE.word,
    *,
    force: bool = False,
) -> list[str]:
    """Hold new faces of a person against everybody in the gallery; return what is worth a warning.

    Args:
        name: of the person.
        faces: (N, D) float32, the side of the faces, N at least 1; see `edgeface.scoring.Scoring.probes`.
        names: T names, one a template, T at least 1.
        matrix: (T, D) float32, the side of the templates.
        threshold: score from which on a face is taken for somebody.
        word: what a score is called.
        force: warn of somebody else who is too near, instead of raising an error.

    Raises:
        GalleryError: one of the faces would be taken for somebody else.
    """
    scores = np.max([similarities(matrix, face) for face in faces], axis=0)
    warnings = []
    best = dict.fromkeys(names, -math.inf) | {match.name: match.score for match in best_per_person(names, scores)}
    own = best.pop(name, None)
    other = max(best, key=best.__getitem__, default=None)
    if other is not None and best[other] >= threshold:
        numbers = f"{word} {best[other]:.3f}, threshold {threshold:.3f}"
        alike = f"{name} looks like {other}, who is in the gallery: {numbers}"
        if not force:
            raise GalleryError(f"{alike}; enrol them under that name if they are one, or with --force if they are two")
        warnings.append(f"{alike}; one may be taken for the other")
    if own is not None and own < threshold:
        warnings.append(
            f"these pictures do not look like the {name} who was enrolled before: {word} {own:.3f}, threshold "
            f"{threshold:.3f}; remove them if it is somebody else"
        )
    return warnings


def _too_few(coach: Coach, source: str, fault: str | None) -> NoFaceError:
    wanted = f"; still wanted: {', '.join(coach.missing)}" if coach.missing else ""
    last = f" (the last one was not taken, {fault})" if fault else ""
    return NoFaceError(
        f"only {coach.taken} of {coach.settings.shots} good pictures of a single face came from {source}{last}{wanted}"
        "; stand alone in front of the camera, in good light, or ask for less with --shots and --angles"
    )
