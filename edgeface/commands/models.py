"""`edgeface models`: which networks are there, and what do they cost?"""

from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def models_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Only these; timm:NAME and MODULE:CLASS too [default: all].")
    ] = None,
    *,
    as_json: opt.Json = False,
) -> None:
    """List the networks that can be trained: parameters, multiply-adds of a face, embedding size, source.

    A plug-in is counted if it is named, as that runs its code; the list has the name and package of those installed.

    Example: edgeface models iresnet50 timm:mobilenetv3_small_100
    """
    from edgeface.commands.plugins import facts
    from edgeface.models import MODELS, describe_model
    from edgeface.plugins import Kind, installed

    rows = [describe_model(name) for name in names or MODELS]
    others = [] if names else list(installed(Kind.backbone).values())
    if as_json:
        listed = [
            {
                "name": row.name,
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "embedding_size": row.embedding_size,
                "source": row.source,
            }
            for row in rows
        ]
        console.print_json({"models": listed, "plugins": [facts(plugin) for plugin in others]})
        return
    console.table(
        [
            [
                row.name,
                f"{row.parameters / 1e6:.2f} M",
                f"{row.multiply_adds / 1e6:,.0f} M",
                str(row.embedding_size),
                row.source,
            ]
            for row in rows
        ]
        + [[plugin.name, "plug-in", "", "", str(plugin)] for plugin in others],
        ["name", "parameters", "multiply-adds", "embedding", "source"],
    )
