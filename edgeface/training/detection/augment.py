"""Training pictures for a detector: mosaics of moved pictures, then occlusion, light, colour, blur and noise."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.detection import Labelled
from edgeface.training.detection.geometry import move, placement, squeeze

Generator = np.random.Generator
Image = npt.NDArray[np.uint8]

MOSAIC_SHARES: Final = (0.4, 0.32, 0.18, 0.1)
"""How often a training picture is made of 1, 2 x 2, 3 x 3 or 4 x 4 pictures: more means more and smaller faces."""

SMALLEST_FACE: Final = 9.0
"""Faces are drawn from this side in pixels, equally often in each octave, ..."""

LARGEST_FACE: Final = 1.3
"""... up to this share of the tile's side, ..."""

ZOOM: Final = (0.04, 4.0)
"""... as far as this range of zoom allows."""

BACKGROUND_ZOOM: Final = (0.3, 4.0)
"""Zoom of tiles that are cut without regard to where the faces are, equally often in each octave."""

MAX_TURN_RAD: Final = math.radians(45)
BACKGROUND_SHARE: Final = 0.3
"""How often a tile is cut without regard to where the faces are: clothes, hands, ears and letters are no faces."""

SQUEEZED_SHARE: Final = 0.3
SQUEEZE: Final = (0.65, 1.1)
"""So many tiles are drawn narrower or wider by this factor, as faces become that turn away."""

SOFT_SHARE: Final = 0.12
SOFT: Final = (1.3, 2.6)
"""So many pictures are shrunk by this factor and enlarged again: small faces in a video are no shrunk portraits."""

OCCLUDED_SHARE: Final = 0.12
"""How often a face is covered in part."""


def training_picture(rng: Generator, draw: Callable[[Generator], Labelled], side: int) -> Labelled:
    """Compose one training picture.

    Args:
        rng: decides everything, so the same state gives the same picture.
        draw: gives a random labelled picture.
        side: of the result, in pixels.
    """
    tiles = 1 + int(rng.choice(len(MOSAIC_SHARES), p=MOSAIC_SHARES))
    edges = np.linspace(0, side, tiles + 1)
    edges[1:-1] += rng.uniform(-0.25, 0.25, tiles - 1) * side / tiles
    cuts = edges.round().astype(int)
    canvas = np.zeros((side, side, 3), np.uint8)
    parts = []
    for top, bottom in pairwise(cuts.tolist()):
        for left, right in pairwise(cuts.tolist()):
            tile = background(rng, draw(rng), (right - left, bottom - top))
            part = random_tile(rng, draw(rng), tile)
            canvas[top:bottom, left:right] = part.image
            corner = np.array([left, top], np.float32)
            boxes = part.boxes + np.append(corner, [0, 0]).astype(np.float32)
            parts.append((boxes, part.landmarks + corner, part.scores))
    boxes = np.concatenate([part[0] for part in parts])
    landmarks = np.concatenate([part[1] for part in parts])
    scores = np.concatenate([part[2] for part in parts])
    image = occlude(rng, canvas, boxes[scores > 0])
    return Labelled(photograph(rng, image), boxes, landmarks, scores)


def background(rng: Generator, labelled: Labelled, size_wh: tuple[int, int]) -> Image:
    """Return a part of a picture that shows no face, stretched to `size_wh`, or one colour if none is found."""
    height, width = labelled.image.shape[:2]
    left_top, right_bottom = labelled.boxes[:, :2], labelled.boxes[:, :2] + labelled.boxes[:, 2:]
    for _ in range(4):
        share = rng.uniform(0.2, 0.5)
        across, down = max(1, int(share * width)), max(1, int(share * height))
        left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
        meets = (left_top < [left + across, top + down]) & (right_bottom > [left, top])
        if not meets.all(axis=1).any():
            part = labelled.image[top : top + down, left : left + across]
            return np.asarray(cv2.resize(part, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.full((size_wh[1], size_wh[0], 3), rng.integers(0, 256, 3), np.uint8)


def random_tile(rng: Generator, labelled: Labelled, canvas: Image) -> Labelled:
    """Draw a picture onto a tile so that one of its faces gets a random size, angle and place."""
    height, width = canvas.shape[:2]
    rows, columns = labelled.image.shape[:2]
    if len(labelled) and rng.random() > BACKGROUND_SHARE:
        x, y, w, h = labelled.boxes[rng.integers(len(labelled))].tolist()
        wanted = math.exp(rng.uniform(math.log(SMALLEST_FACE), math.log(LARGEST_FACE * min(width, height))))
        scale = float(np.clip(wanted / max(w, h), *ZOOM))
        half = min(scale * max(w, h) / 2, width / 2, height / 2) * rng.uniform(0.3, 1.0)  # below 1 some are cut
        centre, target = (x + w / 2, y + h / 2), (rng.uniform(half, width - half), rng.uniform(half, height - half))
    else:
        scale = math.exp(rng.uniform(math.log(BACKGROUND_ZOOM[0]), math.log(BACKGROUND_ZOOM[1])))
        centre, target = (rng.uniform(0, columns), rng.uniform(0, rows)), (width / 2, height / 2)
    angle_rad = rng.uniform(-MAX_TURN_RAD, MAX_TURN_RAD) if rng.random() < 0.4 else rng.normal(0, math.radians(6))
    matrix = placement(centre, target, scale, angle_rad, bool(rng.random() < 0.5))
    if rng.random() < SQUEEZED_SHARE:
        matrix = squeeze(matrix, centre, rng.uniform(*SQUEEZE))
    return move(labelled, matrix, canvas)


def occlude(rng: Generator, image: Image, boxes: npt.NDArray[np.float32]) -> Image:
    """Cover a part of some faces, as a hand, a mask, hair or a hat does; (H, W, 3) uint8, in place."""
    for x, y, w, h in boxes[rng.random(len(boxes)) < OCCLUDED_SHARE].tolist():
        across, down = w * rng.uniform(0.3, 1.0), h * rng.uniform(0.15, 0.4)
        left, top = x + rng.uniform(0, 1) * (w - across), y + rng.uniform(0, 1) * (h - down)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        middle = (int(left + across / 2), int(top + down / 2))
        if rng.random() < 0.5:
            axes = max(1, int(across / 2)), max(1, int(down / 2))
            cv2.ellipse(image, middle, axes, rng.uniform(-30, 30), 0, 360, colour, cv2.FILLED)
        else:
            corner = int(left + across), int(top + down)
            cv2.rectangle(image, (int(left), int(top)), corner, colour, cv2.FILLED)
    return image


def photograph(rng: Generator, image: Image) -> Image:
    """Change light and colour, then take the picture with a worse camera; (H, W, 3) uint8 RGB."""
    image = _light(rng, image)
    if rng.random() < 0.25:
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        share = 1.0 if rng.random() < 0.4 else rng.uniform(0.2, 0.8)
        image = cv2.addWeighted(gray, share, image, 1 - share, 0)
    chance = rng.random()
    if chance < 0.1:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    elif chance < 0.2:
        image = _motion(rng, image)
    if rng.random() < SOFT_SHARE:
        image = _soften(image, rng.uniform(*SOFT))
    if rng.random() < 0.15:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 14))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        # Red and blue are mistaken for each other on the way in and out alike.
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return image


def _light(rng: Generator, image: Image) -> Image:
    """Gamma, gain and offset for each channel; one picture in ten is taken in the dark."""
    levels = np.linspace(0, 1, 256)[:, None] ** math.exp(rng.normal(0, 0.3))
    gain = math.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.06, 3))
    if rng.random() < 0.1:
        gain = gain * rng.uniform(0.15, 0.5)
    table = np.clip((levels * gain + rng.normal(0, 0.06)) * 255, 0, 255).astype(np.uint8)  # (256, 3)
    lit: Image = cv2.LUT(image, table[:, None, :].reshape(256, 1, 3))
    return lit


def _soften(image: Image, factor: float) -> Image:
    """Take away the detail that a picture `factor` times smaller lacks."""
    height, width = image.shape[:2]
    small_wh = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _motion(rng: Generator, image: Image) -> Image:
    """Blur along a short line, as a moving hand or head does."""
    length, angle_rad = int(rng.integers(3, 8)), rng.uniform(0, math.pi)
    kernel = np.zeros((length, length), np.float32)
    steps = np.linspace(-1, 1, 4 * length) * (length - 1) / 2
    columns = (steps * math.cos(angle_rad) + (length - 1) / 2).round().astype(int)
    rows = (steps * math.sin(angle_rad) + (length - 1) / 2).round().astype(int)
    kernel[rows, columns] = 1
    blurred: Image = cv2.filter2D(image, -1, kernel / kernel.sum())
    return blurred
