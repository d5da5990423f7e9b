"""A synthetic camera: people who come, look around and leave, and who they were in each frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.synthetic.anatomy import pose_head
from edgeface.data.synthetic.backdrops import backdrop
from edgeface.data.synthetic.identity import Identity
from edgeface.data.synthetic.nuisance import Nuisance, sample_nuisance
from edgeface.data.synthetic.rendering import FaceLayer, paint
from edgeface.data.synthetic.scenes import visible_share
from edgeface.errors import ConfigError

_WALK_SHARE: Final = 0.3  # of a visit: walking in, and again walking out
_NOISE_MARGIN: Final = 64


@dataclass(frozen=True, slots=True)
class Visit:
    """One person before the camera for a while.

    Attributes:
        identity: who it is.
        name: their name where they are known, None for a stranger.
        start_frame: the first frame of the visit; the person is still outside the picture.
        frames: how long it lasts.
        lane: where the person stands, as a share of the picture's width; two at once need lanes 0.4 apart.
        face_px: width of the face in pixels.
    """

    identity: Identity
    name: str | None
    start_frame: int
    frames: int
    lane: float = 0.5
    face_px: float = 120.0


@dataclass(frozen=True, slots=True)
class StreamFace:
    """One face of a frame.

    Attributes:
        name: the name in its visit, None for a stranger.
        visit: index of its visit.
        landmarks: (5, 2) float32 (x, y) in pixels; may lie outside the picture.
        box: (4,) float32 x, y, width, height in pixels; may reach outside.
        visible: share of the box that is inside the picture, in [0, 1].
        yaw_deg: how far the head is turned.
    """

    name: str | None
    visit: int
    landmarks: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]
    visible: float
    yaw_deg: float


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """Frame number `index`: (H, W, 3) uint8 RGB at `time_s` from the start, and the faces in it."""

    index: int
    time_s: float
    image: npt.NDArray[np.uint8]
    faces: tuple[StreamFace, ...]


class Stream:
    """A video that is painted as it is read; any frame can be asked for and is always the same.

    Args:
        seed: of background, movements and noise.
        visits: who comes when; see `demo_plan`.
        size_wh: width and height of the picture in pixels.
        fps: frames a second; sets how fast heads turn.
        frames: length; by default until a second after the last visit.
        noise: standard deviation of the sensor noise in grey levels.
        strength: how much people turn and grimace; 1 is lively.
    """

    def __init__(
        self,
        seed: int,
        visits: Sequence[Visit],
        size_wh: tuple[int, int] = (640, 480),
        fps: float = 30.0,
        frames: int | None = None,
        noise: float = 2.0,
        strength: float = 1.0,
    ) -> None:
        if min(size_wh) < 16 or not fps > 0 or any(visit.frames < 2 for visit in visits):
            raise ConfigError(
                "a stream needs at least 16 x 16 pixels, fps > 0 and visits of 2 frames or more; "
                f"got {size_wh}, {fps}, {[visit.frames for visit in visits]}"
            )
        self.seed = seed
        self.visits = tuple(visits)
        self.size_wh = size_wh
        self.fps = fps
        last = max((visit.start_frame + visit.frames for visit in self.visits), default=0)
        self._frames = last + round(fps) if frames is None else frames
        self._actors = tuple(_Actor(visit, seed, number, self, strength) for number, visit in enumerate(self.visits))
        rng = np.random.default_rng((seed, 0))
        self._background = backdrop(rng, size_wh, shapes=9)
        # Fresh noise for each frame would cost more than the faces; shifted windows of one tile look alike.
        tile = (size_wh[1] + _NOISE_MARGIN, size_wh[0] + _NOISE_MARGIN, 3)
        self._noise = np.rint(rng.standard_normal(tile, np.float32) * noise).astype(np.int16)

    def __len__(self) -> int:
        return self._frames

    def __iter__(self) -> Iterator[StreamFrame]:
        return (self.frame(index) for index in range(self._frames))

    def frame(self, index: int) -> StreamFrame:
        """Paint frame `index`, from 0 to `len(self) - 1`.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= index < self._frames:
            raise IndexError(f"frame {index} of a stream of {self._frames} frames")
        image = self._background.copy()
        faces = []
        present = [a for a in self._actors if 0 <= index - a.visit.start_frame < a.visit.frames]
        for actor in sorted(present, key=lambda actor: actor.visit.face_px):
            nuisance = actor.nuisance(index)
            layer = actor.layer(index, nuisance)
            layer.cover(image)
            visible = visible_share(layer.box, self.size_wh)
            if visible > 0:
                number = self._actors.index(actor)
                faces.append(
                    StreamFace(actor.visit.name, number, layer.landmarks, layer.box, visible, nuisance.yaw_deg)
                )
        width, height = self.size_wh
        x, y = np.random.default_rng((self.seed, 1, index)).integers(_NOISE_MARGIN, size=2).tolist()
        cv2.add(image, self._noise[y : y + height, x : x + width], dst=image, dtype=cv2.CV_8U)
        return StreamFrame(index, index / self.fps, image, tuple(faces))


class _Actor:
    """One visitor's smooth movements: sums of slow waves, so that any frame can be computed on its own."""

    def __init__(self, visit: Visit, seed: int, number: int, stream: Stream, strength: float) -> None:
        rng = np.random.default_rng((seed, 2, number))
        self.visit = visit
        self._size_wh = stream.size_wh
        self._fps = stream.fps
        self._strength = strength
        self._base = replace(sample_nuisance(rng, min(strength, 1.0)), occluder_radius=0.0)
        self._phase = rng.uniform(0, 2 * np.pi, 16)
        self._tempo = rng.uniform(0.75, 1.3, 16)
        self._from_left = visit.lane < 0.5
        self._height = float(rng.uniform(0.42, 0.5))
        self._blink_s = float(rng.uniform(2.0, 4.0))

    def nuisance(self, index: int) -> Nuisance:
        """Return pose and expression in frame `index`."""
        time = (index - self.visit.start_frame) / self._fps
        lively = self._strength
        # Walking people look where they go; standing ones look about, mostly at the camera.
        away = 1.0 - self._presence(index)
        sideways = (1.0 if self._from_left else -1.0) * (1.0 if index < self._middle() else -1.0)
        since_blink = (time + self._blink_s * self._phase[0] / 6.3) % self._blink_s
        lids = 1.0 - 0.9 * max(0.0, 1.0 - abs(since_blink - 0.2) / 0.16)
        return replace(
            self._base,
            yaw_deg=18.0 * away * sideways
            + lively * (11.0 * self._wave(1, 0.23, time) + 4.0 * self._wave(2, 0.55, time)),
            pitch_deg=lively * 6.0 * self._wave(3, 0.19, time),
            roll_deg=lively * 5.0 * self._wave(4, 0.16, time),
            mouth_open=lively * max(0.0, 0.5 * self._wave(5, 0.4, time) - 0.15),
            smile=lively * 0.45 * self._wave(6, 0.14, time),
            brow_raise=lively * 0.4 * self._wave(7, 0.2, time),
            gaze_x=lively * 0.4 * self._wave(8, 0.3, time),
            gaze_y=lively * 0.25 * self._wave(9, 0.24, time),
            lids=lids,
        )

    def layer(self, index: int, nuisance: Nuisance) -> FaceLayer:
        """Paint the visitor where they are in frame `index`."""
        time = (index - self.visit.start_frame) / self._fps
        width, height = self._size_wh
        head = pose_head(self.visit.identity, nuisance)
        near = 1.0 + 0.05 * self._wave(10, 0.13, time)
        scale = near * self.visit.face_px / (2.0 * self.visit.identity.face_width)
        outside = -2.4 * scale if self._from_left else width + 2.4 * scale
        presence = self._presence(index)
        x = outside + (self.visit.lane * width - outside) * presence + 0.06 * scale * self._wave(11, 0.3, time)
        step = 0.05 * np.sin(2 * np.pi * 1.7 * time) * (1.0 - presence)
        y = self._height * height + scale * (step + 0.05 * self._wave(12, 0.21, time))
        matrix = np.array([[scale, 0.0, x], [0.0, scale, y - 0.3 * scale]])
        return paint(head, nuisance, matrix, self._size_wh)

    def _middle(self) -> float:
        return self.visit.start_frame + self.visit.frames / 2

    def _presence(self, index: int) -> float:
        """Return 0 outside the picture, 1 at the station, smooth between."""
        along = (index - self.visit.start_frame) / (self.visit.frames - 1)
        share = min(1.0, along / _WALK_SHARE, (1.0 - along) / _WALK_SHARE)
        return share * share * (3.0 - 2.0 * share)

    def _wave(self, number: int, frequency: float, time_s: float) -> float:
        turns = frequency * self._tempo[number] * time_s
        return float(np.sin(2 * np.pi * turns + self._phase[number]))


def demo_plan(
    known: Mapping[str, Identity],
    strangers: Sequence[Identity],
    seed: int = 0,
    appearances: int = 12,
    frames: int = 90,
    gap: int = 12,
    size_wh: tuple[int, int] = (640, 480),
) -> tuple[Visit, ...]:
    """Plan visits for a demonstration: known people and strangers by turns, every third time two at once.

    Args:
        known: the enrolled people by name.
        strangers: people nobody enrolled.
        seed: of the order and the sizes.
        appearances: how many visits in all.
        frames: length of a visit.
        gap: empty frames between visits.
        size_wh: width and height of the stream's picture; faces are sized to it.

    Returns:
        The visits, by start frame.

    Raises:
        ConfigError: nobody to show.
    """
    if not known and not strangers:
        raise ConfigError("a demo plan needs at least one known person or one stranger; got none")
    rng = np.random.default_rng((seed, 3))
    names = rng.permutation(sorted(known)).tolist()
    order = rng.permutation(len(strangers)).tolist()
    visits: list[Visit] = []
    start, slot = gap, 0
    while len(visits) < appearances:
        pair = slot % 3 == 2 and appearances - len(visits) >= 2 and len(known) + len(strangers) >= 2
        for lane in (0.26, 0.74) if pair else (float(rng.uniform(0.35, 0.65)),):
            turn = len(visits)
            if names and (turn % 2 == 0 or not order):
                name: str | None = names[turn // (2 if order else 1) % len(names)]
                identity = known[str(name)]
            else:
                name = None
                identity = strangers[order[turn // (2 if names else 1) % len(order)]]
            share = rng.uniform(0.15, 0.195) if pair else rng.uniform(0.16, 0.24)
            face_px = float(share) * min(size_wh[0], size_wh[1] * 4 / 3)
            visits.append(Visit(identity, name, start, frames, lane, face_px))
        start += frames + gap
        slot += 1
    return tuple(visits)
