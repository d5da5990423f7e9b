"""What changes from picture to picture of one synthetic person: pose, expression, light, camera."""

from dataclasses import dataclass

import numpy as np

from edgeface.data.synthetic.identity import Rgb


@dataclass(frozen=True, slots=True)
class Nuisance:
    """One picture's circumstances; the defaults are a frontal, neutral, evenly lit and noise-free face.

    Pose and light are seen by the viewer: positive yaw turns the nose to the right of the picture, positive
    pitch raises it, positive roll turns clockwise; azimuth is to the right, elevation is up.
    """

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    mouth_open: float = 0.0
    """0 closed, 1 wide open."""
    smile: float = 0.0
    """-1 sad, 1 broad smile."""
    lids: float = 1.0
    """0 eyes closed, 1 open."""
    gaze_x: float = 0.0
    """-1 left edge of the eye, 1 right edge."""
    gaze_y: float = 0.0
    """-1 up, 1 down."""
    brow_raise: float = 0.0
    """-1 frown, 1 raised."""
    light_azimuth_deg: float = 0.0
    light_elevation_deg: float = 0.0
    light_strength: float = 0.0
    """0 even light from everywhere, 1 one lamp only."""
    clothes_rgb: Rgb = (90.0, 100.0, 120.0)
    occluder_radius: float = 0.0
    """In face units; 0 means nothing hides the face."""
    occluder_angle_deg: float = 90.0
    occluder_rgb: Rgb = (120.0, 120.0, 120.0)
    exposure: float = 1.0
    """Gain of the camera."""
    tint: Rgb = (1.0, 1.0, 1.0)
    """Gain of each colour: the colour of the light and a wrong white balance."""
    gamma: float = 1.0
    coarseness: float = 1.0
    """Size of a camera pixel in pixels of the crop; 1 or more."""
    blur_px: float = 0.0
    """Standard deviation of the blur, in pixels of the crop."""
    noise: float = 0.0
    """Standard deviation of the sensor noise, in grey levels of [0, 255]."""
    jpeg_quality: int = 0
    """0 means no JPEG compression."""
    seed: int = 0
    """Seed of the background and of the noise."""


def sample_nuisance(rng: np.random.Generator, strength: float = 1.0) -> Nuisance:
    """Draw one picture's circumstances.

    Args:
        rng: where the randomness comes from.
        strength: 0 always gives a neutral, clean face (only background and clothes differ), 1 about what
            a camera at a door sees, 2 is hard.
    """

    def normal(deviation: float, limit: float) -> float:
        return float(np.clip(rng.normal(0.0, deviation * strength), -limit, limit))

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability * min(1.0, strength))

    def up_to(high: float) -> float:
        return float(rng.uniform(0.0, high * strength))

    tint = np.clip(1.0 + rng.normal(0.0, 0.06 * strength, 3), 0.7, 1.3).tolist()
    clothes = np.clip(rng.uniform(20, 235) + rng.normal(0, 35, 3), 0, 255).tolist()
    occluder = np.clip(rng.uniform(20, 235) + rng.normal(0, 35, 3), 0, 255).tolist()
    blink = chance(0.06)
    return Nuisance(
        yaw_deg=normal(14.0, 45.0),
        pitch_deg=normal(8.0, 28.0),
        roll_deg=normal(7.0, 35.0),
        mouth_open=min(1.0, up_to(0.9)) if chance(0.35) else 0.0,
        smile=normal(0.4, 1.0),
        lids=up_to(0.25) if blink else 1.0 - min(0.45, up_to(0.35)),
        gaze_x=normal(0.35, 1.0),
        gaze_y=normal(0.25, 1.0),
        brow_raise=normal(0.4, 1.0),
        light_azimuth_deg=normal(35.0, 80.0),
        light_elevation_deg=normal(22.0, 50.0) + 15.0 * min(1.0, strength),
        light_strength=min(0.85, up_to(0.75)),
        clothes_rgb=(clothes[0], clothes[1], clothes[2]),
        occluder_radius=float(rng.uniform(0.25, 0.55)) if chance(0.08) else 0.0,
        occluder_angle_deg=float(rng.uniform(-20.0, 200.0)),
        occluder_rgb=(occluder[0], occluder[1], occluder[2]),
        exposure=float(np.exp(normal(0.16, 0.6))),
        tint=(tint[0], tint[1], tint[2]),
        gamma=float(np.exp(normal(0.12, 0.5))),
        coarseness=1.0 + up_to(1.6) if chance(0.4) else 1.0,
        blur_px=up_to(1.1) if chance(0.4) else 0.0,
        noise=up_to(9.0),
        jpeg_quality=int(rng.integers(40, 96)) if chance(0.4) else 0,
        seed=int(rng.integers(2**31)),
    )
