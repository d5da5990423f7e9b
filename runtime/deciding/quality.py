"""Whether a face is worth looking at: size, sharpness, pose and light, cheap enough for every face."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.errors import ConfigError
from edgeface.faces import FACE_SIZE
from edgeface.fitness import FAULTS, Fitness

_NOSE_DEPTH: Final = 0.42
"""How far the nose stands out of the plane of eyes and mouth, in eye distances, on a mean head."""
_EYES_TO_MOUTH: Final = 1.157
"""From the line of the eyes to that of the mouth, in eye distances, on the template of the aligned face ..."""
_NOSE_HEIGHT: Final = 0.495
"""... and where between them the nose is: 0 at the eyes, 1 at the mouth."""
_MOUTH_DETAIL: Final = 0.55
"""Detail around the mouth, as a share of that of the whole face, below which it seems covered: 0.73 or more on 99 of
100 faces of LFW, at most 0.44 on 99 of 100 of them with a mask of one colour painted on."""
_EYES_LIGHT: Final = 0.5
"""The brighter parts around the eyes, as a share of the cheeks, below which they seem covered: 0.62 or more on 99 of
100 faces of LFW, at most 0.48 with dark glasses painted on."""
_SHARP: Final = 0.15
"""Sharpness from which on a face counts as sharp."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be told about a face without knowing it.

    Attributes:
        size_px: the shorter side of its box in the frame.
        sharpness: standard deviation of the Laplacian over that of the aligned crop. Light and contrast cancel out.
            Between 0.13 and 0.57 on 99 of 100 faces of LFW; 0.065 is typical after a Gaussian blur of 2 px.
        brightness: mean grey value of the middle of the aligned crop, 0 to 255.
        yaw_deg: turned left or right, estimated from the landmarks: 0 frontal, positive if the nose points to larger
            x. Rough, within about 15 degrees.
        roll_deg: angle of the line between the eyes, positive clockwise in the picture.
        pitch_deg: nodded, estimated from the landmarks: positive if the nose points to larger y. Rougher than yaw, as
            noses and chins differ: people who look straight ahead spread by about 10 degrees.
        covered: hints that something hides the `eyes` or the `mouth`: dark glasses, a mask. Only hints: they were set
            on faces with such things painted on. What a quality network says counts instead, where there is one.
        fitness: what the bundle's quality network says; None where the bundle has none.
    """

    size_px: float
    sharpness: float
    brightness: float
    yaw_deg: float
    roll_deg: float
    pitch_deg: float = 0.0
    covered: tuple[str, ...] = ()
    fitness: Fitness | None = None

    @property
    def score(self) -> float:
        """How good a look this is, in [0, 1]: 1 for a large, sharp, bare, frontal face in good light.

        With a quality network, its fitness, but for a face that is small or turned away.
        """
        near = min(1.0, self.size_px / FACE_SIZE)
        if self.fitness is not None:
            upright = 1.0 if self.fitness.turn_deg == 0 else 0.0
            return near * upright * self.fitness.score * _towards(self.yaw_deg, self.pitch_deg)
        sharp = min(1.0, self.sharpness / _SHARP)
        light = min(1.0, self.brightness / 60, (255 - self.brightness) / 60)
        bare = 0.5 ** len(self.covered)
        return near * sharp * bare * max(0.0, light) * _towards(self.yaw_deg, self.pitch_deg)

    def to_json(self) -> dict[str, float]:
        """Return the values by name, rounded; what is covered as 1, what is not as 0."""
        fitness = {} if self.fitness is None else {"fitness": round(self.fitness.score, 4)}
        return {
            "size_px": round(self.size_px, 1),
            "sharpness": round(self.sharpness, 4),
            "brightness": round(self.brightness, 1),
            "yaw_deg": round(self.yaw_deg, 1),
            "roll_deg": round(self.roll_deg, 1),
            "pitch_deg": round(self.pitch_deg, 1),
            "eyes_covered": float("eyes" in self.covered),
            "mouth_covered": float("mouth" in self.covered),
            "score": round(self.score, 4),
            **fitness,
        }


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """What a face needs to be embedded.

    The defaults keep out what costs matches: measured on LFW with a MobileFaceNet at FMR 1e-3, of genuine pairs 98.5 %
    match as they are, 97 % with one face shrunk to 40 px, 94 and 82 % blurred by 2 and 2.5 px, 80 % at a mean grey of
    11, 62 % at one of 213. Impostors never matched more often, so this gate protects the right person, not the door.

    Attributes:
        min_size_px: the shorter side of the box in the frame, in pixels.
        min_sharpness: see `Quality.sharpness`.
        min_brightness: mean grey value, 0 to 255.
        max_brightness: mean grey value, 0 to 255.
        max_yaw_deg: turned to either side.
        max_roll_deg: tilted to either side; alignment turns the face upright, so this is wide.
        max_pitch_deg: nodded up or down.
        may_be_covered: take faces whose eyes or mouth seem to be covered.
        min_fitness: what the quality network must say at least, where the bundle has one.
        refused_faults: names of `edgeface.fitness.FAULTS`; a face that has one is refused, however fit it is.

    Raises:
        ConfigError: a value is out of range.
    """

    min_size_px: float = 40.0
    min_sharpness: float = 0.05
    min_brightness: float = 20.0
    max_brightness: float = 220.0
    max_yaw_deg: float = 60.0
    max_roll_deg: float = 60.0
    max_pitch_deg: float = 60.0
    may_be_covered: bool = True
    min_fitness: float = 0.0
    refused_faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.min_size_px >= 0:
            raise ConfigError(f"the smallest face cannot be {self.min_size_px} px; use 0 or more, for example 60")
        if not self.min_sharpness >= 0:
            raise ConfigError(f"min_sharpness cannot be negative, got {self.min_sharpness}; use for example 0.05")
        if not 0 <= self.min_brightness < self.max_brightness <= 255:
            raise ConfigError(
                "brightness limits lie in 0 to 255, the lower one first, "
                f"got {self.min_brightness} and {self.max_brightness}; use for example 20 and 220"
            )
        if not 0 <= self.min_fitness <= 1:
            raise ConfigError(f"min_fitness lies in 0 to 1, got {self.min_fitness}; use for example 0.5")
        for name in ("max_yaw_deg", "max_roll_deg", "max_pitch_deg"):
            angle = getattr(self, name)
            if not 0 <= angle <= 180:
                raise ConfigError(f"{name} lies in 0 to 180, got {angle}; use for example 60")


ENROLMENT_QUALITY: Final = QualitySettings(max_yaw_deg=45.0, max_roll_deg=45.0, refused_faults=FAULTS)
"""Stricter than for a look: what is enrolled is compared with everything that comes after."""


def measure(
    face: npt.NDArray[np.uint8],
    box: npt.NDArray[np.floating],
    landmarks: npt.NDArray[np.floating],
    fitness: Fitness | None = None,
) -> Quality:
    """Measure one face.

    Args:
        face: (112, 112, 3) uint8 RGB, aligned.
        box: (4,) x, y, width, height in pixels of the frame.
        landmarks: (5, 2) left eye, right eye, nose, left and right mouth corner in pixels of the frame.
        fitness: what the quality network says of `face`.
    """
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    contrast = float(cv2.meanStdDev(grey)[1][0, 0])
    detail = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0])
    edge = len(grey) // 7
    yaw_deg, roll_deg = pose(landmarks)
    return Quality(
        size_px=float(min(box[2], box[3])),
        sharpness=detail / contrast if contrast > 0 else 0.0,
        brightness=float(cv2.mean(grey[edge:-edge, edge:-edge])[0]),
        yaw_deg=yaw_deg,
        roll_deg=roll_deg,
        pitch_deg=pitch(landmarks),
        covered=_covered(grey) if fitness is None else _said_covered(fitness),
        fitness=fitness,
    )


def fitness_of(qualities: Iterable[Quality]) -> npt.NDArray[np.float32]:
    """Return the (N,) fitnesses of N faces, in [0, 1], NaN where no quality network judged one."""
    scores = [math.nan if one.fitness is None else one.fitness.score for one in qualities]
    return np.array(scores, np.float32)


def _covered(grey: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Return what seems to be covered in an aligned face, (112, 112) uint8."""
    detail = np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.CV_32F))
    cheeks = float(np.median(np.concatenate([grey[68:82, 26:44], grey[68:82, 68:86]])))
    eyes = np.sort(np.concatenate([grey[46:60, 28:48], grey[46:60, 64:84]]), axis=None)
    found = []
    if float(eyes[int(0.85 * len(eyes))]) < _EYES_LIGHT * cheeks:
        found.append("eyes")
    if float(detail[82:104, 36:76].mean()) < _MOUTH_DETAIL * float(detail[36:108, 20:92].mean()):
        found.append("mouth")
    return tuple(found)


def _said_covered(fitness: Fitness) -> tuple[str, ...]:
    return tuple(part for part in ("eyes", "mouth") if f"{part}_covered" in fitness.faults)


def pose(landmarks: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return yaw and roll in degrees, estimated from (5, 2) landmarks; see `Quality`.

    With the distance d of the eyes and the depth p of the nose, a head turned by a shows eyes d cos a apart and a nose
    p sin a off the middle line, so tan a = (offset / p) / (eyes / d).
    """
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y), *mouth = landmarks.tolist()
    across_x, across_y = right_x - left_x, right_y - left_y
    eyes = math.hypot(across_x, across_y)
    if eyes == 0:
        return 90.0, 0.0
    middle_x = (left_x + right_x + mouth[0][0] + mouth[1][0]) / 4
    middle_y = (left_y + right_y + mouth[0][1] + mouth[1][1]) / 4
    offset = ((nose_x - middle_x) * across_x + (nose_y - middle_y) * across_y) / eyes
    yaw_deg = math.degrees(math.atan2(offset, _NOSE_DEPTH * eyes))
    return yaw_deg, math.degrees(math.atan2(across_y, across_x))


def pitch(landmarks: npt.NDArray[np.floating]) -> float:
    """Return the pitch in degrees, estimated from (5, 2) landmarks; see `Quality`.

    With the height h from eyes to mouth and the depth p of the nose, a head nodded by a shows h cos a between them and
    the nose p sin a below its place, so tan a = (offset / p) / (shown / h).
    """
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y), *mouth = landmarks.tolist()
    eyes_x, eyes_y = (left_x + right_x) / 2, (left_y + right_y) / 2
    down_x, down_y = (mouth[0][0] + mouth[1][0]) / 2 - eyes_x, (mouth[0][1] + mouth[1][1]) / 2 - eyes_y
    shown = math.hypot(down_x, down_y)
    if shown == 0:
        return 90.0
    along = ((nose_x - eyes_x) * down_x + (nose_y - eyes_y) * down_y) / shown**2  # 0 at the eyes, 1 at the mouth
    return math.degrees(math.atan((along - _NOSE_HEIGHT) * _EYES_TO_MOUTH / _NOSE_DEPTH))


def frontality(landmarks: npt.NDArray[np.floating]) -> float:
    """Return how much a face with these (5, 2) landmarks looks at the camera, in [0, 1]."""
    return _towards(pose(landmarks)[0], pitch(landmarks))


def _towards(yaw_deg: float, pitch_deg: float) -> float:
    return max(0.0, math.cos(math.radians(yaw_deg))) * max(0.0, math.cos(math.radians(pitch_deg)))


def too_small(box: npt.NDArray[np.floating], settings: QualitySettings) -> str | None:
    """Say that a face is too small, from its (4,) box alone; None if it is not."""
    size_px = float(min(box[2], box[3]))
    if size_px >= settings.min_size_px:
        return None
    return f"too small: {math.floor(size_px)} px, need {settings.min_size_px:.0f}"


def problem(quality: Quality, settings: QualitySettings) -> str | None:
    """Say why a face is not worth embedding, the first reason that applies; None if it is."""
    if quality.size_px < settings.min_size_px:
        return f"too small: {math.floor(quality.size_px)} px, need {settings.min_size_px:.0f}"
    if quality.fitness is not None and quality.fitness.turn_deg:
        # First: the landmarks of a face that hangs upside down lie anywhere, so pose means nothing.
        return unfit(quality.fitness, settings)
    if abs(quality.yaw_deg) > settings.max_yaw_deg:
        return f"turned away: about {math.ceil(abs(quality.yaw_deg))}°, at most {settings.max_yaw_deg:.0f}°"
    if abs(quality.pitch_deg) > settings.max_pitch_deg:
        way = "down" if quality.pitch_deg > 0 else "up"
        return f"turned {way}: about {math.ceil(abs(quality.pitch_deg))}°, at most {settings.max_pitch_deg:.0f}°"
    if abs(quality.roll_deg) > settings.max_roll_deg:
        return f"tilted: {math.ceil(abs(quality.roll_deg))}°, at most {settings.max_roll_deg:.0f}°"
    if quality.brightness < settings.min_brightness:
        return f"too dark: {math.floor(quality.brightness)} of 255, need {settings.min_brightness:.0f}"
    if quality.brightness > settings.max_brightness:
        return f"too bright: {math.ceil(quality.brightness)} of 255, at most {settings.max_brightness:.0f}"
    if quality.covered and not settings.may_be_covered:
        return f"covered: {' and '.join(quality.covered)}, must be bare"
    if quality.sharpness < settings.min_sharpness:
        return f"blurred: sharpness {quality.sharpness:.3f}, need {settings.min_sharpness:.3f}"
    return None if quality.fitness is None else unfit(quality.fitness, settings)


def unfit(fitness: Fitness, settings: QualitySettings) -> str | None:
    """Say why a face is not fit to be recognised, as far as the quality network tells; None if it is."""
    words = fitness.words()
    if fitness.turn_deg:
        return f"{words}; turn the picture, or the camera's with --rotate {360 - fitness.turn_deg}"
    if set(fitness.faults) & set(settings.refused_faults):
        return words
    if fitness.score < settings.min_fitness:
        return f"{words or 'unfit'}: fitness {fitness.score:.2f}, need {settings.min_fitness:.2f}"
    return None
