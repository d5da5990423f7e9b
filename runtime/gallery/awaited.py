"""The gallery at a path as it is at any moment: also before somebody makes it, and after another took its place.

A service may start before the first person is enrolled. It makes no gallery itself: who enrols does, with the rights
and the key that fit, and until then nobody is known.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from edgeface.errors import GalleryError, NoGalleryError
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.scoring import COSINE, Scoring

_RETRY_S: Final = 0.5  # between two looks into a file that is there and is no gallery yet

_Identity = tuple[int, int]


class AwaitedGallery:
    """A gallery that need not be there; use it in one thread. Also a context manager that closes it.

    Args:
        path: where the gallery is, or will be.
        space_id: embedding space of the bundle in use.
        dimension: length of an embedding.
        key: of an encrypted gallery; None for one that is not.
        clock: seconds that never go back.

    Raises:
        GalleryError: it is there, and cannot be opened; see `GalleryReader`. All methods raise that too.
    """

    def __init__(
        self,
        path: Path,
        space_id: str,
        dimension: int,
        *,
        key: GalleryKey | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._space_id, self._dimension, self._key = space_id, dimension, key
        self._clock = clock
        self._gallery: Gallery | None = None
        self._identity: _Identity | None = None
        self._is_news = True  # what is there now was never told
        self._retry_s = clock()
        self._look()

    def templates(self, scoring: Scoring = COSINE) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return the names, one a template, and the side of the templates; see `GalleryReader.templates`."""
        self._look()
        self._is_news = False
        if self._gallery is None:
            return (), np.zeros((0, self._dimension + scoring.extra), np.float32)
        return self._gallery.templates(scoring)

    def precisions(self, name: str | None = None) -> dict[str | None, int]:
        """Return how many templates were made with each precision; see `GalleryReader.precisions`."""
        return {} if self._gallery is None else self._gallery.precisions(name)

    def changed(self) -> bool:
        """Tell whether there was a change since `templates` was last called, or it never was."""
        self._look()
        return self._is_news or (self._gallery is not None and self._gallery.changed())

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._gallery is not None:
            self._gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        """Open the gallery that is there now, unless it is open."""
        identity = self._identify()
        if identity == self._identity:
            return
        if self._gallery is not None:
            self._gallery.close()
            self._gallery, self._identity, self._is_news = None, None, True
        if identity is None or self._clock() < self._retry_s:
            return
        try:
            self._gallery = Gallery(self.path, self._space_id, self._dimension, key=self._key)
        except NoGalleryError:  # somebody is just making it
            self._retry_s = self._clock() + _RETRY_S
        else:
            self._identity, self._is_news = identity, True

    def _identify(self) -> _Identity | None:
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise GalleryError(f"gallery {self.path} cannot be looked at: {error.strerror}") from error
        return status.st_dev, status.st_ino
