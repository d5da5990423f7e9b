"""Do two forms of a network say the same of pictures, one by one and at once?"""

from typing import Final

import numpy as np

from edgeface.export.importing.inputs import Image
from edgeface.export.importing.running import Values
from edgeface.runtime.providers.session import Session

_NEAR: Final = 1e-3
"""By how much of what tells faces apart two forms of one network may differ."""
_NEAR_INT8: Final = 0.05
"""The same in int8, where a sum that is a hair larger can be a whole step more."""


def filled(image: Image, picture: Values) -> Values:
    """Return a picture as often as the network takes it in a run."""
    return np.repeat(picture[None], image.batch or 1, axis=0)


def one_by_one(session: Session, image: Image, pictures: Values) -> Values:
    """Run a network that gives (batch, dimension) on each picture alone."""
    return np.concatenate([session.run({image.name: filled(image, picture)})[0][:1] for picture in pictures])


def at_once(session: Session, image: Image, pictures: Values) -> Values:
    """Run a network on all pictures in one batch."""
    return session.run({image.name: pictures})[0]


def near(made: Values, expected: Values, *, int8: bool) -> bool:
    """Whether embeddings differ by little of what tells faces apart."""
    if made.shape != expected.shape:
        return False
    spread = float(np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2)))
    rounding = 1e-5 * float(np.abs(expected).max())
    return bool(np.abs(made - expected).max() <= (_NEAR_INT8 if int8 else _NEAR) * spread + rounding)
