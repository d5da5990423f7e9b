"""Where `edgeface run` puts what it finds out: the options for it, and the sinks that they ask for."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeface.commands import console

if TYPE_CHECKING:
    from edgeface.runtime.events import Event, EventName, EventSink, SinkState
    from edgeface.runtime.showing.recording import Recording
    from edgeface.runtime.showing.snapshots import Snapshots
    from edgeface.runtime.sinks.courier import Courier, Transport
    from edgeface.runtime.sinks.hooks import HookSink
    from edgeface.runtime.sinks.plugin import QueuedSink

_PANEL = "Outputs"

Record = Annotated[
    Path | None,
    typer.Option(help="Write an annotated video (.mkv, .avi play after a crash; .mp4, .mov).", rich_help_panel=_PANEL),
]
RecordMinutes = Annotated[
    float | None, typer.Option(help="In pieces of so many minutes, NAME-0001 and so on.", rich_help_panel=_PANEL)
]
Events = Annotated[
    Path | None,
    typer.Option(help="Append events to this file, one JSON object a line.", rich_help_panel=_PANEL),
]
EventsMaxBytes = Annotated[
    int | None,
    typer.Option(min=1, help="Begin a new file of events before it would be larger.", rich_help_panel=_PANEL),
]
EventsKeep = Annotated[
    int, typer.Option(min=0, help="Old files of events to keep, FILE.1 the newest.", rich_help_panel=_PANEL)
]
EventsSync = Annotated[
    bool, typer.Option("--events-sync", help="Sync each event to the disk; slow.", rich_help_panel=_PANEL)
]
WebhookUrl = Annotated[
    str | None,
    typer.Option(
        envvar="EDGEFACE_WEBHOOK",
        help="POST each event to this https:// address; token and signing secret come from EDGEFACE_WEBHOOK_TOKEN and "
        "EDGEFACE_WEBHOOK_SECRET, or files named by these with _FILE.",
        rich_help_panel=_PANEL,
    ),
]
MqttUrl = Annotated[
    str | None,
    typer.Option(
        envvar="EDGEFACE_MQTT",
        help="Publish each event: mqtts://host[:port]/topic; credentials come from EDGEFACE_MQTT_USERNAME and "
        "EDGEFACE_MQTT_PASSWORD, or files named by these with _FILE.",
        rich_help_panel=_PANEL,
    ),
]
OutboxPath = Annotated[
    Path | None, typer.Option(help="Where events for webhook and MQTT wait, across runs.", rich_help_panel=_PANEL)
]
OutboxMaxBytes = Annotated[
    int, typer.Option(min=1, help="Of waiting events; beyond, the oldest are lost.", rich_help_panel=_PANEL)
]
Flush = Annotated[
    float, typer.Option(min=0.0, help="Seconds to go on delivering at the end of a run.", rich_help_panel=_PANEL)
]
MaxAge = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=86400.0,
        help="Seconds that a match holds: valid_until in its event. Later, nobody is told of it as a match, and no "
        "command runs for it; 0: for ever.",
        rich_help_panel=_PANEL,
    ),
]
LateMatch = Annotated[
    Literal["mark", "drop"],
    typer.Option(
        help="To webhook and MQTT, a match that comes later goes as late_match (mark) or not at all (drop).",
        rich_help_panel=_PANEL,
    ),
]
OnMatch = Annotated[
    list[str] | None,
    typer.Option(help="Run a command, without a shell, when somebody is recognised.", rich_help_panel=_PANEL),
]
OnEvent = Annotated[
    list[str] | None,
    typer.Option(help="Run a command on another event: NAME=COMMAND, such as lost='log.sh'.", rich_help_panel=_PANEL),
]
HookTimeout = Annotated[
    float, typer.Option(min=0.01, help="Kill a command after so many seconds.", rich_help_panel=_PANEL)
]
Sink = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:CLASS",
        help="Hand events to a plug-in, with options as MODULE:CLASS?key=value&key=value; repeatable.",
        rich_help_panel=_PANEL,
    ),
]
SnapshotFolder = Annotated[
    Path | None, typer.Option(help="Keep a JPEG of each match in this folder.", rich_help_panel=_PANEL)
]
SnapshotsKeep = Annotated[int, typer.Option(min=1, help="The last so many of them.", rich_help_panel=_PANEL)]
SnapshotsOf = Annotated[
    Literal["face", "frame"], typer.Option(help="The face, or the whole annotated frame.", rich_help_panel=_PANEL)
]
SnapshotsUnknown = Annotated[
    bool, typer.Option("--snapshots-unknown", help="Also of people not recognised.", rich_help_panel=_PANEL)
]
SnapshotsShowOthers = Annotated[
    bool,
    typer.Option(
        "--snapshots-show-others", help="Leave other faces in the picture as they are.", rich_help_panel=_PANEL
    ),
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What the user asked for; the names are those of the options."""

    as_json: bool
    quiet: bool
    record: Path | None
    record_minutes: float | None
    events: Path | None
    events_max_bytes: int | None
    events_keep: int
    events_sync: bool
    webhook: str | None
    mqtt: str | None
    outbox: Path | None
    outbox_max_bytes: int
    flush: float
    late_match: Literal["mark", "drop"]
    on_match: list[str] | None
    on_event: list[str] | None
    hook_timeout: float
    snapshots: Path | None
    snapshots_keep: int
    snapshots_of: Literal["face", "frame"]
    snapshots_unknown: bool
    snapshots_show_others: bool
    sink: list[str] | None = None


class Outputs:
    """Everything that takes events and pictures of one run. A context manager that closes it without waiting.

    Args:
        options: what is asked for.

    Raises:
        ConfigError: something of it cannot be used; nothing stays open then.
        MissingPackageError: MQTT without its package.
    """

    def __init__(self, options: OutputOptions) -> None:
        from edgeface.errors import ConfigError
        from edgeface.runtime.sinks.lines import LinesSink

        self.sinks: list[EventSink] = []
        """For the loop."""
        self.snapshots: Snapshots | None = None
        self._options = options
        self._recording: Recording | None = None
        self._couriers: list[Courier] = []
        self._hooks: HookSink | None = None
        self._plugins: list[QueuedSink] = []
        if options.record_minutes is not None and (options.record is None or not options.record_minutes > 0):
            raise ConfigError("--record-minutes takes a number above 0 and goes with --record")
        if sys.stdout is None:  # closed by who started this, as with `>&-`; files and servers go on
            pass
        elif options.as_json:
            self.sinks.append(LinesSink(sys.stdout))
        elif not options.quiet:
            self.sinks.append(LinesSink(sys.stdout, _spoken))
        with ExitStack() as stack:
            self._open_hooks(stack)
            self._open_couriers(stack)
            self._open_file(stack)
            self._open_snapshots(stack)
            self._open_plugins(stack)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recorder(self, fps: float | None) -> "Callable[[tuple[int, int]], Recording] | None":
        """Return what opens the recording once the size of the frames is known; None where none is wanted."""
        path, minutes = self._options.record, self._options.record_minutes
        if path is None:
            return None

        def open_recording(size_wh: tuple[int, int]) -> "Recording":
            from edgeface.runtime.showing.recording import Recording

            piece_s = None if minutes is None else 60 * minutes
            self._recording = Recording(path, fps or 25.0, size_wh, piece_s=piece_s)
            return self._recording

        return open_recording

    def finish(self) -> None:
        """Go on delivering for as long as the user gave, then close."""
        deadline_s = time.monotonic() + self._options.flush
        for courier in self._couriers:
            courier.hurry()
        if self._hooks is not None:
            self._hooks.finish(self._options.flush)
        for plugin in self._plugins:
            plugin.finish(max(0.0, deadline_s - time.monotonic()))
        for courier in self._couriers:
            courier.finish(max(0.0, deadline_s - time.monotonic()))
        self.close()

    def close(self) -> None:
        """Close everything without waiting; what is in the outbox stays there. Idempotent."""
        self._stack.close()

    def states(self, states: "tuple[SinkState, ...]") -> "tuple[SinkState, ...]":
        """Bring the states that the loop told up to date, and add those of recording and snapshots."""
        now = {sink.state().name: sink.state() for sink in self.sinks}
        # What a sink did not take is known to the loop alone.
        told = (replace(now.get(s.name, s), lost=max(s.lost, now.get(s.name, s).lost)) for s in states)
        more = [output.state() for output in (self._recording, self.snapshots) if output is not None]
        return (*told, *more)

    def _open_file(self, stack: ExitStack) -> None:
        options = self._options
        if options.events is None:
            return
        from edgeface.runtime.sinks.file import FileSink

        file = FileSink(
            options.events,
            max_bytes=options.events_max_bytes,
            keep=options.events_keep,
            sync=options.events_sync,
        )
        stack.callback(file.close)
        self.sinks.append(file)

    def _open_couriers(self, stack: ExitStack) -> None:
        if self._options.webhook is None and self._options.mqtt is None:
            return
        from edgeface.runtime.sinks.courier import Courier
        from edgeface.runtime.sinks.credentials import secret
        from edgeface.runtime.sinks.outbox import Outbox

        transports: list[Transport] = []
        if self._options.webhook is not None:
            from edgeface.runtime.sinks import webhook

            token, key = secret(webhook.TOKEN), secret(webhook.SECRET)
            transports.append(webhook.Webhook(self._options.webhook, token=token, secret=key))
        if self._options.mqtt is not None:
            from edgeface.runtime.sinks import mqtt

            username, password = secret(mqtt.USERNAME), secret(mqtt.PASSWORD)
            transports.append(mqtt.Mqtt(self._options.mqtt, username=username, password=password))
        outbox = Outbox(self._options.outbox or console.default_outbox(), max_bytes=self._options.outbox_max_bytes)
        stack.callback(outbox.close)
        for transport in transports:
            courier = Courier(outbox, transport, if_late=self._options.late_match)
            stack.callback(courier.close)
            self._couriers.append(courier)
        self.sinks += self._couriers

    def _open_hooks(self, stack: ExitStack) -> None:
        if not self._options.on_match and not self._options.on_event:
            return
        from edgeface.runtime.sinks.hooks import HookSettings, HookSink, parse_command, parse_hook

        commands: dict[EventName, list[list[str]]] = {}
        for text in self._options.on_match or ():
            commands.setdefault("match", []).append(parse_command(text, "--on-match"))
        for text in self._options.on_event or ():
            name, command = parse_hook(text, "--on-event")
            commands.setdefault(name, []).append(command)
        self._hooks = HookSink(commands, HookSettings(timeout_s=self._options.hook_timeout))
        stack.callback(self._hooks.close)
        self.sinks.append(self._hooks)

    def _open_plugins(self, stack: ExitStack) -> None:
        if not self._options.sink:
            return
        from edgeface.runtime.sinks.plugin import open_sink

        for text in self._options.sink:
            plugin = open_sink(text)
            stack.callback(plugin.close)
            self._plugins.append(plugin)
        self.sinks += self._plugins

    def _open_snapshots(self, stack: ExitStack) -> None:
        if self._options.snapshots is None:
            return
        from edgeface.runtime.showing.snapshots import Snapshots, SnapshotSettings

        settings = SnapshotSettings(
            keep=self._options.snapshots_keep,
            subject=self._options.snapshots_of,
            unknown=self._options.snapshots_unknown,
            show_others=self._options.snapshots_show_others,
        )
        self.snapshots = Snapshots(self._options.snapshots, settings)
        stack.callback(self.snapshots.close)


def print_states(states: "tuple[SinkState, ...]") -> None:
    """Print how far the outputs have come, unless there is but the terminal."""
    shown = [state for state in states if state.name != "standard output" or state.lost]
    if not shown:
        return
    counts = [[s.name, str(s.sent), str(s.waiting), str(s.refused), str(s.lost), str(s.late)] for s in shown]
    rows = [[*row, s.error or ""] for row, s in zip(counts, shown, strict=True)]
    console.table(rows, ["output", "done", "waiting", "refused", "lost", "late", "last error"])
    if any(state.waiting for state in shown):
        typer.echo("what waits is in the outbox; the next run with the same kind of output goes on with it")


def _spoken(event: "Event") -> str | None:
    """Return an event as a short line for people; None for what they would not ask for."""
    if event.event == "no_face":
        return None
    what = f"{event.event} {event.identity}" if event.identity else event.event
    parts = [f"frame {event.frame}"] if event.frame is not None else []
    parts += [f"track {event.track}"] if event.track is not None else []
    score = f" ({event.score:.3f}, threshold {event.threshold:.3f})" if event.score is not None else ""
    return console.printable(f"{', '.join(parts)}: {what}{score}" + (f": {event.why}" if event.why else ""))
