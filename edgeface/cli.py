"""The command `edgeface`: the list of commands, and the one place where errors become exit codes."""

import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import HAS_RICH, TyperArgument, TyperGroup, TyperOption

from edgeface import __version__
from edgeface.commands import console, streams
from edgeface.commands.bench import bench_command
from edgeface.commands.bundle import (
    bundle_inspect_command,
    bundle_keygen_command,
    bundle_pack_command,
    bundle_sign_command,
    bundle_verify_command,
    bundle_warm_command,
)
from edgeface.commands.calibrate import calibrate_command
from edgeface.commands.compare import compare_command
from edgeface.commands.data import data_align_command, data_check_command, data_pack_command, data_teach_command
from edgeface.commands.demo import demo_command
from edgeface.commands.doctor import doctor_command
from edgeface.commands.enroll import enroll_command
from edgeface.commands.eval import EvalCommand, eval_command
from edgeface.commands.export import export_command
from edgeface.commands.fetch import bundle_fetch_command
from edgeface.commands.gallery import (
    gallery_export_command,
    gallery_import_command,
    gallery_list_command,
    gallery_log_command,
    gallery_merge_command,
    gallery_remove_command,
    gallery_rename_command,
)
from edgeface.commands.gallery_keys import (
    gallery_decrypt_command,
    gallery_encrypt_command,
    gallery_keygen_command,
    gallery_rekey_command,
)
from edgeface.commands.liveness import liveness_test_command
from edgeface.commands.models import models_command
from edgeface.commands.plugins import losses_command, plugins_command
from edgeface.commands.run import run_command
from edgeface.commands.schema import schema_command
from edgeface.commands.signals import code_of, end_on_signals, exit_code
from edgeface.commands.train import train_command
from edgeface.commands.verify import verify_command
from edgeface.errors import ConfigError, EdgefaceError, MissingPackageError
from edgeface.files import is_full


class Commands(TyperGroup):
    """The whole tree of commands.

    Errors that a user can mend become one line and exit code 1, an interruption its exit code; our own bugs keep their
    traceback. Help is shown as it is written: in it, brackets are no markup.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in _tree(self):
            for parameter in command.params:
                parameter.callback = _sensible(parameter.callback)
        if HAS_RICH:  # it has no part in help otherwise
            _escape_help(self)

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Run a command, and exit."""
        streams.write_anything()
        try:
            return super().main(*arguments, **settings)
        except Exception as error:
            line = _mendable(error)
            if line is None:
                raise
            logging.getLogger(__name__).debug("what the error below comes from:", exc_info=True)
            streams.drop_output()
            console.say(f"error: {line}")
            sys.exit(1)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            raise typer.Exit(code_of(interruption)) from None


def _tree(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from _tree(below)


def _escape_help(group: Any) -> None:
    """Mark up all help so that rich, which takes `[x]` for markup, prints it."""
    from rich.markup import escape

    for command in _tree(group):
        command.help = escape(command.help or "")
        for parameter in command.params:
            if isinstance(parameter, TyperOption | TyperArgument) and parameter.help:
                parameter.help = escape(parameter.help)


def _sensible(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return what refuses values that no option can mean, and then does what the callback of the option does."""

    def check(context: Any, parameter: Any, value: Any) -> Any:
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, int | float) and not abs(each) <= _LARGEST:
                raise typer.BadParameter(f"{each} is no number to work with; give one of at most {_LARGEST:g}")
            if isinstance(each, str | Path) and parameter.name not in _SPECIAL_FILES:
                _refuse_special(each)
        return value if callback is None else callback(context, parameter, value)

    return check


def _refuse_special(path: str | Path) -> None:
    """Refuse what is no file or folder: a pipe may wait for ever, a device may never end, or be replaced by a file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # what is not there is for others to say, and a name may be no path at all
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ConfigError(f"{path} is a device or a pipe; give a file or a folder")


_SPECIAL_FILES: Final = ("source", "gallery_key", "file_key", "new_key")
"""Parameters that take a camera's device, or a key from a pipe, as `<(...)` makes one in a shell."""
_LARGEST: Final = 2**53


def _mendable(error: Exception) -> str | None:
    """Return what to say of an error that a user can cause or meet; None of a bug."""
    match error:
        case EdgefaceError():
            return console.one_line(str(error))
        case ModuleNotFoundError() if (package := (error.name or "").split(".")[0]) in _EXTRAS:
            return str(MissingPackageError(package, _EXTRAS[package]))
        case MemoryError():
            return "there is not enough memory for this; close other programs, or give it less to work on"
        case OSError() if is_full(error):
            where = f" for {error.filename}" if error.filename else ""
            return console.one_line(f"there is no room{where}: {error.strerror}; free some space and try again")
        case OSError() if error.errno is not None:
            # What the system refuses, for example a path without permission.
            what = f"cannot use {error.filename}" if error.filename else "the system refused something"
            return console.one_line(f"{what}: {error.strerror}; check what was named, and your rights to it")
    return None


_EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "train",
    "onnx": "train",
    "safetensors": "train",
    "matplotlib": "train",
    "timm": "timm",
}

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=Commands,
    context_settings=_SETTINGS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="From face photographs to a camera that recognises the right person and nobody else.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgeface {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="More on stderr; -vv for all.")] = 0,
) -> None:
    """Set up logging before any command."""
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


app.command("demo")(demo_command)
app.command("train")(train_command)
app.command("compare")(compare_command)
app.command("eval", cls=EvalCommand)(eval_command)
app.command("export")(export_command)
app.command("calibrate")(calibrate_command)
app.command("verify")(verify_command)
app.command("enroll")(enroll_command)
app.command("run")(run_command)
app.command("bench")(bench_command)
app.command("models")(models_command)
app.command("losses")(losses_command)
app.command("plugins")(plugins_command)
app.command("schema")(schema_command)
app.command("doctor")(doctor_command)

gallery = typer.Typer(
    no_args_is_help=True,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    help="People in and out, the gallery as a file, its encryption and its log.",
)
gallery.command("add")(enroll_command)
gallery.command("list")(gallery_list_command)
gallery.command("remove")(gallery_remove_command)
gallery.command("rename")(gallery_rename_command)
gallery.command("merge")(gallery_merge_command)
gallery.command("export")(gallery_export_command)
gallery.command("import")(gallery_import_command)
gallery.command("log")(gallery_log_command)
gallery.command("keygen")(gallery_keygen_command)
gallery.command("encrypt")(gallery_encrypt_command)
gallery.command("rekey")(gallery_rekey_command)
gallery.command("decrypt")(gallery_decrypt_command)
app.add_typer(gallery, name="gallery")

bundle = typer.Typer(
    no_args_is_help=True,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    help="Look into bundles, check, sign, pack and warm them; fetch public models.",
)
bundle.command("inspect")(bundle_inspect_command)
bundle.command("verify")(bundle_verify_command)
bundle.command("keygen")(bundle_keygen_command)
bundle.command("sign")(bundle_sign_command)
bundle.command("pack")(bundle_pack_command)
bundle.command("warm")(bundle_warm_command)
bundle.command("fetch")(bundle_fetch_command)
app.add_typer(bundle, name="bundle")

liveness = typer.Typer(
    no_args_is_help=True,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    help="Test whether fakes are told from living faces.",
)
# A callback keeps the one command there is a subcommand.
liveness.callback()(lambda: None)
liveness.command("test")(liveness_test_command)
app.add_typer(liveness, name="liveness")

data = typer.Typer(
    no_args_is_help=True,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    help="Check faces, align photographs, pack shards.",
)
data.command("check")(data_check_command)
data.command("align")(data_align_command)
data.command("pack")(data_pack_command)
data.command("teach")(data_teach_command)
app.add_typer(data, name="data")


def main() -> None:
    """Run the command line as a program of its own, which holds the signals and the standard streams."""
    try:
        end_on_signals()
        streams.replace_missing()
        app()
    finally:
        # Whatever a library made of the interruption, or whether it lost it: the program ends because of it.
        if (code := exit_code()) is not None:
            raise SystemExit(code) from None
