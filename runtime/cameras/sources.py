"""Where frames come from: cameras, video files, folders of pictures, network streams and memory.

Everything gives (H, W, 3) uint8 RGB. Sources read when they are asked to; `edgeface.runtime.cameras.capture` puts a
thread in front of them.
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgeface.errors import ImageError, SourceError
from edgeface.files import readable_name
from edgeface.image_kinds import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    NO_PICTURE,
    PICTURES,
    READ,
    SURE_SUFFIXES,
    describe_kinds,
    picture_kind,
    unread_kind,
)
from edgeface.images import read_photograph
from edgeface.plugin_options import split_options
from edgeface.plugins import Kind, is_plugin
from edgeface.runtime.cameras.frames import Frame, FrameSequence, FrameSource
from edgeface.runtime.cameras.gstreamer import Pipeline, check_gstreamer, describe_pipeline
from edgeface.runtime.cameras.http_pictures import open_pictures
from edgeface.runtime.cameras.plugin import load_source, open_source
from edgeface.runtime.cameras.redaction import printable, redact
from edgeface.runtime.cameras.video import Asked, Camera, Stream, VideoFile, quiet_opencv, suggest_cameras
from edgeface.runtime.cameras.view import View, Viewed

__all__ = [
    "STREAM_SCHEMES",
    "Asked",
    "Camera",
    "FoundSource",
    "Frame",
    "FrameSequence",
    "FrameSource",
    "ImageFolder",
    "Stream",
    "VideoFile",
    "View",
    "find_source",
    "redact",
]

logger = logging.getLogger(__name__)

STREAM_SCHEMES: Final = ("http", "https", "rtmp", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
"""Network streams; FFmpeg reads them, but for JPEG pictures over HTTP."""
_SERIES: Final = frozenset({".mjpg", ".mjpeg"})


@dataclass(frozen=True, slots=True)
class FoundSource:
    """What a text names, before it is opened.

    Attributes:
        name: without credentials.
        live: whether frames come by themselves.
        open: opens it, as often as one likes. A device is looked up by its name each time: a camera that was pulled
            out may come back with another number.
    """

    name: str
    live: bool
    open: Callable[[], FrameSource]


def find_source(
    spec: str,
    *,
    asked: Asked | None = None,
    view: View | None = None,
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 5.0,
    any_certificate: bool = False,
) -> FoundSource:
    """Find out what `spec` names: a camera, a file, a picture, a folder of pictures, a stream or a pipeline.

    Args:
        spec: `0`, `camera:0`, `/dev/video0` or a link to it such as those in `/dev/v4l/by-id`; a path; a URL of one
            of `STREAM_SCHEMES`; `gst:` and a GStreamer pipeline; or a plug-in, `module:Class` or the name of one
            that is installed, perhaps with `?key=value&key=value`.
        asked: what to ask a camera for, and how often to ask for pictures that are not a stream; others ignore it.
        view: how to turn and cut the pictures.
        open_timeout_s: how long a stream may take to answer.
        read_timeout_s: how long a stream may be silent between two frames.
        any_certificate: take https:// pictures with any certificate.

    Raises:
        SourceError: there is no such file, kind of stream or GStreamer.
        UnknownNameError, PluginError: as `edgeface.runtime.cameras.plugin.load_source`.
    """
    found = _find(spec, asked, open_timeout_s, read_timeout_s, any_certificate)
    if view is None or view.is_plain:
        return found
    return replace(found, open=lambda: _viewed(found.open(), view))


def _find(
    spec: str, asked: Asked | None, open_timeout_s: float, read_timeout_s: float, any_certificate: bool
) -> FoundSource:
    if camera := re.fullmatch(r"(?:camera:)?([0-9]{1,5})", spec):
        index = int(camera[1])
        return FoundSource(f"camera {index}", True, lambda: Camera(index, asked))
    if spec.startswith("/dev/"):
        return FoundSource(printable(spec), True, lambda: _open_device(spec, asked))
    if spec.startswith("gst:"):
        pipeline = spec.removeprefix("gst:")
        check_gstreamer()
        return FoundSource(
            describe_pipeline(pipeline),
            True,
            lambda: Pipeline(pipeline, open_timeout_s=open_timeout_s, read_timeout_s=read_timeout_s),
        )
    plugin, options = split_options(spec) if names_plugin(spec) else ("", {})
    if plugin:
        made = load_source(plugin, options)
        return FoundSource(plugin, made.live, lambda: open_source(made, plugin, options))
    if "://" in spec:
        scheme = spec.partition("://")[0].lower()
        if scheme not in STREAM_SCHEMES:
            raise SourceError(f"cannot open {redact(spec)}: use one of {', '.join(STREAM_SCHEMES)}")

        def open_stream() -> FrameSource:
            pictures = None
            if scheme in ("http", "https"):
                pictures = open_pictures(
                    spec,
                    fps=None if asked is None else asked.fps,
                    open_timeout_s=open_timeout_s,
                    read_timeout_s=read_timeout_s,
                    any_certificate=any_certificate,
                )
            return pictures or Stream(spec, open_timeout_s=open_timeout_s, read_timeout_s=read_timeout_s)

        return FoundSource(redact(spec), True, open_stream)
    path = Path(spec)
    if not os.path.exists(spec):  # unlike Path.exists, it also bears a name that is too long
        raise SourceError(
            f"no file or folder {redact(spec)!r}; give a camera number (0), a video file, "
            "a folder of pictures or a stream (rtsp://...)"
        )
    name = readable_name(path.name or str(path))
    if path.is_dir() or _is_picture(path):
        return FoundSource(name, False, lambda: ImageFolder(path))
    return FoundSource(name, False, lambda: VideoFile(path))


def names_plugin(spec: str) -> bool:
    """Tell whether a text names a source from outside, with or without options; what lies there as a file does not."""
    return is_plugin(Kind.source, spec.partition("?")[0]) and not os.path.exists(spec)


def _is_picture(path: Path) -> bool:
    """Whether a file is a single picture, or meant to be one; a GIF and a series of JPEGs are played as videos."""
    kind = NO_PICTURE
    with contextlib.suppress(OSError):
        if path.is_file():  # a pipe would block its reader
            with path.open("rb") as file:
                kind = picture_kind(file.read(HEAD_BYTES))
    if kind == "GIF" or path.suffix.lower() in _SERIES:
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or kind in READ or kind in PICTURES


def _open_device(spec: str, asked: Asked | None) -> Camera:
    # The lasting names in /dev/v4l/by-id are links to /dev/videoN.
    device = re.fullmatch(r"/dev/video([0-9]{1,5})", os.path.realpath(spec))
    if device is None:
        raise SourceError(f"{printable(spec)} is no camera; {suggest_cameras()}")
    return Camera(int(device[1]), asked)


def _viewed(source: FrameSource, view: View) -> FrameSource:
    return Viewed(source, view)


class ImageFolder(FrameSource):
    """The pictures of a folder sorted by name, or one picture. Others are left out and counted by their kind.

    What a file is says its content. A picture of more than `edgeface.images.MAX_PIXELS` comes at reduced size.
    """

    def __init__(self, path: Path) -> None:
        self.name = readable_name(path.name or str(path))
        self.live = False
        self.fps = None
        self.stills = True
        self.unreadable = 0
        """Pictures skipped so far."""
        quiet_opencv()
        self._reason = ""
        self._kinds: list[str] = []
        self._count = 0
        self._closed = False
        plain = readable_name(str(path))
        try:
            files = [path] if path.is_file() else sorted(path.iterdir(), key=lambda file: file.name)
        except OSError as error:
            raise SourceError(f"folder {plain} cannot be read: {error.strerror}") from error
        kinds = {file: unread_kind(str(file)) for file in files if file.name[0] != "." and file.is_file()}
        self._files = [path] if files == [path] else [file for file, kind in kinds.items() if kind is None]
        self._position = 0
        others = describe_kinds(kind for kind in kinds.values() if kind)
        if not self._files:
            raise SourceError(
                f"no pictures in {plain} ({len(files)} other entries{': ' + others if others else ''}); "
                f"it takes {', '.join(sorted(SURE_SUFFIXES))} and others directly in the folder"
            )
        if others and path.is_dir():
            logger.warning("%s: left out files that are not read: %s", self.name, others)

    def read(self) -> Frame | None:
        """Return the next readable picture, or None after the last; SourceError if not one was readable."""
        if self._closed:
            raise SourceError(f"{self.name} is closed; open it again to read from it")
        while self._position < len(self._files):
            file = self._files[self._position]
            self._position += 1
            try:
                photograph = read_photograph(file)
            except ImageError as error:
                self.unreadable += 1
                self._reason = self._reason or str(error)
                self._kinds.append(error.kind)
                logger.debug("skipped: %s", error)
            else:
                index, self._count = self._count, self._count + 1
                name = readable_name(file.name)
                return Frame(photograph.image, index, float(index), name, photograph.reduction)
        if self._count == 0:
            raise SourceError(f"none of the {len(self._files)} pictures in {self.name} can be read: {self._reason}")
        if self._kinds:
            logger.warning(
                "%s: skipped %d of %d pictures, first: %s; in all: %s",
                self.name,
                self.unreadable,
                len(self._files),
                self._reason,
                describe_kinds(self._kinds),
            )
            self._kinds = []
        return None

    def close(self) -> None:
        """Forget the list of files."""
        self._closed = True
        self._files = []
