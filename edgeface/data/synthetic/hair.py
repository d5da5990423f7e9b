"""Hair on the head and in the face."""

from math import cos, radians, sin

import numpy as np

from edgeface.data.synthetic.curves import Points, closed_curve, open_curve, ribbon
from edgeface.data.synthetic.sketch import Line, Sketch, mixed, scaled

_Centre = tuple[float, float, float]


def draw_back_hair(sketch: Sketch, centre: _Centre) -> None:
    """Draw what hangs behind the head, down to `hair_length`."""
    identity = sketch.identity
    if identity.hair_length <= 0:
        return
    top = _crown(sketch, -0.1)
    x = float(np.abs(top[:, 0]).max())
    length = identity.hair_length - centre[1]
    waves = 0.5 * identity.hair_curl
    side = [
        (x, 0.2 * length),
        (x + 0.04 + waves, 0.55 * length),
        (x - 0.02, 0.85 * length),
        (0.75 * x, length),
    ]
    right = open_curve([tuple(top[-1]), *side])
    left = open_curve([*((-a, b) for a, b in reversed(side)), tuple(top[0])])
    outline = np.concatenate([top, right, left])
    sketch.add(scaled(identity.hair_rgb, 0.72), sketch.facing(centre, outline))


def draw_cap(sketch: Sketch, centre: _Centre) -> None:
    """Draw the inside of the hair, so that no background shows between the skull and a loose hairline."""
    identity = sketch.identity
    if identity.hair_cover > 0:
        colour = mixed(identity.skin_rgb, identity.hair_rgb, identity.hair_cover)
        crown = _widened(sketch, _crown(sketch, 0.25), centre)
        sketch.add(scaled(colour, 0.9), sketch.facing(centre, crown))


def draw_front_hair(sketch: Sketch, centre: _Centre) -> None:
    """Draw the hair between the crown of the head and the hairline, with a few strands."""
    identity = sketch.identity
    if identity.hair_cover <= 0:
        return
    crown, hairline = _widened(sketch, _crown(sketch, 0.25), centre), _hairline(sketch)
    colour = mixed(identity.skin_rgb, identity.hair_rgb, identity.hair_cover)
    silhouette = sketch.facing(centre, crown)
    sketch.add(colour, (silhouette, Line(hairline, 0.04)))
    # A few strands along the crown keep the hair from looking like a cap.
    lean = 0.15 * (identity.fringe[4] - identity.fringe[0])
    light: list[Line] = []
    dark: list[Line] = []
    for number, share in enumerate(np.linspace(0.22, 0.78, 9)):
        edge = crown[int(share * (len(crown) - 1))]
        root = edge * (0.86 - 0.015 * (number % 3))
        middle = edge * 0.92 + (lean, 0.0)
        strand = ribbon(open_curve([root, middle, edge * 0.98], 3), 0.01 + 0.005 * (number % 3))
        (light if number % 2 else dark).append(sketch.facing(centre, strand))
    sketch.add(mixed(colour, (255.0, 240.0, 220.0), 0.1), *light)
    sketch.add(scaled(colour, 0.86), *dark)


def draw_beard(sketch: Sketch, jaw_drop: float) -> None:
    """Draw beard, goatee and moustache: one shape each, mixed into the skin by its density."""
    identity = sketch.identity
    skin, hair = identity.skin_rgb, identity.brow_rgb
    mouth, width, chin = identity.mouth_height, identity.face_width, identity.chin_height + jaw_drop
    half = identity.mouth_half_width
    if identity.beard > 0:
        jaw = identity.jaw_width
        outer = [
            (0.99, 0.36),
            (0.55 + 0.45 * jaw, 0.62),
            (jaw, 0.68 * chin),
            (identity.chin_width, chin - 0.03),
        ]
        inner = [(0.93, 0.42), (0.74, 0.78), (0.5, 0.86)]
        right = [(x * width, y) for x, y in outer]
        back = [(x * width, y) for x, y in reversed(inner)]
        contour = closed_curve(
            [
                *right,
                (0.0, chin + 0.02),
                *((-x, y) for x, y in reversed(right)),
                *((-x, y) for x, y in reversed(back)),
                (0.0, mouth - 0.1),
                *back,
            ],
            2,
        )
        sketch.add(mixed(skin, hair, 0.85 * identity.beard), Line(contour, 0.01))
    if identity.goatee > 0:
        contour = closed_curve(
            [
                (-0.75 * half, mouth),
                (0.0, mouth - 0.05),
                (0.75 * half, mouth),
                (0.6 * half, chin - 0.12),
                (0.0, chin + 0.01),
                (-0.6 * half, chin - 0.12),
            ],
            3,
        )
        sketch.add(mixed(skin, hair, 0.9 * identity.goatee), Line(contour, 0.015))
    if identity.moustache > 0:
        low = mouth - 0.3 * identity.upper_lip
        high = max(identity.nose_height + 0.15, low - 0.22)
        contour = closed_curve(
            [
                (-1.12 * half, low + 0.08),
                (-0.6 * half, high + 0.05),
                (0.0, high),
                (0.6 * half, high + 0.05),
                (1.12 * half, low + 0.08),
                (0.5 * half, low),
                (0.0, low - 0.02),
                (-0.5 * half, low),
            ],
            3,
        )
        sketch.add(mixed(skin, hair, 0.9 * identity.moustache), Line(contour, 0.05))


def _crown(sketch: Sketch, dip: float) -> Points:
    """Return the outer edge of the hair over the head, left to right, as offsets from the skull's centre.

    `dip` is how far below the centre its two ends lie.
    """
    identity = sketch.identity
    reach = float(np.arcsin(dip))
    angle = np.linspace(np.pi + reach, -reach, 40)
    radius_x = 1.02 * identity.face_width + identity.hair_side
    radius_y = 1.0 + identity.hair_top
    bumps = 1.0 + identity.hair_curl * np.abs(np.sin(identity.hair_bumps * angle))
    return np.stack([np.cos(angle) * radius_x * bumps, -np.sin(angle) * radius_y * bumps], axis=1)


def _widened(sketch: Sketch, crown: Points, centre: _Centre) -> Points:
    """Return the crown, widened on the far side of a turned head so that it stays outside of the temple."""
    yaw, width = radians(sketch.nuisance.yaw_deg), sketch.identity.face_width
    reach = float(np.abs(crown[:, 0]).max())
    for side in (-1.0, 1.0):
        # The temple is about half a unit before the head's centre, the round of the hair behind it.
        temple = cos(yaw) * side * 1.02 * width + sin(yaw) * (0.5 - centre[2])
        grow = max(1.0, (side * temple + 0.04) / reach)
        half = crown[:, 0] * side > 0
        crown[half, 0] *= grow
    return crown


def _hairline(sketch: Sketch) -> Points:
    """Return the hairline from the right ear over the forehead to the left ear, on the skin."""
    identity = sketch.identity
    width, base = identity.face_width, -identity.forehead_height
    fringe = identity.fringe
    ear = (1.03 * width, 0.0 + identity.sideburn)
    temple_x, corner_x = 0.93 * width, 0.64 * width
    line = open_curve(
        [
            ear,
            (0.97 * width, identity.sideburn - 0.02),
            (temple_x, -0.3 + 0.4 * max(0.0, fringe[4])),
            (corner_x, base + 0.1 + fringe[4]),
            (0.33 * width, base + fringe[3]),
            (0.0, base + fringe[2]),
            (-0.33 * width, base + fringe[1]),
            (-corner_x, base + 0.1 + fringe[0]),
            (-temple_x, -0.3 + 0.4 * max(0.0, fringe[0])),
            (-0.97 * width, identity.sideburn - 0.02),
            (-ear[0], ear[1]),
        ]
    )
    # A hairline above the crown would turn the hair inside out.
    crown = -0.15 - 0.8 * np.sqrt(np.maximum(0.0, 1.0 - (line[:, 0] / (1.03 * width)) ** 2))
    line[:, 1] = np.maximum(line[:, 1], crown)
    return line
