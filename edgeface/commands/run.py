"""`edgeface run`: the camera loop."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import capture as cam
from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.runtime.events import Event
    from edgeface.runtime.summary import Summary


def run_command(
    *,
    camera: Annotated[int | None, typer.Option(min=0, help="Number of a camera.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Instead: video file, picture folder, /dev/v4l/by-id/..., rtsp://, http:// or gst:PIPELINE."),
    ] = None,
    bundle: opt.BundlePath = "default",
    gallery: opt.GalleryPath = None,
    claim: Annotated[str | None, typer.Option(help="Verify (1:1) that it is this person; else find who it is.")] = None,
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    threads: opt.Threads = 1,
    fpir: opt.Fpir = None,
    fmr: Annotated[
        float | None, typer.Option(help="Instead: false match rate of one comparison, however many there are.")
    ] = None,
    threshold: opt.ThresholdCosine = None,
    votes: Annotated[int, typer.Option(min=1, help="Looks that must agree ...")] = 3,
    window: Annotated[int, typer.Option(min=1, help="... of the last so many.")] = 5,
    min_margin: Annotated[float, typer.Option(min=0.0, help="Least lead over the runner-up, as a cosine.")] = 0.0,
    min_face: Annotated[int, typer.Option(min=1, help="Ignore faces smaller than this, in pixels.")] = 40,
    detector: opt.DetectorPath = None,
    require_key: opt.RequireKey = None,
    detect_size: Annotated[
        int, typer.Option(min=32, help="Shrink frames to this longest side to find faces; more finds smaller ones.")
    ] = 640,
    record: Annotated[Path | None, typer.Option(help="Write an annotated video (.mp4, .avi).")] = None,
    events: Annotated[Path | None, typer.Option(help="Append events to this file, one JSON object a line.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    show: Annotated[
        bool | None, typer.Option("--window/--headless", help="Show a window [default: if there is a display].")
    ] = None,
    size: cam.Size = None,
    fps: cam.Fps = None,
    rotate: cam.Rotate = 0,
    mirror: cam.Mirror = False,
    crop: cam.Crop = None,
    reconnect: cam.Reconnect = True,
    max_away: cam.MaxAway = None,
    wait_for_camera: cam.WaitForCamera = False,
    open_timeout: cam.OpenTimeout = 10.0,
    read_timeout: cam.ReadTimeout = 5.0,
    frozen_after: cam.FrozenAfter = 30.0,
    min_fps: cam.MinFps = 0.0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Recognise people in a camera, video, folder or stream, until it ends or Ctrl-C.

    Examples:

      edgeface run --camera 0 --bundle my.bundle --claim alice

      edgeface run --camera 0 --bundle my.bundle --fpir 1e-2

      edgeface run --source clip.mp4 --bundle my.bundle --record out.mp4 --events events.jsonl --json
    """
    import sys
    from contextlib import ExitStack

    from edgeface.commands.signals import stop_on_signals
    from edgeface.errors import ConfigError, GalleryError
    from edgeface.runtime.capture import open_frames
    from edgeface.runtime.decision import DecisionSettings
    from edgeface.runtime.display import Window, has_display
    from edgeface.runtime.events import EventSink, FileSink, LinesSink
    from edgeface.runtime.gallery import Gallery, clean_name
    from edgeface.runtime.limits import OperatingThreshold
    from edgeface.runtime.loop import RunSettings, run
    from edgeface.runtime.quality import QualitySettings
    from edgeface.runtime.recognizer import open_recognizer
    from edgeface.runtime.recorder import VideoRecorder

    if (camera is None) == (source is None):
        raise ConfigError("give either a camera with --camera N or another source with --source")
    if show and not has_display():
        raise ConfigError("--window needs a display and there is none; leave it out to run headless")
    live = cam.live_settings(
        reconnect=reconnect,
        max_away=max_away,
        wait_for_camera=wait_for_camera,
        open_timeout=open_timeout,
        read_timeout=read_timeout,
        frozen_after=frozen_after,
        min_fps=min_fps,
    )
    asked, view = cam.asked_of_camera(size, fps), cam.view_of_camera(rotate, mirror, crop)
    recognizer = open_recognizer(
        bundle,
        precision=precision,
        provider=provider,
        threads=threads,
        fmr=fmr,
        fpir=fpir,
        threshold=threshold,
        detector=detector,
        max_side=detect_size,
        require_keys=require_key or (),
    )
    name = None if claim is None else clean_name(claim)
    with ExitStack() as stack:
        path = gallery or console.default_gallery()
        people = stack.enter_context(Gallery(path, recognizer.embedder.space, recognizer.embedder.dimension))
        if not people.list():
            raise GalleryError(f"gallery {path} is empty; enrol somebody first: edgeface enroll NAME --image FILE")

        def limit() -> OperatingThreshold:
            return recognizer.limits.search(people.precisions(name))

        first = limit()
        spec = source if source is not None else f"camera:{camera}"
        frames = stack.enter_context(open_frames(spec, asked=asked, view=view, live=live))
        sinks: list[EventSink] = []
        if as_json:
            sinks.append(LinesSink(sys.stdout))
        elif not quiet:
            sinks.append(LinesSink(sys.stdout, _spoken))
        if events is not None:
            file = FileSink(events)
            stack.callback(file.close)
            sinks.append(file)
        settings = RunSettings(
            decision=DecisionSettings(
                threshold=first.cosine, fmr=first.fmr, votes=votes, window=window, min_margin=min_margin, claim=name
            ),
            quality=QualitySettings(min_size_px=float(min_face)),
            max_frames=max_frames,
            stills=frames.stills,
        )
        summary = run(
            frames,
            recognizer.detector,
            recognizer.embedder,
            people,
            settings,
            sinks,
            limit=limit if threshold is None else None,
            recorder=None if record is None else lambda size_wh: VideoRecorder(record, frames.fps or 25.0, size_wh),
            window=Window() if show or (show is None and has_display()) else None,
            stop=stack.enter_context(stop_on_signals()),
        )
    if as_json:
        console.print_json(summary.to_json())
    elif not quiet:
        _print_summary(summary, recognizer.precision)
    if summary.error is not None:
        raise summary.error


def _spoken(event: "Event") -> str | None:
    """Return an event as a short line for people; None for what they would not ask for."""
    if event.event == "no_face":
        return None
    what = f"{event.event} {event.identity}" if event.identity else event.event
    parts = [f"frame {event.frame}"] if event.frame is not None else []
    parts += [f"track {event.track}"] if event.track is not None else []
    score = f" ({event.score:.3f}, threshold {event.threshold:.3f})" if event.score is not None else ""
    return f"{', '.join(parts)}: {what}{score}" + (f": {event.why}" if event.why else "")


def _print_summary(summary: "Summary", precision: str) -> None:
    rows = [
        [stage, f"{times.p50:.2f}", f"{times.p95:.2f}", f"{times.p99:.2f}"] for stage, times in summary.stage_ms.items()
    ]
    console.table(rows, ["stage", "p50 ms", "p95 ms", "p99 ms"])
    told = ", ".join(f"{count} {name}" for name, count in sorted(summary.decisions.items())) or "no decisions"
    typer.echo(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.1f} a second), {summary.faces} faces, "
        f"{summary.tracks} tracks, {told}; {precision}; ended: {summary.ended}"
    )
    if summary.limit is not None and summary.limit.fpir is not None:
        typer.echo(
            f"threshold {summary.threshold:.4f} for {summary.limit.templates} templates: a stranger is taken for "
            f"one of them at most in {summary.limit.fpir:.2g} of looks"
        )
