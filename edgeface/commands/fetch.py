"""`edgeface bundle fetch`: a public model onto this machine, with its licence."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.runtime.fetching.registry import PublicModel


def bundle_fetch_command(
    name: Annotated[str | None, typer.Argument(help="Model to fetch, such as yunet-2023mar; see --list.")] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="File to write, or a folder that is there [default: in the user's data folder].")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="Fetch it here instead: the file's address, or that of its folder, which ends in /."),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence of the model; otherwise you are asked.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the models that can be fetched.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a server.")] = 30.0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Fetch a well-known face detector or embedder, check it against its known SHA-256 and keep it with its licence.

    What broke off goes on where it stopped. Afterwards --detector takes the name of a detector.

    Examples:

      edgeface bundle fetch --list

      edgeface bundle fetch yunet-2023mar
    """
    from edgeface.errors import ConfigError
    from edgeface.runtime.fetching.fetch import default_path, fetch, is_there, notice_path
    from edgeface.runtime.fetching.registry import public_model

    if listed:
        _list(as_json)
        return
    if name is None:
        raise ConfigError("name a model to fetch; edgeface bundle fetch --list shows them")
    model = public_model(name)
    path = default_path(model) if out is None else out
    if path.is_dir():
        path = path / model.file
    if not is_there(model, path):
        _ask(model, accept_licence)
    with console.progress(f"fetching {model.name}", quiet or as_json) as advance:
        fetched = fetch(model, path, mirror=mirror, advance=advance, timeout_s=timeout)
    if as_json:
        console.print_json(
            _facts(model)
            | {
                "path": str(path),
                "notice": str(notice_path(path)),
                "fetched": fetched.address is not None,
                "address": fetched.address,
                "use": _use(model, path),
            }
        )
        return
    if fetched.address is None:
        typer.echo(f"{model.name} is there already: {path}")
    else:
        typer.echo(f"{model.name}, {model.size_bytes} bytes, from {fetched.address}")
        typer.echo(f"model: {path}\nlicence: {notice_path(path)}")
    typer.echo(f"use: {_use(model, path)}")


def _list(as_json: bool) -> None:
    from edgeface.runtime.fetching.fetch import default_path
    from edgeface.runtime.fetching.registry import MODELS

    models = list(MODELS.values())
    if as_json:
        console.print_json({"models": [_facts(model) | {"present": default_path(model).is_file()} for model in models]})
        return
    rows = [
        [
            model.name,
            model.kind,
            f"{model.size_bytes / 1e6:.2f} MB",
            model.licence.name,
            model.training_data,
            "yes" if default_path(model).is_file() else "no",
            model.title,
        ]
        for model in models
    ]
    console.table(rows, ["model", "kind", "size", "licence", "trained on", "here", "what"])


def _ask(model: "PublicModel", is_accepted: bool) -> None:
    """Show the licence and see that somebody agrees to it."""
    from edgeface.errors import ConfigError

    console.say(f"{model.name}: {model.title}, {model.size_bytes} bytes, from {model.origin}")
    console.say(f"licence: {model.licence.name}, {model.licence.address}; trained on: {model.training_data}")
    if is_accepted:
        return
    if not _is_terminal():
        raise ConfigError(
            f"{model.name} has the licence {model.licence.name} and there is nobody to ask; "
            "to accept it give --accept-licence"
        )
    console.say(f"\n{model.licence.notice}")
    if not typer.confirm("accept this licence and fetch the model?", err=True):
        raise ConfigError(f"the licence of {model.name} was not accepted; nothing was fetched")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _use(model: "PublicModel", path: Path) -> str:
    """Return what makes use of a model on the command line."""
    place = shlex.quote(str(path))
    if model.kind == "detector":
        return f"--detector {place}"
    return (
        f"edgeface export --onnx {place} --input-layout {model.input.layout} "
        f"--channel-order {model.input.channel_order} --mean {model.input.mean:g} --scale {model.input.scale:g} "
        f"--weights-licence {shlex.quote(model.licence.name)} --calibration FACES --out {model.name}.bundle"
    )


def _facts(model: "PublicModel") -> dict[str, Any]:
    return {
        "name": model.name,
        "title": model.title,
        "kind": model.kind,
        "sha256": model.sha256,
        "bytes": model.size_bytes,
        "licence": model.licence.name,
        "licence_address": model.licence.address,
        "trained_on": model.training_data,
        "origin": model.origin,
        "addresses": model.addresses,
        "input": {
            "layout": model.input.layout,
            "channel_order": model.input.channel_order,
            "mean": model.input.mean,
            "scale": model.input.scale,
            "size_wh": model.input.size_wh,
        },
    }
