"""The whole head, back to front: body, hair behind, ears, skull, features, hair in front, glasses."""

from math import cos, radians, sin
from typing import Final

import numpy as np

from edgeface.data.synthetic.curves import Points, closed_curve, ellipse, open_curve, ribbon, unit_circle
from edgeface.data.synthetic.features import LEFT, RIGHT, draw_brow, draw_eye, draw_mouth, draw_nose
from edgeface.data.synthetic.hair import draw_back_hair, draw_beard, draw_cap, draw_front_hair
from edgeface.data.synthetic.identity import Identity, Rgb
from edgeface.data.synthetic.nuisance import Nuisance
from edgeface.data.synthetic.sketch import Frame, Layer, Line, PosedHead, Sketch, mixed, scaled

SKULL_CENTRE: Final = (0.0, -0.15, -0.3)
"""Centre of the round part of the head, in face units."""


def pose_head(identity: Identity, nuisance: Nuisance) -> PosedHead:
    """Build one head: every outline, the five landmarks and the edge of the face."""
    sketch = Sketch(identity, nuisance)
    jaw_drop = 0.16 * nuisance.mouth_open
    outline = Line(face_contour(identity, jaw_drop))
    _draw_body(sketch)
    draw_back_hair(sketch, SKULL_CENTRE)
    _draw_neck(sketch)
    draw_cap(sketch, SKULL_CENTRE)
    _draw_ears(sketch)
    _draw_skull(sketch, outline)
    _draw_skin(sketch)
    draw_beard(sketch, jaw_drop)
    _draw_moles(sketch)
    left_eye, right_eye = draw_eye(sketch, LEFT), draw_eye(sketch, RIGHT)
    tip = draw_nose(sketch)
    corners = draw_mouth(sketch, jaw_drop)
    draw_brow(sketch, LEFT)
    draw_brow(sketch, RIGHT)
    draw_front_hair(sketch, SKULL_CENTRE)
    if identity.glasses:
        _draw_glasses(sketch)
    if nuisance.occluder_radius > 0:
        _draw_occluder(sketch)
    return sketch.posed((left_eye, right_eye, tip, corners), outline)


def face_contour(identity: Identity, jaw_drop: float) -> Points:
    """Return the edge of the face, hairline to chin, as a closed curve (K, 2) clockwise from the hairline."""
    width, chin = identity.face_width, identity.chin_height + jaw_drop
    top = -identity.forehead_height
    half = [
        (identity.forehead_width * width * 0.62, top + 0.07),
        (identity.forehead_width * width, -0.42),
        (width * 0.99, 0.12),
        (width * (0.55 + 0.45 * identity.jaw_width), 0.62),
        (width * identity.jaw_width, 0.68 * chin),
        (width * identity.chin_width, chin - 0.05),
    ]
    mirrored = [(-x, y) for x, y in reversed(half)]
    return closed_curve([(0.0, top), *half, (0.0, chin), *mirrored])


def _draw_body(sketch: Sketch) -> None:
    clothes = sketch.nuisance.clothes_rgb
    half = [(0.55, 1.62), (1.15, 1.98), (1.75, 2.25), (2.05, 3.0), (2.1, 6.0)]
    shoulders = np.array([*half, *((-x, y) for x, y in reversed(half))])
    sketch.add(clothes, Line(shoulders, -0.6, Frame.VIEW))
    collar = open_curve([(-0.62, 1.6), (-0.3, 1.98), (0.0, 2.1), (0.3, 1.98), (0.62, 1.6)])
    sketch.add(scaled(clothes, 0.75), Line(ribbon(collar, 0.07), -0.5, Frame.VIEW))


def _draw_neck(sketch: Sketch) -> None:
    skin, width = sketch.identity.skin_rgb, sketch.identity.face_width
    half = 0.56 * width
    throat = np.array([(half, 1.7), (0.28, 1.98), (0.0, 2.08), (-0.28, 1.98), (-half, 1.7)])
    jaw = sketch.facing((0.0, 0.5, -0.35), np.array([(-half, 0.0), (half, 0.0)]))
    sketch.add(scaled(skin, 0.78), (jaw, Line(throat, -0.35, Frame.VIEW)))


def _draw_ears(sketch: Sketch) -> None:
    identity = sketch.identity
    skin, size = identity.skin_rgb, identity.ear_size
    for side in (LEFT, RIGHT):
        x = side * identity.face_width * 1.0
        outer = ellipse(x, 0.2, 0.15 * size, 0.25 * size, 12)
        inner = ellipse(x + side * 0.03, 0.19, 0.075 * size, 0.15 * size, 10)
        sketch.add(scaled(skin, 0.93), Line(outer, -0.12, Frame.HEAD))
        sketch.add(scaled(skin, 0.74), Line(inner, -0.1, Frame.HEAD))


def _draw_skull(sketch: Sketch, outline: Line) -> None:
    identity = sketch.identity
    dome = unit_circle(24)[12:] * (0.99 * identity.face_width, 0.98)
    width, chin = identity.face_width, identity.chin_height
    # The side of the head between the cheek and the ear comes into view when the head turns.
    flank = np.array([(0.98, 0.1), (0.93 * identity.jaw_width + 0.04, 0.55 * chin)]) * (width, 1.0)
    behind = Line(np.concatenate([flank, flank * (-1.0, 1.0)]), -0.15, Frame.HEAD)
    # So do the muzzle and the cheekbone of the far side, which stand out beyond the edge of the face.
    muzzle = Line(ellipse(0.0, identity.mouth_height, identity.mouth_half_width + 0.12, 0.24, 12), 0.02)
    cheekbones = Line(ellipse(0.0, 0.15, identity.eye_spacing + identity.eye_half_width + 0.04, 0.3, 12))
    parts = outline, sketch.facing(SKULL_CENTRE, dome), behind, muzzle, cheekbones
    sketch.add(identity.skin_rgb, parts, layer=Layer.HULL)


def _draw_skin(sketch: Sketch) -> None:
    """Soft relief of the face, blush, folds, freckles."""
    identity, nuisance = sketch.identity, sketch.nuisance
    width, eye, nose = identity.face_width, identity.eye_spacing, identity.nose_height
    shadow = 0.9 - 0.1 * nuisance.light_strength
    lit: Rgb = (1.1, 1.1, 1.09)
    dim: Rgb = (shadow + 0.02, shadow, shadow - 0.01)
    sketch.soft(lit, ellipse(0.0, -0.52, 0.5 * width, 0.16))
    sketch.soft(lit, *(ellipse(side * 0.56 * width, 0.42, 0.17, 0.12) for side in (LEFT, RIGHT)))
    sketch.soft(lit, ellipse(0.0, identity.chin_height - 0.2, 0.18, 0.09))
    sockets = [ellipse(side * (eye - 0.04), -0.07, 0.26, 0.16) for side in (LEFT, RIGHT)]
    sketch.soft(dim, *sockets)
    hollow = 1.0 - identity.cheek
    for side in (LEFT, RIGHT):
        side_y = 0.78
        cheek = [(0.93, 0.35), (0.6, 0.62), (0.56, 0.9), (0.72, 1.1), (0.93, 0.8)]
        sketch.soft((hollow, hollow, hollow), closed_curve([(side * x * width, y) for x, y in cheek], 2))
        red = identity.blush
        sketch.soft(
            (1.0 + 0.2 * red, 1.0 - 0.7 * red, 1.0 - 0.6 * red),
            ellipse(side * 0.6 * width, side_y - 0.26, 0.22, 0.15),
        )
        if identity.fold > 0:
            smile = 0.04 * nuisance.smile
            fold = open_curve(
                [
                    (side * (identity.nose_width + 0.04), nose),
                    (side * (identity.nose_width + 0.17 + smile), nose + 0.2),
                    (side * (identity.mouth_half_width + 0.1 + smile), identity.mouth_height),
                ]
            )
            sketch.add(mixed(identity.skin_rgb, (60, 30, 20), identity.fold), Line(ribbon(fold, 0.012)))
    bag = 1.0 - identity.eye_bag * 0.5
    sketch.soft((bag, bag, bag + 0.02), *(ellipse(side * eye, 0.2, 0.2, 0.05) for side in (LEFT, RIGHT)))
    if identity.freckles:
        spots = [Line(ellipse(x, y, radius, radius, 6)) for x, y, radius in identity.freckles]
        sketch.add(mixed(identity.skin_rgb, (110, 50, 20), 0.4), *spots)


def _draw_moles(sketch: Sketch) -> None:
    if sketch.identity.moles:
        spots = [Line(ellipse(x, y, radius, radius, 8)) for x, y, radius in sketch.identity.moles]
        sketch.add(mixed(sketch.identity.skin_rgb, (40, 20, 16), 0.75), *spots)


def _draw_glasses(sketch: Sketch) -> None:
    identity = sketch.identity
    thickness = identity.glasses_thickness
    power = 2.0 / identity.glasses_roundness
    circle = unit_circle(28)
    rounded = np.sign(circle) * np.abs(circle) ** power  # superellipse: between an oval and a rectangle
    size = np.array([identity.glasses_half_width, identity.glasses_half_height])
    depth = 0.9
    contours: list[Line] = []
    for side in (LEFT, RIGHT):
        centre = np.array([side * (identity.eye_spacing + 0.02), 0.05])
        outer = rounded * (size + thickness / 2) + centre
        inner = rounded * (size - thickness / 2) + centre
        contours += [Line(outer, depth, Frame.HEAD), Line(inner, depth, Frame.HEAD)]
    gap = identity.eye_spacing + 0.02 - size[0]
    bridge = open_curve([(-gap, 0.0), (0.0, -0.05), (gap, 0.0)])
    for side in (LEFT, RIGHT):
        hinge = side * (identity.eye_spacing + 0.02 + size[0])
        low, high = -thickness / 2, thickness / 2
        front = Line(np.array([(hinge, low), (hinge, high)]), depth, Frame.HEAD)
        ear = side * identity.face_width * 1.02
        back = Line(np.array([(ear, 0.06 + high), (ear, 0.06 + low)]), 0.0, Frame.HEAD)
        sketch.add(scaled(identity.glasses_rgb, 0.85), (front, back))
    sketch.add(identity.glasses_rgb, Line(ribbon(bridge, thickness / 2), depth + 0.03, Frame.HEAD))
    sketch.add(identity.glasses_rgb, *contours)


def _draw_occluder(sketch: Sketch) -> None:
    """Something held before the face: a rounded shape that reaches in from the edge."""
    nuisance = sketch.nuisance
    angle, radius = radians(nuisance.occluder_angle_deg), nuisance.occluder_radius
    x, y = 1.15 * cos(angle), 0.3 + 1.3 * sin(angle)
    shape = ellipse(x, y, radius * 1.2, radius, 20)
    sketch.add(nuisance.occluder_rgb, Line(shape, 1.4, Frame.VIEW))
    sketch.add(
        scaled(nuisance.occluder_rgb, 0.8),
        Line(ellipse(x, y, radius * 0.9, radius * 0.7, 16), 1.4, Frame.VIEW),
    )
