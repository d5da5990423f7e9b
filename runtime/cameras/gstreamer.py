"""Pipelines of GStreamer, where OpenCV was built with it."""

import re
import time
from typing import Final

import cv2

from edgeface.errors import SourceError
from edgeface.runtime.cameras.video import Captured, quiet_opencv

# The newest picture only, as soon as it is there, in a format that OpenCV takes.
_SINK: Final = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def check_gstreamer() -> None:
    """Raise SourceError unless this OpenCV can run a GStreamer pipeline."""
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            f"this OpenCV ({cv2.__version__}) was built without GStreamer, as those from pip are, so gst: cannot be "
            "used; give rtsp:// or /dev/videoN, or install an OpenCV with GStreamer"
        )


def describe_pipeline(pipeline: str) -> str:
    """Return a pipeline as its elements alone: any of their properties may be a password."""
    elements = []
    for part in pipeline.split("!"):
        found = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", (part.split() or [""])[0])
        elements.append(found[0] if found else "...")
    return "gst:" + " ! ".join(elements)


class Pipeline(Captured):
    """A GStreamer pipeline, taken for a live source; without an `appsink` at its end it gets one."""

    def __init__(self, pipeline: str, *, open_timeout_s: float = 10.0, read_timeout_s: float = 5.0) -> None:
        check_gstreamer()
        quiet_opencv(keep_secrets=True)
        name = describe_pipeline(pipeline)
        self._read_timeout_s = read_timeout_s
        if not re.search(r"\bappsink\b", pipeline):
            pipeline = f"{pipeline} ! {_SINK}"
        settings = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(1, round(open_timeout_s * 1e3))),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, max(1, round(read_timeout_s * 1e3))),
        ]
        started_s = time.monotonic()
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, settings)
        unusable = (
            f"{name} gave no picture in {time.monotonic() - started_s:.1f} s (limit {open_timeout_s:g} s); "
            "try the pipeline with gst-launch-1.0"
        )
        super().__init__(name, capture, live=True, unusable=unusable)

    def _end(self) -> None:
        raise SourceError(
            f"{self.name} ended or was silent for {self._read_timeout_s:g} s after {self._count} frames; "
            "check the camera and the pipeline"
        )
