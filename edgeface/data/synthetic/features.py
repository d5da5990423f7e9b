"""Eyes, brows, nose and mouth; each returns its landmarks as it is drawn."""

from math import radians, sin
from typing import Final

import numpy as np

from edgeface.data.synthetic.curves import closed_curve, ellipse, open_curve, ribbon, taper
from edgeface.data.synthetic.identity import Rgb
from edgeface.data.synthetic.sketch import Line, Sketch, mixed, scaled

LEFT: Final = -1.0
RIGHT: Final = 1.0

_SCLERA: Final[Rgb] = (240.0, 236.0, 230.0)
_PUPIL: Final[Rgb] = (12.0, 10.0, 12.0)
_GLINT: Final[Rgb] = (255.0, 255.0, 255.0)
_LASH: Final[Rgb] = (30.0, 20.0, 18.0)
_MOUTH: Final[Rgb] = (70.0, 18.0, 24.0)
_TEETH: Final[Rgb] = (238.0, 232.0, 222.0)
_NOSTRIL: Final[Rgb] = (44.0, 18.0, 16.0)


def draw_eye(sketch: Sketch, side: float) -> Line:
    """Draw one eye and return its centre, midway between its corners."""
    identity, nuisance = sketch.identity, sketch.nuisance
    x, y = side * identity.eye_spacing, side * identity.asymmetry
    half, height, open_share = identity.eye_half_width, identity.eye_height, nuisance.lids
    rise = identity.eye_slant * half

    def at(along: float, up: float) -> tuple[float, float]:
        """Point at `along` from the inner corner (-1) to the outer one (1), `up` above the line between."""
        return x + side * half * along, y - rise * along - up

    # A closing upper lid comes down below the line between the corners to meet the lower one.
    upper_height = height * (1.15 * open_share - 0.3 * (1.0 - open_share))
    lower_height = height * (0.3 + 0.35 * open_share)
    peak = identity.eye_peak
    upper = open_curve(
        [
            at(-1, 0),
            at(-0.62, 0.72 * upper_height),
            at(peak * 0.6, upper_height),
            at(0.62, 0.75 * upper_height),
            at(1, 0),
        ]
    )
    lower = open_curve([at(-1, 0), at(-0.5, -0.8 * lower_height), at(0.35, -lower_height), at(1, 0)])
    sketch.add(_SCLERA, Line(np.concatenate([upper, lower[::-1]])))

    radius = identity.iris_radius
    iris_x = x + nuisance.gaze_x * 0.35 * half
    iris_y = y + nuisance.gaze_y * 0.35 * height
    sketch.add(scaled(identity.iris_rgb, 0.55), Line(ellipse(iris_x, iris_y, radius, radius)))
    sketch.add(identity.iris_rgb, Line(ellipse(iris_x, iris_y, radius * 0.82, radius * 0.82)))
    sketch.add(_PUPIL, Line(ellipse(iris_x, iris_y, radius * 0.42, radius * 0.42, 10)))
    glint = ellipse(iris_x - 0.03, iris_y - 0.035, radius * 0.24, radius * 0.24, 8)
    sketch.add(_GLINT, Line(glint))

    # The lids are skin that covers what the eye opening does not show of the iris.
    reach = radius + 0.05 + 0.35 * height
    lid = scaled(identity.skin_rgb, identity.lid_shade)
    top = open_curve([at(1, 0), at(0.6, reach), at(-0.6, reach), at(-1, 0)])
    bottom = open_curve([at(1, 0), at(0.6, -reach), at(-0.6, -reach), at(-1, 0)])
    sketch.add(lid, Line(np.concatenate([upper, top])))
    sketch.add(identity.skin_rgb, Line(np.concatenate([lower, bottom])))
    if identity.crease > 0:
        crease = open_curve([at(-0.9, 0.4 * height), at(0, upper_height + identity.crease), at(1.0, 0.45 * height)])
        sketch.add(mixed(identity.skin_rgb, _LASH, 0.42), Line(ribbon(crease, 0.012)))
    lash = identity.lash_width
    wing = open_curve(
        [
            at(-1.03, -0.01),
            at(-0.62, 0.72 * upper_height),
            at(peak * 0.6, upper_height),
            at(0.62, 0.75 * upper_height),
            at(1.1, 0.02),
        ]
    )
    sketch.add(_LASH, Line(ribbon(wing, lash * taper(len(wing))[::-1] + 0.006)))
    sketch.add(mixed(identity.skin_rgb, _LASH, 0.5), Line(ribbon(lower, 0.008)))
    return Line(np.array([[x, y]]))


def draw_brow(sketch: Sketch, side: float) -> None:
    """Draw one eyebrow."""
    identity = sketch.identity
    x, half = side * identity.eye_spacing, identity.eye_half_width * identity.brow_length
    y = -identity.brow_height - side * 1.5 * identity.asymmetry - 0.06 * sketch.nuisance.brow_raise
    slant = identity.brow_slant * half
    # A frown pulls the inner ends down and together.
    frown = 0.05 * max(0.0, -sketch.nuisance.brow_raise)
    line = open_curve(
        [
            (x - side * (half + 0.3 * frown), y + slant + frown),
            (x - side * half * 0.2, y - identity.brow_arch * 0.7),
            (x + side * half * 0.45, y - identity.brow_arch - slant * 0.5),
            (x + side * half * 1.15, y - slant + 0.04),
        ]
    )
    sketch.add(identity.brow_rgb, Line(ribbon(line, identity.brow_thickness * 0.6 * taper(len(line)))))


def draw_nose(sketch: Sketch) -> Line:
    """Draw the nose and return its tip."""
    identity, nuisance = sketch.identity, sketch.nuisance
    skin, y, width, depth = identity.skin_rgb, identity.nose_height, identity.nose_width, identity.nose_depth
    bridge, radius = identity.bridge_width, identity.tip_radius
    sideways = sin(radians(nuisance.light_azimuth_deg)) * nuisance.light_strength
    sketch.soft(
        (0.84, 0.82, 0.82),
        closed_curve([(-width, y + 0.1), (0.0, y + 0.2), (width, y + 0.1), (0.0, y + 0.08)], 2),
    )
    for side in (LEFT, RIGHT):
        # The flank that looks away from the lamp is darker.
        flank = scaled(skin, 0.93 + 0.09 * side * sideways)
        ridge = (Line(np.array([(side * bridge, -0.12)]), 0.02), Line(np.array([(0.0, 0.0)]), 0.08))
        tip = Line(np.array([(0.0, y - 0.02)]), depth)
        wing = Line(
            np.array(
                [
                    (side * width * 0.92, y + 0.06),
                    (side * width * 0.9, y - 0.08),
                    (side * bridge * 1.1, y * 0.4),
                ]
            ),
            0.03,
        )
        sketch.add(flank, (*ridge, tip, wing))
        alar = open_curve([(side * width * 0.84, y - 0.12), (side * width, y + 0.02), (side * width * 0.72, y + 0.1)])
        sketch.add(mixed(skin, _LASH, 0.4), Line(ribbon(alar, 0.016), 0.06))
    base = closed_curve([(-width * 0.75, y + 0.08), (0.0, y + 0.05), (width * 0.75, y + 0.08), (0.0, y + 0.14)])
    sketch.add(scaled(skin, 0.76), Line(base, 0.4 * depth))
    holes = [
        Line(
            ellipse(side * width * 0.48, y + 0.085, 0.05 * identity.nostril, 0.026 * identity.nostril, 10),
            0.45 * depth,
        )
        for side in (LEFT, RIGHT)
    ]
    sketch.add(_NOSTRIL, *holes)
    sketch.add(scaled(skin, 0.99), Line(ellipse(0.0, y + 0.01, radius * 1.5, radius * 1.15), 0.85 * depth))
    sketch.add(mixed(skin, _GLINT, 0.16), Line(ellipse(0.0, y, radius * 0.7, radius * 0.6, 12), depth))
    return Line(np.array([[0.0, y]]), depth)


def draw_mouth(sketch: Sketch, jaw_drop: float) -> Line:
    """Draw the mouth and return its two corners."""
    identity, nuisance = sketch.identity, sketch.nuisance
    y, droop = identity.mouth_height, identity.mouth_droop
    half = identity.mouth_half_width * (1.0 + 0.14 * nuisance.smile - 0.12 * nuisance.mouth_open)
    corner_y = y + droop - 0.07 * nuisance.smile + 0.3 * jaw_drop
    tilt = 1.5 * identity.asymmetry
    gap = 1.25 * jaw_drop
    sag = 0.055 + 0.05 * nuisance.smile
    top = identity.upper_lip * (1.0 - 0.2 * max(0.0, nuisance.smile))
    low = identity.lower_lip
    left, right = (-half, corner_y - tilt), (half, corner_y + tilt)
    bow = top * (1.0 - 0.55 * identity.cupid_bow)
    crest = [
        (-0.5 * half, y - 0.6 * top),
        (-0.2 * half, y - top),
        (0.0, y - bow),
        (0.2 * half, y - top),
        (0.5 * half, y - 0.6 * top),
    ]
    outer_top = open_curve([left, *crest, right])
    inner_top = open_curve(
        [left, (-0.45 * half, y + 0.5 * sag), (0.0, y + 0.4 * sag), (0.45 * half, y + 0.5 * sag), right]
    )
    inner_low = open_curve(
        [
            left,
            (-0.45 * half, y + 0.5 * sag + 0.9 * gap),
            (0.0, y + 0.4 * sag + gap),
            (0.45 * half, y + 0.5 * sag + 0.9 * gap),
            right,
        ]
    )
    outer_low = open_curve(
        [
            left,
            (-0.5 * half, y + 0.75 * low + gap),
            (0.0, y + low + gap),
            (0.5 * half, y + 0.75 * low + gap),
            right,
        ]
    )

    sketch.soft((0.84, 0.82, 0.82), ellipse(0.0, y + low + gap + 0.09, 0.55 * half, 0.045))
    sketch.add(identity.lip_rgb, Line(np.concatenate([inner_low, outer_low[::-1]]), 0.03))
    gloss = ellipse(0.0, y + 0.55 * low + gap, 0.35 * half, 0.18 * low, 12)
    sketch.add(mixed(identity.lip_rgb, _GLINT, 0.18), Line(gloss, 0.04))
    if gap > 0.02:
        inside = np.concatenate([inner_top, inner_low[::-1]])
        sketch.add(_MOUTH, Line(inside, 0.0))
        teeth_low = inner_top + np.minimum(0.45 * (inner_low - inner_top), 0.07)
        sketch.add(_TEETH, Line(np.concatenate([inner_top, teeth_low[::-1]])))
    sketch.add(scaled(identity.lip_rgb, 0.84), Line(np.concatenate([outer_top, inner_top[::-1]]), 0.03))
    if gap <= 0.02:
        sketch.add(mixed(identity.lip_rgb, _MOUTH, 0.7), Line(ribbon(inner_top, 0.014), 0.03))
    return Line(np.array([left, right]), 0.03)
