"""`edgeface schema`: what is printed for programs, as JSON Schema."""

from typing import Annotated

import typer


def schema_command(
    name: Annotated[
        str | None,
        typer.Argument(help="event, or a command's words with hyphens, as gallery-list [default: list them]."),
    ] = None,
) -> None:
    """Print the JSON Schema of events, or of what a command prints with --json.

    Example: edgeface schema event
    """
    from edgeface.schema_files import read_schema, schema_names

    typer.echo("\n".join(schema_names()) if name is None else read_schema(name).rstrip("\n"))
