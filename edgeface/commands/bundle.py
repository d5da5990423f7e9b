"""`edgeface bundle`: what is in it, is it whole, who signed it; signing it, and readying it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edgeface.manifest import Manifest
    from edgeface.runtime.bundle import Bundle

BundleArgument = Annotated[str, typer.Argument(help="Bundle folder or zip, or 'default'.")]


def bundle_keygen_command(
    key: Annotated[Path, typer.Argument(help="Private key to write; the public key goes beside it as KEY.pub.")],
    *,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Encrypt it; asked for, or taken from EDGEFACE_KEY_PASSPHRASE.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace keys that are there.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Make a key pair for signing bundles. Keep KEY to yourself, put KEY.pub on the devices.

    Example: edgeface bundle keygen release.key
    """
    from edgeface.runtime.signing import make_key

    name = make_key(key, passphrase=_passphrase(confirm=True) if passphrase else None, force=force)
    if as_json:
        console.print_json({"key": str(key), "public_key": f"{key}.pub", "fingerprint": name})
        return
    typer.echo(f"private key: {key}\npublic key: {key}.pub\nfingerprint: {name}")


def bundle_sign_command(
    bundle: BundleArgument,
    *,
    key: Annotated[Path, typer.Option(help="Private key of `edgeface bundle keygen`.")],
    as_json: opt.Json = False,
) -> None:
    """Check a bundle and sign it. Whatever changes in it afterwards, the signature no longer fits.

    Example: edgeface bundle sign a.bundle --key release.key
    """
    from edgeface.runtime.bundle import open_for_signing
    from edgeface.runtime.signing import sign_bundle

    name = sign_bundle(open_for_signing(bundle), _private_key(key))
    if as_json:
        console.print_json({"bundle": str(bundle), "signed_by": name})
        return
    typer.echo(f"signed {bundle} with key {name}")


def bundle_verify_command(
    bundle: BundleArgument,
    *,
    key: Annotated[
        list[Path] | None, typer.Option(help="Public key that must have signed it; several times for one of several.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Check every hash, every network and the signature of a bundle; exit code 1 if anything is wrong.

    Without a key, any signature that fits will do, and so will none. Each network is shown a drawn face, the canary,
    and has to answer as it did where the bundle was made.

    Example: edgeface bundle verify a.bundle --key release.key.pub
    """
    from edgeface.errors import BundleError
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.canary import check_canaries

    opened = open_bundle(bundle, require_keys=key or ())
    opened.verify()
    unlisted = opened.unlisted()
    canaries = check_canaries(opened)
    wrong = [check.why for check in canaries if check.state == "different"]
    if as_json:
        console.print_json(
            {
                "bundle": str(bundle),
                "ok": not wrong,
                "files": len(opened.manifest.files),
                "signed_by": opened.signed_by,
                "unlisted": unlisted,
                "canaries": [check.to_json() for check in canaries],
            }
        )
    if wrong:
        raise BundleError(str(wrong[0]))
    if as_json:
        return
    for check in canaries:
        if check.state != "same":
            console.say(f"note: canary of {check.precision}: {check.why}")
    for name in unlisted:
        typer.echo(f"note: {console.printable(name)} is not in the manifest; it is never read", err=True)
    typer.echo(f"{bundle} is whole: {len(opened.manifest.files)} files, {_signed(opened)}")


def bundle_inspect_command(bundle: BundleArgument, *, as_json: opt.Json = False) -> None:
    """Say what a bundle is: files, precisions, scores, thresholds, licences, who signed it. Opens no network."""
    from edgeface.runtime.bundle import open_bundle
    from edgeface.scoring import WORDS

    opened = open_bundle(bundle)
    if as_json:
        facts: dict[str, Any] = opened.manifest.model_dump(mode="json")
        console.print_json(
            {"bundle": str(bundle), "signed_by": opened.signed_by, "unlisted": opened.unlisted(), "manifest": facts}
            | {"lacks": opened.manifest.lacks}
        )
        return
    manifest = opened.manifest
    console.table(
        [
            ["name", manifest.name],
            ["signature", _signed(opened)],
            ["embedding space", f"{manifest.space[:12]}, {manifest.embedder.dimension} numbers"],
            ["detector", manifest.detector.format if manifest.detector else "none"],
            ["quality network", _gate(manifest)],
            ["cohort", manifest.cohort.source if manifest.cohort else "none: scores are plain cosines"],
            ["calibration", _calibration(opened)],
            ["threshold data", _threshold_data(opened)],
            ["opset, IR version", f"{manifest.opset}, {manifest.ir_version}"],
            *([key, str(value)] for key, value in manifest.origin.items()),
            *([f"licence of {what}", text] for what, text in manifest.licences),
            ["tools", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())],
        ],
        ["what", "value"],
    )
    typer.echo()
    rows = []
    for name, entry in manifest.precisions.items():
        accuracy = f"{entry.accuracy.accuracy:.2%} ± {entry.accuracy.accuracy_se:.2%}" if entry.accuracy else "-"
        latency = ", ".join(f"{provider} {ms:.2f} ms" for provider, ms in entry.latency_ms.items())
        rows.append([name, entry.file, f"{entry.min_cosine:.5f}", accuracy, latency])
    console.table(rows, ["precision", "file", "min cosine", "accuracy", "one face, one thread"])
    typer.echo()
    if manifest.thresholds:
        thresholds = [[t.pair, f"{t.fmr:g}", f"{t.cosine:.4f}", str(t.pairs)] for t in manifest.thresholds]
        console.table(thresholds, ["threshold for", "false match rate", WORDS[manifest.scoring], "pairs"])
        typer.echo()
    for text in manifest.lacks:
        typer.echo(f"note: {text}")
    files = [[name, f"{entry.bytes}", entry.sha256] for name, entry in manifest.files.items()]
    console.table(files, ["file", "bytes", "SHA-256"])


def bundle_pack_command(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Argument(help="Zip to write.")],
    *,
    as_json: opt.Json = False,
) -> None:
    """Pack a bundle into one zip. The same bundle gives the same bytes.

    Example: edgeface bundle pack a.bundle a.zip
    """
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.packing import pack_bundle

    opened = open_bundle(bundle)
    size = pack_bundle(opened, out)
    if as_json:
        console.print_json({"bundle": str(out), "bytes": size, "signed_by": opened.signed_by})
        return
    typer.echo(f"packed {bundle} into {out}: {size / 1e6:.2f} MB, {_signed(opened)}")


def bundle_warm_command(
    bundle: BundleArgument,
    *,
    provider: Annotated[str, typer.Option(help="Provider that compiles.")] = "tensorrt",
    precision: Annotated[
        str, typer.Option(help="Precisions to build, such as fp16,fp32 [default: what auto takes there].")
    ] = "",
    device: opt.Device = None,
    memory_limit: opt.MemoryLimit = None,
    detect_size: Annotated[
        int, typer.Option(min=32, help="As `edgeface run` is started with; engines are made for it.")
    ] = 640,
    require_key: opt.RequireKey = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Build TensorRT engines ahead, so that no camera waits minutes for them. What is there already stays.

    They hold for this bundle, GPU, driver, TensorRT and onnxruntime; when one of these changes, build them again.

    Example: edgeface bundle warm my.bundle
    """
    from edgeface.commands.providers import chosen
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.providers.warming import warm

    opened = open_bundle(bundle, require_keys=require_key or ())
    choice = chosen(provider, device=device, memory_limit=memory_limit)
    with console.progress("building engines", quiet or as_json) as advance:
        ready = warm(
            opened,
            choice,
            precisions=console.comma_list(precision),
            max_side=detect_size,
            announce=lambda text: console.say(text, quiet),
            advance=advance,
        )
    if as_json:
        console.print_json(
            {
                "bundle": str(bundle),
                "provider": provider,
                "engines": [
                    {"network": e.network, "built_s": e.built_s, "bytes": e.bytes, "folder": str(e.folder)}
                    for e in ready
                ],
            }
        )
        return
    rows = [
        [e.network, f"{e.built_s:.0f} s" if e.built_s else "was there", f"{e.bytes / 1e6:.1f} MB", str(e.folder)]
        for e in ready
    ]
    console.table(rows, ["network", "built in", "size", "folder"])


def _signed(bundle: "Bundle") -> str:
    return f"signed by key {bundle.signed_by}" if bundle.signed_by else "not signed"


def _calibration(bundle: "Bundle") -> str:
    calibration = bundle.manifest.calibration
    if calibration is None:
        return "not stated"
    return f"{calibration.images} faces, {calibration.source}, hash {calibration.sha256[:12]}"


def _threshold_data(bundle: "Bundle") -> str:
    data = bundle.manifest.threshold_data
    if data is None:
        return "not stated"
    people = "" if data.people is None else f" of {data.people} people"
    alike = " of people who are alike" if data.only_alike else ""
    return f"{data.name}, {data.faces} faces{people}, {data.independent} independent impostor pairs{alike}"


def _private_key(path: Path) -> "Ed25519PrivateKey":
    """Read a private key, asking for its passphrase where there is somebody to ask."""
    from edgeface.runtime.signing import is_encrypted, read_private_key

    return read_private_key(path, _passphrase(confirm=False) if is_encrypted(path) else None)


def _gate(manifest: "Manifest") -> str:
    """Say what the gate of a bundle asks for."""
    if (entry := manifest.quality) is None:
        return "none: covered, turned and cut faces are not told apart"
    loss = f"; scores are lower by {entry.allowance:g} a unit below that" if entry.allowance else ""
    return f"fitness {entry.min_fitness:.2f} to be compared, {entry.enrol_fitness:.2f} to become a template{loss}"


def _passphrase(*, confirm: bool) -> str:
    from edgeface.errors import ConfigError
    from edgeface.runtime.signing import PASSPHRASE_VARIABLE

    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not sys.stdin.isatty():
        raise ConfigError(f"there is nobody to ask for the passphrase; set {PASSPHRASE_VARIABLE}")
    answer: str = typer.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer
