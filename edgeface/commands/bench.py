"""`edgeface bench`: how long do the stages take on this device, and does int8 pay here?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def bench_command(
    *,
    bundle: opt.BundlePath = "default",
    precision: Annotated[str, typer.Option(help="Precisions to time, such as fp32,int8 [default: all it has].")] = "",
    provider: Annotated[str, typer.Option(help="Providers, such as cpu,cuda [default: all that work].")] = "",
    device: opt.Device = None,
    memory_limit: opt.MemoryLimit = None,
    provider_library: opt.ProviderLibrary = None,
    build_engines: opt.BuildEngines = False,
    cuda_graph: opt.CudaGraph = True,
    threads: Annotated[str, typer.Option(help="Numbers of CPU threads, such as 1,2.")] = "1",
    faces: Annotated[int, typer.Option(min=1, max=1024, help="Faces in a call of the embedder.")] = 1,
    runs: Annotated[int, typer.Option(min=10, help="Rounds; in each, everything runs once.")] = 100,
    image: Annotated[Path | None, typer.Option(help="Picture to detect in [default: a grey one of 640 x 480].")] = None,
    require_key: opt.RequireKey = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Time detection, alignment and embedding, every precision and provider side by side, and say whether int8 pays.

    What one face takes on one thread is remembered for this bundle and onnxruntime: `--precision auto` takes the
    fastest as measured here, not where the bundle was exported. So is whether several faces are faster in one run.

    Example: edgeface bench --bundle my.bundle --threads 1,4
    """
    import numpy as np

    from edgeface.commands.providers import chosen
    from edgeface.errors import ConfigError
    from edgeface.images import read_photograph
    from edgeface.runtime.bench import measure
    from edgeface.runtime.bundle import open_bundle

    try:
        counts = [int(part) for part in console.comma_list(threads)]
    except ValueError:
        counts = []
    if not counts or not all(0 <= count <= opt.MOST_THREADS for count in counts):
        raise ConfigError(f"--threads takes numbers, such as 1,2; got {threads!r}")
    frame = np.full((480, 640, 3), 127, np.uint8) if image is None else read_photograph(image).image
    choice = chosen(
        "auto",
        device=device,
        memory_limit=memory_limit,
        libraries=provider_library,
        build_engines=build_engines,
        cuda_graph=cuda_graph,
    )
    with console.progress("timing", quiet or as_json) as advance:
        result = measure(
            open_bundle(bundle, require_keys=require_key or ()),
            frame,
            precisions=console.comma_list(precision),
            providers=console.comma_list(provider),
            threads=counts,
            faces=faces,
            runs=runs,
            choice=choice,
            advance=advance,
        )
    if as_json:
        console.print_json(
            {
                "device": result.device,
                "rows": [asdict(row) for row in result.rows],
                "int8": [asdict(verdict) | {"says": str(verdict)} for verdict in result.verdicts],
                "batches": [asdict(gain) | {"says": str(gain)} for gain in result.batches],
                "skipped": result.skipped,
                "warnings": result.warnings,
                "auto": result.auto,
            }
        )
        return
    rows = [
        [
            row.stage + (f", {row.faces} faces" if row.faces > 1 else ""),
            row.precision or "-",
            row.provider or "-",
            str(row.threads),
            *(f"{ms:.2f} ms" for ms in (row.p50_ms, row.p95_ms, row.p99_ms)),
            "-" if row.memory_mb is None else f"{row.memory_mb:.0f} MB",
        ]
        for row in result.rows
    ]
    console.table(rows, ["stage", "precision", "provider", "threads", "p50", "p95", "p99", "memory"])
    for verdict in result.verdicts:
        typer.echo(str(verdict))
    for gain in result.batches:
        typer.echo(str(gain))
    for warning in result.warnings:
        console.say(f"warning: {warning}")
    for reason in result.skipped:
        console.say(f"not measured: {reason}", quiet)
    typer.echo(f"--precision auto takes {result.auto} here")
