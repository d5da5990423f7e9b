"""`edgeface run`: the camera loop."""

from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import capture as cam
from edgeface.commands import console, watching
from edgeface.commands import options as opt
from edgeface.commands import outputs as out

if TYPE_CHECKING:
    from pathlib import Path

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
    gallery_key: opt.GalleryKeyPlace = None,
    claim: Annotated[str | None, typer.Option(help="Verify (1:1) that it is this person; else find who it is.")] = None,
    precision: opt.Precision = "auto",
    provider: opt.Provider = "auto",
    device: opt.Device = None,
    memory_limit: opt.MemoryLimit = None,
    provider_library: opt.ProviderLibrary = None,
    build_engines: opt.BuildEngines = False,
    cuda_graph: opt.CudaGraph = True,
    threads: opt.Threads = 1,
    fpir: opt.Fpir = None,
    fmr: Annotated[
        float | None, typer.Option(help="Instead: false match rate of one comparison, however many there are.")
    ] = None,
    threshold: opt.ThresholdCosine = None,
    decision: watching.DecisionRule = watching.Rules.auto,
    votes: watching.Votes = None,
    window: watching.Window = 5,
    within: watching.Within = None,
    cooldown: watching.Cooldown = 0.0,
    miss: watching.Miss = 0.01,
    correlation: watching.Correlation = 0.7,
    min_margin: watching.MinMargin = 0.0,
    min_face: watching.MinFace = 40,
    max_looks: watching.MaxLooks = 8,
    liveness: watching.LivenessMode = watching.Liveness.off,
    liveness_network: watching.LivenessNetwork = None,
    detector: opt.DetectorPath = None,
    require_key: opt.RequireKey = None,
    detect_size: watching.DetectSize = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    show: Annotated[
        bool | None, typer.Option("--show/--headless", help="Show a window [default: if there is a display].")
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
    any_certificate: cam.AnyCertificate = False,
    record: out.Record = None,
    record_minutes: out.RecordMinutes = None,
    events: out.Events = None,
    events_max_bytes: out.EventsMaxBytes = None,
    events_keep: out.EventsKeep = 5,
    events_sync: out.EventsSync = False,
    on_match: out.OnMatch = None,
    on_event: out.OnEvent = None,
    hook_timeout: out.HookTimeout = 10.0,
    sink: out.Sink = None,
    webhook: out.WebhookUrl = None,
    mqtt: out.MqttUrl = None,
    outbox: out.OutboxPath = None,
    outbox_max_bytes: out.OutboxMaxBytes = 64_000_000,
    flush: out.Flush = 5.0,
    max_age: out.MaxAge = 5.0,
    late_match: out.LateMatch = "mark",
    snapshots: out.SnapshotFolder = None,
    snapshots_keep: out.SnapshotsKeep = 100,
    snapshots_of: out.SnapshotsOf = "face",
    snapshots_unknown: out.SnapshotsUnknown = False,
    snapshots_show_others: out.SnapshotsShowOthers = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Recognise people in a camera, video, folder or stream, until it ends or Ctrl-C.

    It may start before anybody is enrolled: everybody is unknown then, and people are taken up as they come.

    Examples:

      edgeface run --camera 0 --bundle my.bundle --claim alice

      edgeface run --camera 0 --bundle my.bundle --fpir 1e-2

      edgeface run --source clip.mp4 --bundle my.bundle --record out.mp4 --events events.jsonl --json
    """
    from contextlib import ExitStack
    from dataclasses import replace

    from edgeface.commands.providers import chosen
    from edgeface.commands.signals import stop_on_signals
    from edgeface.errors import ConfigError
    from edgeface.runtime.cameras.capture import open_frames
    from edgeface.runtime.deciding.attention import AttentionSettings
    from edgeface.runtime.deciding.limits import OperatingThreshold
    from edgeface.runtime.gallery.awaited import AwaitedGallery
    from edgeface.runtime.gallery.people import clean_name
    from edgeface.runtime.loop import RunSettings, run
    from edgeface.runtime.recognizer import open_recognizer
    from edgeface.runtime.showing.display import Window, has_display

    if (camera is None) == (source is None):
        raise ConfigError("give either a camera with --camera N or another source with --source")
    if show and not has_display():
        raise ConfigError("--show needs a display and there is none; leave it out to run headless")
    live = cam.live_settings(
        reconnect=reconnect,
        max_away=max_away,
        wait_for_camera=wait_for_camera,
        open_timeout=open_timeout,
        read_timeout=read_timeout,
        frozen_after=frozen_after,
        min_fps=min_fps,
        any_certificate=any_certificate,
    )
    asked, view = cam.asked_of_camera(size, fps), cam.view_of_camera(rotate, mirror, crop)
    choice = chosen(
        provider,
        device=device,
        memory_limit=memory_limit,
        libraries=provider_library,
        build_engines=build_engines,
        cuda_graph=cuda_graph,
    )
    recognizer = open_recognizer(
        bundle,
        precision=precision,
        provider=choice,
        announce=console.say,
        threads=threads,
        fmr=fmr,
        fpir=fpir,
        threshold=threshold,
        detector=detector,
        max_side=detect_size or watching.LARGEST_SIDE,
        min_face=float(min_face),
        low_share=watching.LOW_SHARE,
        require_keys=require_key or (),
    )
    name = None if claim is None else clean_name(claim)
    with ExitStack() as stack:
        path = gallery or console.default_gallery()
        space, dimension = recognizer.embedder.space, recognizer.embedder.dimension
        people = stack.enter_context(AwaitedGallery(path, space, dimension, key=console.gallery_key(gallery_key)))
        if not people.precisions():
            console.say(_how_to_enrol(path, name, is_default=gallery is None))

        rule = watching.rule_for(decision, votes, recognizer.limits, people.precisions(name))

        def limit() -> OperatingThreshold:
            return recognizer.limits.search(people.precisions(name), weigh=rule is watching.Rules.llr)

        first = limit()
        outputs = stack.enter_context(
            out.Outputs(
                out.OutputOptions(
                    as_json=as_json,
                    quiet=quiet,
                    record=record,
                    record_minutes=record_minutes,
                    events=events,
                    events_max_bytes=events_max_bytes,
                    events_keep=events_keep,
                    events_sync=events_sync,
                    webhook=webhook,
                    mqtt=mqtt,
                    outbox=outbox,
                    outbox_max_bytes=outbox_max_bytes,
                    flush=flush,
                    late_match=late_match,
                    on_match=on_match,
                    on_event=on_event,
                    hook_timeout=hook_timeout,
                    snapshots=snapshots,
                    snapshots_keep=snapshots_keep,
                    snapshots_of=snapshots_of,
                    snapshots_unknown=snapshots_unknown,
                    snapshots_show_others=snapshots_show_others,
                    sink=sink,
                )
            )
        )
        spec = source if source is not None else f"camera:{camera}"
        frames = stack.enter_context(open_frames(spec, asked=asked, view=view, live=live))
        check = watching.liveness_check(
            liveness,
            liveness_network,
            stills=frames.stills,
            provider=choice,
            threads=threads,
            require_keys=require_key or (),
        )
        settings = RunSettings(
            decision=watching.decision_settings(
                first,
                rule,
                votes=votes,
                window=window,
                within_s=within,
                cooldown_s=cooldown,
                miss=miss,
                correlation=correlation,
                min_margin=min_margin,
                claim=name,
            ),
            gate=recognizer.gate.with_smallest(float(min_face)),
            attention=AttentionSettings(max_looks=max_looks or None),
            max_frames=max_frames,
            stills=frames.stills,
            max_age_s=max_age or None,
        )
        summary = run(
            frames,
            recognizer.detector,
            recognizer.embedder,
            people,
            settings,
            outputs.sinks,
            limit=limit if threshold is None else None,
            recorder=outputs.recorder(frames.fps),
            window=Window() if show or (show is None and has_display()) else None,
            snapshots=outputs.snapshots,
            note=f"{recognizer.precision} on {recognizer.embedder.session.provider}",
            stop=stack.enter_context(stop_on_signals()),
            liveness=check,
            scoring=recognizer.scoring,
        )
        outputs.finish()
        summary = replace(summary, sinks=outputs.states(summary.sinks))
    if as_json:
        console.print_json(summary.to_json())
    elif not quiet:
        _print_summary(summary, recognizer.precision)
    if summary.error is not None:
        raise summary.error


def _how_to_enrol(path: "Path", claim: str | None, *, is_default: bool) -> str:
    """Return what to do about a gallery without people; the run goes on all the same."""
    import shlex

    who = "NAME" if claim is None else shlex.quote(claim)
    where = "" if is_default else f" --gallery {shlex.quote(str(path))}"
    return console.printable(
        f"nobody is enrolled in {path} yet, so everybody is unknown; enrol somebody, also while this runs: "
        f"edgeface enroll {who} --image FILE{where}"
    )


def _print_summary(summary: "Summary", precision: str) -> None:
    rows = [
        [stage, f"{times.p50:.2f}", f"{times.p95:.2f}", f"{times.p99:.2f}"] for stage, times in summary.stage_ms.items()
    ]
    if rows:
        console.table(rows, ["stage", "p50 ms", "p95 ms", "p99 ms"])
    out.print_states(summary.sinks)
    told = ", ".join(f"{count} {name}" for name, count in sorted(summary.decisions.items())) or "no decisions"
    typer.echo(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.1f} a second), {summary.faces} faces, "
        f"{summary.tracks} tracks, {told}; {precision}; ended: {summary.ended}"
    )
    if summary.limit is not None and summary.limit.fpir is not None:
        limit = summary.limit
        if limit.evidence is not None:
            asked, unit = f"evidence for a false match rate of {limit.fmr:.2g}", "tracks"
        else:
            asked, unit = f"threshold {summary.threshold:.4f}", "looks"
        typer.echo(
            f"{asked}, {limit.templates} templates: a stranger is taken for one of them at most in "
            f"{limit.fpir:.2g} of {unit}"
        )
