"""Smooth curves through a few points, and ribbons along them."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(K, 2) float64 points (x, y), or (K, 3) with depth."""


def closed_curve(control: npt.ArrayLike, per_span: int = 4) -> Points:
    """Return (K * per_span, 2) points of the smooth closed curve through K control points (K, 2)."""
    points = np.asarray(control, np.float64)
    smooth: Points = _catmull_rom(len(points), per_span, True) @ points
    return smooth


def open_curve(control: npt.ArrayLike, per_span: int = 4) -> Points:
    """Return ((K - 1) * per_span + 1, 2) points of the smooth open curve through K control points."""
    points = np.asarray(control, np.float64)
    smooth: Points = _catmull_rom(len(points), per_span, False) @ points
    return smooth


def ellipse(x: float, y: float, radius_x: float, radius_y: float, count: int = 16) -> Points:
    """Return (count, 2) points on an ellipse whose axes lie along x and y."""
    return unit_circle(count) * (radius_x, radius_y) + (x, y)


def ribbon(line: Points, half_width: float | npt.NDArray[np.float64]) -> Points:
    """Return the outline, (2 K, 2), of a stroke along `line` (K, 2) with half its width at each point."""
    along = np.empty_like(line)
    along[1:-1] = line[2:] - line[:-2]
    along[0], along[-1] = line[1] - line[0], line[-1] - line[-2]
    width = half_width / (np.hypot(along[:, 0], along[:, 1]) + 1e-9)
    across = along[:, ::-1] * width[:, None]
    across[:, 0] *= -1.0
    return np.concatenate([line + across, (line - across)[::-1]])


@lru_cache(maxsize=32)
def unit_circle(count: int) -> Points:
    """Return (count, 2) points on the circle of radius 1, clockwise on the screen from the right."""
    angle = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@lru_cache(maxsize=64)
def taper(count: int) -> npt.NDArray[np.float64]:
    """Return (count,) widths of a stroke that starts full, swells and ends in a point."""
    along = np.linspace(0.0, 1.0, count)
    return np.minimum(1.0, 0.75 + along) * np.sqrt(np.maximum(0.0, 1.0 - along**3)) + 0.02


@lru_cache(maxsize=64)
def _catmull_rom(controls: int, per_span: int, closed: bool) -> npt.NDArray[np.float64]:
    """Return the matrix that takes control points to points on their Catmull-Rom spline."""
    spans = controls if closed else controls - 1
    rows = spans * per_span + (0 if closed else 1)
    matrix = np.zeros((rows, controls))
    for row in range(rows):
        span, step = divmod(row, per_span)
        if span == spans:  # the very end of an open curve
            span, step = spans - 1, per_span
        t = step / per_span
        weights = (
            0.5 * (-t + 2 * t**2 - t**3),
            0.5 * (2 - 5 * t**2 + 3 * t**3),
            0.5 * (t + 4 * t**2 - 3 * t**3),
            0.5 * (-(t**2) + t**3),
        )
        for offset, weight in enumerate(weights):
            index = span + offset - 1
            # An open curve leaves its ends along the chord: the missing neighbour mirrors the next point.
            if closed:
                matrix[row, index % controls] += weight
            elif index < 0:
                matrix[row, 0] += 2 * weight
                matrix[row, 1] -= weight
            elif index >= controls:
                matrix[row, -1] += 2 * weight
                matrix[row, -2] -= weight
            else:
                matrix[row, index] += weight
    return matrix
