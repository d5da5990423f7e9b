"""`edgeface doctor`: what can this machine do?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def doctor_command(
    *,
    bundle: Annotated[str | None, typer.Option("--bundle", "-b", help="Check this bundle too.")] = None,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    require_key: opt.RequireKey = None,
    outbox: Annotated[
        Path | None,
        typer.Option(help="Say what waits in this outbox and what was set aside; the usual one if there is."),
    ] = None,
    device: opt.Device = None,
    provider_library: opt.ProviderLibrary = None,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="Remove what was measured and built on this machine, and stop.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Report providers (and why one is missing), cameras, display, caches, versions, and the health of a bundle.

    With a bundle it also says how many nodes of each network each provider runs.
    """
    from edgeface.commands.providers import chosen
    from edgeface.runtime.doctor import examine
    from edgeface.runtime.providers.caches import clear_caches

    if clear_cache:
        freed = clear_caches()
        if as_json:
            console.print_json({"freed_bytes": freed})
        else:
            typer.echo(f"freed {freed / 1e6:.1f} MB")
        return
    choice = chosen("auto", device=device, libraries=provider_library)
    usual = console.default_outbox()
    report = examine(
        bundle, gallery, require_key or (), choice, gallery_key, outbox or (usual if usual.is_file() else None)
    )
    if as_json:
        console.print_json(report)
        return
    for provider in report["providers"]:
        typer.echo(f"provider {provider['name']}: {'works' if provider['works'] else 'no: ' + str(provider['why'])}")
    if not report["wheels"]["ok"]:
        typer.echo(f"wheels: {report['wheels']['why']}")
    cameras = ", ".join(camera["name"] for camera in report["cameras"]) or "none found"
    typer.echo(f"cameras: {cameras}")
    typer.echo(f"display: {'yes' if report['display'] else 'no; run goes headless'}")
    typer.echo(f"processor: {report['processor']}")
    for what in ("bundle", "gallery", "search", "outbox"):
        if report[what] is not None:
            typer.echo(f"{what}: {'ok' if report[what]['ok'] else report[what]['why']}")
    if report["gallery"] is not None and report["gallery"]["ok"]:
        typer.echo(f"gallery encryption: {'on' if report['gallery']['encrypted'] else 'none, templates are plain'}")
    if report["bundle"] is not None and "canaries" in report["bundle"]:
        for row in report["bundle"]["canaries"]:
            typer.echo(f"canary of {row['precision']} on {row['provider']}: {row['state']}")
        signer = report["bundle"]["signed_by"]
        typer.echo(f"bundle signature: {f'by key {signer}' if signer else 'none'}")
        for text in report["bundle"]["lacks"]:
            typer.echo(f"bundle note: {text}")
        for row in report["bundle"]["placement"]:
            typer.echo(f"{row['network']} on {row['provider']}: {_placed(row)}")
    for cache in report["caches"]:
        typer.echo(f"cache: {cache['what']}, {cache['files']} files, {cache['bytes'] / 1e6:.1f} MB in {cache['path']}")
    typer.echo("versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))


def _placed(row: dict[str, Any]) -> str:
    nodes = ", ".join(f"{count} nodes on {provider}" for provider, count in (row["nodes"] or {}).items())
    unknown = "all of it" if row["provider"] == "cpu" else "this onnxruntime does not tell how much of it"
    return "; ".join(filter(None, (nodes, row["why"]))) or unknown
