"""Pictures over HTTP: an MJPEG stream, or an address that gives one picture an answer and is asked again and again."""

import http.client
import time
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.errors import ImageError, SourceError
from edgeface.images import decode_image
from edgeface.runtime.cameras.address import Address
from edgeface.runtime.cameras.faults import WEB_PAGE, stream_error
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.cameras.http_client import HttpClient
from edgeface.runtime.cameras.jpeg_stream import MAX_PICTURE, JpegSplitter, NoPictureError

POLLS_PER_S: Final = 5.0
"""How often a camera that gives single pictures is asked, where nobody says how often."""
MAX_POLLS_PER_S: Final = 30.0

_JPEG: Final = b"\xff\xd8\xff"
_TRIES: Final = 10  # damaged pictures before the first good one
_TEXTS: Final = ("text/", "application/json", "application/xml")
_PLAYLISTS: Final = (b"#EXTM3U", b"v=0", b"<?xml", b"<MPD")  # of HLS, SDP, DASH: FFmpeg reads them
_ADVICE: Final = (
    "give the address of the stream or of a snapshot itself, as the manual of the camera has it, "
    "such as .../video.mjpg or .../snapshot.jpg"
)


def open_pictures(
    url: str,
    *,
    fps: float | None = None,
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 5.0,
    any_certificate: bool = False,
) -> FrameSource | None:
    """Open an http:// or https:// address that gives JPEG pictures.

    Args:
        url: the address.
        fps: how often an address of single pictures is asked; a stream comes as it comes.
        open_timeout_s: how long an answer may take.
        read_timeout_s: how long there may be no picture.
        any_certificate: take any certificate.

    Returns:
        The source; None for what is something else, such as a video, which FFmpeg may read.

    Raises:
        SourceError: there are no pictures; says why, and what to do.
    """
    client = HttpClient(Address.of(url), open_timeout_s, any_certificate=any_certificate)
    source: FrameSource | None = None
    try:
        answer = client.get()
        source = _recognise(client, answer, fps, read_timeout_s)
        return source
    except (OSError, http.client.HTTPException) as error:
        what = f"was silent for {read_timeout_s:g} s" if isinstance(error, TimeoutError) else "broke off"
        raise stream_error(client.name, f"{what} before its first picture; check the network and the camera") from None
    finally:
        if source is None:
            client.close()


def _recognise(
    client: HttpClient, answer: http.client.HTTPResponse, fps: float | None, read_timeout_s: float
) -> FrameSource | None:
    """Find out from the header and the first bytes of an answer what it is, and read its first picture."""
    until_s = time.monotonic() + read_timeout_s
    head = b""
    while len(head) < 16 and (more := client.read(answer, until_s)):
        head += more
    kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise stream_error(client.name, f"gives an empty answer; {_ADVICE}")
    if kind in ("text/html", "application/xhtml+xml") or start[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise stream_error(client.name, f"{WEB_PAGE}; {_ADVICE}")
    if kind.startswith("multipart/") or (start.startswith(b"--") and not start.startswith(b"-->")):
        return MjpegStream(client, answer, head, read_timeout_s)
    if head.startswith(_JPEG):
        if answer.length is not None and answer.length <= MAX_PICTURE:
            return Snapshot(client, answer, head, fps, read_timeout_s)
        return _one_or_many(client, answer, head, fps, read_timeout_s)
    if kind.startswith("image/"):
        return Snapshot(client, answer, head, fps, read_timeout_s)
    if kind.startswith(_TEXTS) and not start.startswith(_PLAYLISTS):
        raise stream_error(client.name, f"answers with text ({kind[:40]}), not with pictures; {_ADVICE}")
    return None


def _one_or_many(
    client: HttpClient, answer: http.client.HTTPResponse, head: bytes, fps: float | None, read_timeout_s: float
) -> FrameSource:
    """Tell a picture of unknown length from pictures one after the other: after its end there is more, or not."""
    splitter, body = JpegSplitter(), head
    splitter.feed(head)
    pictures = 0
    try:
        while True:
            while splitter.next() is not None:
                pictures += 1
            if pictures > 1 or (pictures and splitter.is_inside):
                break
            if not (more := client.read(answer, time.monotonic() + read_timeout_s)):
                return Snapshot(client, answer, body, fps, read_timeout_s)
            body += more
            splitter.feed(more)
    except (ImageError, NoPictureError):  # what is wrong with it is said where it is read
        pass
    return MjpegStream(client, answer, body, read_timeout_s)


class HttpPictures(FrameSource):
    """What both have in common: how pictures become frames."""

    def __init__(self, client: HttpClient, read_timeout_s: float) -> None:
        self.name, self.live = client.name, True
        self.fps: float | None = None
        self._client = client
        self._read_timeout_s = read_timeout_s
        self._started_s = time.monotonic()
        self._count = 0
        self._closed = False
        self._first: Frame | None = None

    def read(self) -> Frame:
        """Return the next picture.

        Raises:
            ImageError: it is damaged; the next one may be read.
            SourceError: the stream ended, was silent, or gives something else now.
        """
        if self._closed:
            raise SourceError(f"{self.name} is closed; open it again to read from it")
        frame, self._first = self._first, None
        return frame if frame is not None else self._next()

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._closed = True
        self._client.close()

    def _read_first(self) -> None:
        """Read the first good picture, if one of the first few is good."""
        damage = ""
        for _ in range(_TRIES):
            try:
                self._first = self._next()
                return
            except ImageError as error:
                damage = str(error)
        raise stream_error(self.name, f"gives no picture that can be read: {damage}; check the settings of the camera")

    def _next(self) -> Frame:
        raise NotImplementedError

    def _frame(self, image: npt.NDArray[np.uint8]) -> Frame:
        index, self._count = self._count, self._count + 1
        return Frame(image, index, time.monotonic() - self._started_s)

    def _lost(self, error: OSError | http.client.HTTPException | None = None) -> SourceError:
        if isinstance(error, TimeoutError):
            what = f"was silent for {self._read_timeout_s:g} s"
        else:
            what = "ended" if error is None else "broke off"
        return stream_error(self.name, f"{what} after {self._count} frames; check the network and the camera")


class MjpegStream(HttpPictures):
    """JPEG pictures one after the other in one answer, whatever is between them; see `open_pictures`."""

    def __init__(
        self, client: HttpClient, answer: http.client.HTTPResponse, head: bytes, read_timeout_s: float
    ) -> None:
        super().__init__(client, read_timeout_s)
        self._answer = answer
        self._splitter = JpegSplitter()
        self._splitter.feed(head)
        self._read_first()

    def _next(self) -> Frame:
        until_s = time.monotonic() + self._read_timeout_s
        try:
            while (picture := self._splitter.next()) is None:
                if not (more := self._client.read(self._answer, until_s)):
                    raise self._lost()
                self._splitter.feed(more)
        except NoPictureError as error:
            raise stream_error(self.name, f"{error}; it must be MJPEG, check its settings in the camera") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        return self._frame(decode_image(picture, f"a picture of {self.name}"))


class Snapshot(HttpPictures):
    """One picture an answer, asked for again and again over one connection; see `open_pictures`."""

    def __init__(
        self,
        client: HttpClient,
        answer: http.client.HTTPResponse,
        head: bytes,
        fps: float | None,
        read_timeout_s: float,
    ) -> None:
        super().__init__(client, read_timeout_s)
        client.limit_s = min(client.limit_s, read_timeout_s)
        # Not so seldom that it would count as lost.
        self.fps = max(min(fps or POLLS_PER_S, MAX_POLLS_PER_S), 2.0 / read_timeout_s)
        self._due_s = time.monotonic()
        self._answer: http.client.HTTPResponse | None = answer
        self._head = head
        self._last: tuple[bytes, npt.NDArray[np.uint8]] | None = None
        self._read_first()

    def _next(self) -> Frame:
        if self._answer is None:
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = max(self._due_s, time.monotonic() - 1.0) + 1.0 / (self.fps or POLLS_PER_S)
        data = self._fetch()
        if self._last is None or self._last[0] != data:  # else the camera has no other picture yet
            if data.startswith(_JPEG):
                _check_whole(data)
            self._last = (data, decode_image(data, f"the picture of {self.name}"))
        return self._frame(self._last[1])

    def _fetch(self) -> bytes:
        until_s = time.monotonic() + self._read_timeout_s
        answer, self._answer = self._answer or self._client.get(), None
        head, self._head = self._head, b""
        try:
            rest = self._client.read_all(answer, until_s, MAX_PICTURE)
        except (OSError, http.client.HTTPException) as error:
            self._client.close()
            raise self._lost(error) from None
        if rest is None:
            self._client.close()
            raise stream_error(
                self.name, f"gives a picture of more than {MAX_PICTURE:,} bytes; ask it for a smaller one"
            )
        data = head + rest
        if data.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise stream_error(self.name, f"{WEB_PAGE}, after {self._count} pictures; {_ADVICE}")
        return data


def _check_whole(data: bytes) -> None:
    """Raise ImageError for a JPEG that was cut off, which a decoder fills up with grey."""
    splitter = JpegSplitter()
    splitter.feed(data)
    if splitter.next() is None:
        raise ImageError("a picture was cut off")
