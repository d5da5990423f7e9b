"""`edgeface doctor`: what can this machine do?"""

from typing import Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt


def doctor_command(
    *,
    bundle: Annotated[str | None, typer.Option("--bundle", "-b", help="Check this bundle too.")] = None,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    require_key: opt.RequireKey = None,
    as_json: opt.Json = False,
) -> None:
    """Report providers (and why one is missing), cameras, display, versions, and the health of a bundle."""
    from edgeface.runtime.doctor import examine

    report = examine(bundle, gallery, require_key or (), gallery_key)
    if as_json:
        console.print_json(report)
        return
    for provider in report["providers"]:
        typer.echo(f"provider {provider['name']}: {'works' if provider['works'] else 'no: ' + str(provider['why'])}")
    cameras = ", ".join(camera["name"] for camera in report["cameras"]) or "none found"
    typer.echo(f"cameras: {cameras}")
    typer.echo(f"display: {'yes' if report['display'] else 'no; run goes headless'}")
    typer.echo(f"processor: {report['processor']}")
    for what in ("bundle", "gallery", "search"):
        if report[what] is not None:
            typer.echo(f"{what}: {'ok' if report[what]['ok'] else report[what]['why']}")
    if report["gallery"] is not None and report["gallery"]["ok"]:
        typer.echo(f"gallery encryption: {'on' if report['gallery']['encrypted'] else 'none, templates are plain'}")
    if report["bundle"] is not None and report["bundle"]["ok"]:
        signer = report["bundle"]["signed_by"]
        typer.echo(f"bundle signature: {f'by key {signer}' if signer else 'none'}")
    typer.echo("versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))
