"""`edgeface gallery`: who is in it, and the file as a whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.commands import console
from edgeface.commands import options as opt

if TYPE_CHECKING:
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.gallery.people import TakenIn

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Join = Annotated[
    bool, typer.Option("--join", help="Somebody of the same name is the same person; otherwise that is an error.")
]
FileKey = Annotated[str | None, typer.Option(help="Key of that file [default: the gallery's]; as in --gallery-key.")]


def gallery_list_command(
    name: Annotated[str | None, typer.Argument(help="List the templates of this person instead.")] = None,
    *,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """List the people in a gallery, or the templates of one of them.

    Example: edgeface gallery list alice
    """
    if name is not None:
        _list_templates(name, gallery, gallery_key, as_json)
        return
    with _open(gallery, gallery_key) as opened:
        people, space, encrypted, path = opened.list(), opened.space_id, opened.encrypted, opened.path
    if as_json:
        listed = [
            {"name": p.name, "templates": p.templates, "created": p.created, "precisions": p.precisions} for p in people
        ]
        console.print_json({"gallery": str(path), "space": space, "encrypted": encrypted, "people": listed})
        return
    if not people:
        typer.echo(f"{path} is empty; add somebody with `edgeface enroll NAME --image FILE`")
        return
    rows = [[p.name, str(p.templates), ", ".join(p.precisions) or "not known", p.created] for p in people]
    console.table(rows, ["name", "templates", "precision", "enrolled"])
    if not encrypted:
        console.say(f"{path} is not encrypted; see `edgeface gallery encrypt --help`")


def _list_templates(name: str, gallery: Path | None, gallery_key: str | None, as_json: bool) -> None:
    with _open(gallery, gallery_key) as opened:
        found = opened.details(name)
    if as_json:
        listed = [
            {"id": t.id, "quality": t.quality, "source": t.source, "precision": t.precision, "created": t.created}
            for t in found
        ]
        console.print_json({"name": name, "templates": listed})
        return
    rows = [
        [
            str(t.id),
            "not known" if t.quality is None else f"{t.quality:.3f}",
            t.precision or "not known",
            t.created,
            t.source,
        ]
        for t in found
    ]
    console.table(rows, ["template", "quality", "precision", "enrolled", "source"])


def gallery_remove_command(
    name: Annotated[str, typer.Argument(help="Who to remove.")],
    *,
    template: Annotated[
        int | None, typer.Option(help="Only this template, by its number in `edgeface gallery list NAME`.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Erase the name from the gallery's log, too.")] = False,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Remove a person, with every template, from a gallery."""
    from edgeface.errors import ConfigError

    if forget and template is not None:
        raise ConfigError("--forget goes with removing the whole person; leave out --template")
    with _open(gallery, gallery_key, "remove") as opened:
        removed = opened.remove(name, template=template, forget=forget)
        path = opened.path
    if as_json:
        console.print_json({"name": name, "templates": removed, "gallery": str(path)})
        return
    what = f"{name} ({removed} templates)" if template is None else f"template {template} of {name}"
    typer.echo(f"removed {what} from {path}")


def gallery_rename_command(
    name: Annotated[str, typer.Argument(help="Who to rename.")],
    new: Annotated[str, typer.Argument(help="The new name.")],
    *,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Give a person another name."""
    with _open(gallery, gallery_key, "rename") as opened:
        opened.rename(name, new)
        path = opened.path
    if as_json:
        console.print_json({"name": new, "was": name, "gallery": str(path)})
        return
    typer.echo(f"{name} is now {new} in {path}")


def gallery_merge_command(
    name: Annotated[str | None, typer.Argument(help="Who is to become part of INTO.")] = None,
    into: Annotated[str | None, typer.Argument(help="Who they really are.")] = None,
    *,
    source: Annotated[
        Path | None, typer.Option("--from", help="Instead: add everybody from this other gallery file.")
    ] = None,
    file_key: FileKey = None,
    join: Join = False,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Merge two people into one, or another gallery into this one.

    Examples:

      edgeface gallery merge "Al Smith" Albert

      edgeface gallery merge --from other.db
    """
    from edgeface.errors import ConfigError
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.gallery.importing import merge_gallery
    from edgeface.runtime.gallery.reader import is_encrypted

    if source is not None and name is None:
        key = None
        if file_key is not None or is_encrypted(source):
            key = console.gallery_key(gallery_key if file_key is None else file_key)
        with Gallery(source, key=key) as other, _open(gallery, gallery_key, "merge") as opened:
            _tell_taken_in(merge_gallery(opened, other, join=join), source, opened.path, as_json)
        return
    if source is not None or name is None or into is None:
        raise ConfigError("give two names to merge one person into another, or --from with another gallery")
    with _open(gallery, gallery_key, "merge") as opened:
        moved = opened.merge(name, into)
        path = opened.path
    if as_json:
        console.print_json({"name": into, "was": name, "templates": moved, "gallery": str(path)})
        return
    typer.echo(f"{name} is now {into}, who got {moved} templates more in {path}")


def gallery_export_command(
    out: Annotated[Path, typer.Argument(help="File to write.")],
    *,
    file_key: FileKey = None,
    plain: Annotated[bool, typer.Option("--plain", help="Do not encrypt the file, though the gallery is.")] = False,
    force: Force = False,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Write everybody in a gallery into one file, for another device or as a copy. Encrypted as the gallery is.

    Example: edgeface gallery export people.jsonl
    """
    from edgeface.errors import ConfigError
    from edgeface.runtime.gallery.exchange import export_gallery

    if plain and file_key is not None:
        raise ConfigError("--plain and --file-key exclude each other; give one of them")
    key = None if plain else console.gallery_key(file_key if file_key is not None else gallery_key)
    with _open(gallery, gallery_key, "export") as opened:
        templates = export_gallery(opened, out, key, force=force)
    if as_json:
        console.print_json({"file": str(out), "templates": templates, "encrypted": key is not None})
        return
    typer.echo(f"wrote {templates} templates to {out}, {'encrypted' if key else 'not encrypted'}")


def gallery_import_command(
    file: Annotated[Path, typer.Argument(help="File of `edgeface gallery export`.")],
    *,
    file_key: FileKey = None,
    join: Join = False,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Add everybody from an exported file, or nobody if anything in it is wrong. Makes the gallery if there is none.

    Example: edgeface gallery import people.jsonl --gallery new.db
    """
    from edgeface.runtime.gallery.export_reader import read_export
    from edgeface.runtime.gallery.gallery import Gallery
    from edgeface.runtime.gallery.importing import take_in

    key = console.gallery_key(gallery_key)
    export = read_export(file, key if file_key is None else console.gallery_key(file_key))
    path = gallery or console.default_gallery()
    with Gallery(
        path, export.space, export.dimension, create=True, key=key, command="edgeface gallery import"
    ) as opened:
        _tell_taken_in(take_in(opened, export.people, file.name, join=join), file, path, as_json)


def gallery_log_command(
    *,
    head: Annotated[
        bool, typer.Option("--head", help="Print only the head of the log, to be kept elsewhere for --expect-head.")
    ] = False,
    expect_head: Annotated[
        str | None,
        typer.Option(help="Fail unless the gallery has gone on from this head: an older file was not put back."),
    ] = None,
    gallery: opt.GalleryPath = None,
    gallery_key: opt.GalleryKeyPlace = None,
    as_json: opt.Json = False,
) -> None:
    """Show who was enrolled, renamed, merged or removed, when, and by whom; exit code 1 if the log was altered.

    Examples:

      edgeface gallery log --head

      edgeface gallery log --expect-head 12:4f0c...
    """
    from edgeface.errors import GalleryError

    with _open(gallery, gallery_key) as opened:
        report, path = opened.log(), opened.path
    if head and report.broken is None:
        console.print_json({"gallery": str(path), "head": report.head}) if as_json else typer.echo(report.head)
    elif as_json:
        entries = [
            {
                "id": e.id,
                "time": e.time,
                "action": e.action,
                "names": e.names,
                "subject": e.subject,
                "detail": e.detail,
                "command": e.command,
                "user": e.user,
            }
            for e in report.entries
        ]
        facts = {"gallery": str(path), "ok": report.broken is None, "why": report.broken}
        console.print_json({**facts, "head": report.head, "log": entries})
    elif not head:
        rows = [
            [
                str(e.id),
                e.time,
                e.action,
                "(erased)" if e.names is None else " -> ".join(e.names),
                str(e.detail.get("templates", "")),
                e.user,
                e.command,
            ]
            for e in report.entries
        ]
        console.table(rows, ["entry", "time", "what", "who", "templates", "user", "command"])
    if report.broken is not None:
        raise GalleryError(f"the log of gallery {path} was altered: {report.broken}; compare it with a copy")
    if expect_head is not None and not report.went_on_from(expect_head):
        raise GalleryError(
            f"gallery {path} has not gone on from the head {expect_head[:20]}: an older or another file is in its "
            "place; restore a later copy"
        )


def _tell_taken_in(result: "TakenIn", source: Path, path: Path, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "from": str(source),
                "gallery": str(path),
                "people": result.people,
                "templates": result.templates,
                "skipped": result.skipped,
            }
        )
        return
    known = f"; {result.skipped} were there already" if result.skipped else ""
    typer.echo(f"{path} got {result.templates} templates from {source}, {result.people} people are new{known}")


def _open(gallery: Path | None, gallery_key: str | None, command: str = "") -> "Gallery":
    from edgeface.runtime.gallery.gallery import Gallery

    path = gallery or console.default_gallery()
    return Gallery(path, key=console.gallery_key(gallery_key), command=f"edgeface gallery {command}".strip())
