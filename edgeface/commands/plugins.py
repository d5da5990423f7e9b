"""`edgeface plugins` and `edgeface losses`: what is installed besides edgeface's own, and which losses there are."""

from typing import TYPE_CHECKING

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.plugins import Plugin


def plugins_command(*, as_json: opt.Json = False) -> None:
    """List the plug-ins that packages bring: losses, backbones, augmentations, sources, sinks, detectors.

    None of their code is run for it. A plug-in that no package brings can be named as module:Class.
    """
    from edgeface.plugins import Kind, installed

    found = [plugin for kind in Kind for plugin in installed(kind).values()]
    if as_json:
        console.print_json({"plugins": [facts(plugin) for plugin in found]})
        return
    if not found:
        typer.echo("no plug-ins are installed; a class is named as module:Class all the same")
        return
    rows = [[str(p.kind), p.name, p.reference, f"{p.package} {p.version}".strip()] for p in found]
    console.table(rows, ["kind", "name", "class", "package"])


def losses_command(*, as_json: opt.Json = False) -> None:
    """List the losses: what they compare, and their options, which `edgeface train --set loss.OPTION=VALUE` sets.

    Of plug-ins none of the code is run, so their options are not known here.
    """
    from edgeface.losses import LOSSES, PairHead
    from edgeface.plugins import Kind, installed

    own = [
        {
            "name": name,
            "compares": "pairs" if issubclass(made, PairHead) else "classes",
            "options": sorted(made.options()),
        }
        for name, made in LOSSES.items()
    ]
    others = list(installed(Kind.loss).values())
    if as_json:
        console.print_json({"losses": own, "plugins": [facts(plugin) for plugin in others]})
        return
    rows = [[str(row["name"]), str(row["compares"]), ", ".join(row["options"])] for row in own]
    rows += [[plugin.name, "plug-in", str(plugin)] for plugin in others]
    console.table(rows, ["name", "compares", "options"])


def facts(plugin: "Plugin") -> dict[str, str]:
    """Return what is known of a plug-in, for JSON."""
    return {"name": plugin.name, **plugin.to_json()}
