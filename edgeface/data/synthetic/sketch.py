"""A posed head as a list of coloured outlines: drawn on a curved surface, turned, then projected.

The surface is half an ellipsoid, so that features keep their place on the skin and show parallax: with yaw
the nose moves more than the eyes, and the eyes more than the ears.
"""

from dataclasses import dataclass
from enum import Enum
from math import cos, radians, sin
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data.synthetic.curves import Points
from edgeface.data.synthetic.identity import Identity, Rgb
from edgeface.data.synthetic.nuisance import Nuisance

CAMERA_DISTANCE: Final = 9.0
"""From the viewer to the centre of the head, in face units."""

_SURFACE_DEPTH: Final = 0.9
_SURFACE_RADIUS_X: Final = 1.13
_SURFACE_RADIUS_Y: Final = 1.75
_CENTRE_Y: Final = 0.2


class Frame(Enum):
    """What the z of a line means."""

    SKIN = 0
    """Height over the surface of the face; turns with the head."""
    HEAD = 1
    """Depth from the centre of the head; turns with the head."""
    VIEW = 2
    """Depth from the centre of the head; does not turn: the body, and silhouettes that face the viewer."""


class Layer(Enum):
    """How an outline is painted."""

    PAINT = 0
    """Covers what is under it."""
    HULL = 1
    """Covers, and stands for the convex hull of its points."""
    SOFT = 2
    """Multiplies what is under it, blurred; the colour is a gain for each channel."""


@dataclass(frozen=True, slots=True)
class Line:
    """Part of an outline: (K, 2) points in face units and one depth for all of them."""

    xy: Points
    z: float = 0.0
    frame: Frame = Frame.SKIN


@dataclass(frozen=True, slots=True)
class Patch:
    """One painted shape: which points are its contours (pairs of start and end), its colour and layer."""

    spans: tuple[tuple[int, int], ...]
    rgb: Rgb
    layer: Layer


@dataclass(frozen=True, slots=True)
class PosedHead:
    """A head ready to be painted, in the plane of the viewer (face units, x right, y down).

    Attributes:
        points: (N, 2) float64 all points of all patches.
        patches: in painting order.
        landmarks: (5, 2) float64, in the order of `edgeface.faces.TEMPLATE`.
        outline: (K, 2) float64 edge of the face from the hairline to the chin.
        centre: (2,) float64 centre of the head.
        width: half the width of the head.
    """

    points: Points
    patches: tuple[Patch, ...]
    landmarks: Points
    outline: Points
    centre: Points
    width: float


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Points:
    """Return the (3, 3) rotation of a head: yaw first, then pitch, then roll; signs as in `Nuisance`."""
    yaw, pitch, roll = radians(yaw_deg), radians(pitch_deg), radians(roll_deg)
    turn = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    tilt = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    matrix: Points = tilt @ nod @ turn
    return matrix


def surface_depth(xy: Points, width: float = 1.0) -> npt.NDArray[np.float64]:
    """Return (K,) z of the face's surface over points (K, 2); `width` is half the width of the face."""
    x = xy[:, 0] / (_SURFACE_RADIUS_X * width)
    y = (xy[:, 1] - _CENTRE_Y) / _SURFACE_RADIUS_Y
    depth: npt.NDArray[np.float64] = _SURFACE_DEPTH * np.sqrt(np.maximum(0.03, 1.0 - x * x - y * y))
    return depth


class Sketch:
    """Collects the outlines of one head, then turns and projects all of them at once."""

    def __init__(self, identity: Identity, nuisance: Nuisance) -> None:
        self.identity = identity
        self.nuisance = nuisance
        self.rotation = rotation(nuisance.yaw_deg, nuisance.pitch_deg, nuisance.roll_deg)
        roll = radians(nuisance.roll_deg)
        self._tilt = np.array([[cos(roll), sin(roll)], [-sin(roll), cos(roll)]])
        self._lines: list[Line] = []
        self._patches: list[Patch] = []
        self._count = 0

    def add(self, rgb: Rgb, *contours: Line | tuple[Line, ...], layer: Layer = Layer.PAINT) -> None:
        """Add one shape of one colour; where contours overlap, an even number of them makes a hole."""
        spans = []
        for contour in contours:
            start = self._count
            for line in contour if isinstance(contour, tuple) else (contour,):
                self._lines.append(line)
                self._count += len(line.xy)
            spans.append((start, self._count))
        self._patches.append(Patch(tuple(spans), rgb, layer))

    def soft(self, gain: Rgb, *contours: Points, lift: float = 0.0) -> None:
        """Add a soft shadow, glow or blush on the skin; `gain` multiplies the colours there."""
        self.add(gain, *(Line(contour, lift) for contour in contours), layer=Layer.SOFT)

    def facing(self, centre: tuple[float, float, float], offsets: Points) -> Line:
        """Return a silhouette that yaw and pitch only move: a ball looks the same from everywhere."""
        x, y, z = (self.rotation @ (centre[0], centre[1] - _CENTRE_Y, centre[2])).tolist()
        return Line(np.add(offsets @ self._tilt, (x, y + _CENTRE_Y)), z, Frame.VIEW)

    def posed(self, landmarks: tuple[Line, ...], outline: Line) -> PosedHead:
        """Turn and project everything; `landmarks` hold the five points, in order."""
        centre = self.facing((0.0, _CENTRE_Y, 0.0), np.zeros((1, 2)))
        points = self._project([*self._lines, *landmarks, outline, centre])
        marks = self._count
        return PosedHead(
            points[:marks],
            tuple(self._patches),
            points[marks : marks + 5],
            points[marks + 5 : -1],
            points[-1],
            self.identity.face_width,
        )

    def _project(self, lines: list[Line]) -> Points:
        counts = [len(line.xy) for line in lines]
        xyz = np.empty((sum(counts), 3))
        np.concatenate([line.xy for line in lines], out=xyz[:, :2])
        xyz[:, 2] = np.repeat([line.z for line in lines], counts)
        frames = np.repeat([line.frame.value for line in lines], counts)
        skin = frames == Frame.SKIN.value
        xyz[:, 2] += np.where(skin, surface_depth(xyz[:, :2], self.identity.face_width), 0.0)
        xyz[:, 1] -= _CENTRE_Y
        xyz = np.where((frames == Frame.VIEW.value)[:, None], xyz, xyz @ self.rotation.T)
        plane = xyz[:, :2] * (CAMERA_DISTANCE / (CAMERA_DISTANCE - xyz[:, 2:]))
        plane[:, 1] += _CENTRE_Y
        return plane


def scaled(rgb: Rgb, gain: float) -> Rgb:
    """Return a lighter or darker colour."""
    return min(255.0, rgb[0] * gain), min(255.0, rgb[1] * gain), min(255.0, rgb[2] * gain)


def mixed(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Return a colour between two: `share` 0 is the first, 1 the second."""
    keep = 1.0 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )
