"""`edgeface compare`: which loss?"""

from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def compare_command(
    *,
    data: opt.Data = None,
    out: Annotated[Path, typer.Option(help="Folder for results, table and pictures.")] = Path("runs/compare"),
    losses: Annotated[
        str, typer.Option(help="Such as softmax,triplet:semi-hard,arcface:margin=0.3 [default: every loss].")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each loss.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the faces.")] = None,
    model: Annotated[str | None, typer.Option(help="Network, such as resnet-nano or mobilefacenet.")] = None,
    embedding_size: Annotated[int | None, typer.Option(min=1, help="Numbers in an embedding.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=opt.MOST_THREADS, help="Runs at a time [default: one a core].")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of every run: optimizer.lr=1e-3.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take what --out has of the same settings already.")] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train one network under each loss on the same faces and steps, and measure people never trained on.

    Without --data the faces are drawn. Of --data, the split val is measured, or people that are held out
    (--set data.val_identities=0.3).

    Example: edgeface compare --losses softmax,cosface,arcface,triplet:semi-hard --seeds 3 --out runs/compare
    """
    from dataclasses import asdict

    from edgeface.commands.signals import stop_on_signals
    from edgeface.comparison.comparison import Settings, compare, plan
    from edgeface.comparison.contenders import contenders
    from edgeface.comparison.people import drawn_people, opened_people
    from edgeface.comparison.results import ResultFile
    from edgeface.comparison.table import cells
    from edgeface.comparison.workers import cores

    named = {"run.epochs": epochs, "model.name": model, "model.embedding_size": embedding_size}
    overrides = (*(set_ or ()), *(f"{key}={value}" for key, value in named.items() if value is not None))
    settings = Settings(contenders(console.comma_list(losses)), overrides, seeds, jobs or cores())
    plan(settings)  # what is wrong with the options is said before faces are painted
    file = ResultFile(out, resume)
    config = settings.contenders[0].config(overrides)
    silent = quiet or as_json
    if data is None:
        console.say("painting faces", silent)
        people = drawn_people(config.run.val_pairs, settings.workers)
    else:
        people = opened_people(data, config.data, config.run.val_pairs)
    with stop_on_signals() as stop, console.progress("comparing", silent) as advance:
        result = compare(settings, people, file, advance=advance, stop=stop.is_set)
    if as_json:
        console.print_json(
            {"rows": [asdict(row) for row in result.rows], "files": [str(path) for path in result.files]}
        )
        return
    header, *lines = cells(result.rows)
    console.table(lines, header)
    for row in result.rows:
        if row.error:
            console.say(f"{row.loss}: {row.error}")
    for path in result.files:
        typer.echo(f"  {path}")
