"""Galleries that go to another device and come from an enemy; people and galleries that become one."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import ConfigError, EdgefaceError, GalleryError
from edgeface.runtime.gallery import export_reader as gallery_export_reader
from edgeface.runtime.gallery.exchange import export_gallery
from edgeface.runtime.gallery.export_reader import read_export
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.importing import merge_gallery, take_in
from edgeface.runtime.gallery.key import GalleryKey
from tests.test_gallery import DIMENSION, SPACE, unit

KEY = GalleryKey(bytes(range(32)), "k")
OTHER = GalleryKey(bytes(32), "o")


def make(path: Path, key: GalleryKey | None = None, space: str = SPACE) -> Gallery:
    return Gallery(path, space, DIMENSION, create=True, key=key)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = make(tmp_path / "people.db")
    made.enroll("Zoë", [Template(unit(0), 0.5, "a.jpg", "fp32"), Template(unit(1))])
    made.add("Bo", unit(2), 0.25, "b\nad.jpg")
    return made


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def sealed_with_hash(body: list[dict[str, Any]]) -> bytes:
    """Write what `export_gallery` would, from scratch and without its checks."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in body)
    end = {"templates": len(body) - 1, "sha256": hashlib.sha256(data).hexdigest()}
    return data + json.dumps(end).encode() + b"\n"


HEADER = {"format": "edgeface gallery", "version": 1, "space": SPACE, "dimension": DIMENSION, "encryption": "none"}
LINE = {
    "name": "Al",
    "embedding": base64.b64encode(unit(0).astype("<f4").tobytes()).decode(),
    "quality": None,
    "source": "",
    "precision": None,
    "created": "2026-01-01T00:00:00+00:00",
}


# --- there and back


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_everything_comes_back_bit_for_bit(gallery: Gallery, tmp_path: Path, key: GalleryKey | None) -> None:
    file = tmp_path / "people.jsonl"
    assert export_gallery(gallery, file, key) == 3
    assert file.stat().st_mode & 0o777 == 0o600
    assert ("Zoë".encode() in file.read_bytes()) == (key is None)
    export = read_export(file, key)
    assert (export.space, export.dimension, export.encrypted) == (SPACE, DIMENSION, key is not None)
    with make(tmp_path / "new.db", KEY) as new:
        taken = take_in(new, export.people, "people.jsonl")
        assert (taken.people, taken.templates, taken.skipped) == (2, 3, 0)
        assert new.contents() == gallery.contents()
        again = take_in(new, export.people, "people.jsonl")
        assert (again.people, again.templates, again.skipped) == (0, 0, 3)
        assert new.contents() == gallery.contents()
        actions = [(e.action, e.names, e.detail.get("origin")) for e in new.log().entries]
        assert actions == [("imported", ("Zoë",), "people.jsonl"), ("imported", ("Bo",), "people.jsonl")]
    assert gallery.log().entries[-1].action == "exported"
    with pytest.raises(ConfigError, match="exists; give another name"):
        export_gallery(gallery, file, key)
    export_gallery(gallery, file, key, force=True)


def test_the_format_is_as_documented(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(sealed_with_hash([HEADER, LINE, {**LINE, "name": "Bo", "quality": 0.5, "precision": "int8"}]))
    people = read_export(file).people
    assert list(people) == ["Al", "Bo"]
    np.testing.assert_array_equal(np.frombuffer(people["Al"][0].embedding, "<f4"), unit(0))
    assert (people["Bo"][0].quality, people["Bo"][0].precision) == (0.5, "int8")


# --- what an enemy writes


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ({"format": "x"}, {}, "not an exported gallery of version 1: format"),
        ({"version": 2}, {}, "not an exported gallery of version 1: version"),
        ({"version": "1"}, {}, "version"),
        ({"dimension": 0}, {}, "dimension"),
        ({"dimension": 10**9}, {}, "dimension"),
        ({"space": "a\x1b[31m"}, {}, "space"),
        ({"more": 1}, {}, "more: Extra inputs"),
        ({"encryption": "rot13"}, {}, "encryption"),
        ({"encryption": "aes-256-gcm"}, {}, "does not say how the file is encrypted"),
        ({"dimension": 8}, {}, r"line 2 .* has 64 bytes, not 32"),
        ({}, {"name": ""}, "line 2 cannot be used: a person's name is empty"),
        ({}, {"name": "a\nb"}, r"control character U\+000A"),
        ({}, {"name": " Al"}, "is not spelt as a gallery spells it"),
        ({}, {"name": "Zoe\u0308"}, "is not spelt"),
        ({}, {"name": 7}, "name: Input should be a valid string"),
        ({}, {"embedding": "@@@@"}, "not base64"),
        ({}, {"embedding": "AAAA"}, "has 3 bytes, not 64"),
        ({}, {"embedding": base64.b64encode(bytes(64)).decode()}, "length 0 instead of 1"),
        ({}, {"embedding": base64.b64encode(b"\xff" * 64).decode()}, "length nan instead of 1"),
        ({}, {"embedding": base64.b64encode((unit(0) * 2).tobytes()).decode()}, "length 2 instead of 1"),
        ({}, {"embedding": "A" * 20000}, "longer than"),
        ({}, {"quality": float("nan")}, "quality|JSON"),
        ({}, {"quality": "0.5"}, "quality"),
        ({}, {"precision": "a,b"}, "precision"),
        ({}, {"created": "yesterday"}, "time is not ISO 8601"),
        ({}, {"created": "2026-01-01T00:00:00"}, "time is not ISO 8601 with a time zone"),
        ({}, {"source": "x" * 1001}, "source"),
        ({}, {"extra": []}, "extra: Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, header: dict[str, Any], line: dict[str, Any], message: str
) -> None:
    file = tmp_path / "x"
    file.write_bytes(sealed_with_hash([HEADER | header, LINE | line]))
    with pytest.raises(GalleryError, match=message) as caught:
        read_export(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("what", ["cut", "drop", "swap", "twice", "flip", "more", "no newline"])
def test_lines_that_were_left_out_moved_or_changed_show(
    gallery: Gallery, tmp_path: Path, key: GalleryKey | None, what: str
) -> None:
    file = tmp_path / "x"
    export_gallery(gallery, file, key)
    first, one, two, three, end = lines(file)
    flipped = (
        one.replace(b"5", b"6", 1) if key is None else one[:40] + (b"A" if one[40:41] != b"A" else b"B") + one[41:]
    )
    changed = {
        "cut": [first, one, two, three],
        "drop": [first, one, three, end],
        "swap": [first, two, one, three, end],
        "twice": [first, one, one, two, three, end],
        "flip": [first, flipped, two, three, end],
        "more": [first, one, two, three, end, one],
        "no newline": [first, one, two, three, end[:-1]],
    }[what]
    file.write_bytes(b"".join(changed))
    with pytest.raises(GalleryError, match=r"line \d+ cannot be used|is cut off"):
        read_export(file, key)


def test_an_encrypted_file_needs_its_own_key(gallery: Gallery, tmp_path: Path) -> None:
    file = tmp_path / "x"
    export_gallery(gallery, file, KEY)
    with pytest.raises(GalleryError, match="is encrypted; give its key with --file-key"):
        read_export(file)
    with pytest.raises(GalleryError, match=r"o does not open .*: it is key"):
        read_export(file, OTHER)
    first, *rest = lines(file)
    file.write_bytes(b"".join([first.replace(SPACE.encode(), b"b" * 64), *rest]))
    with pytest.raises(GalleryError, match=r"does not open|altered"):
        read_export(file, KEY)


@given(st.binary(max_size=300) | st.lists(st.sampled_from([json.dumps(HEADER), json.dumps(LINE), "{", "[" * 9000])).map(
    lambda parts: "\n".join(parts).encode()
))  # fmt: skip
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(data)
    with pytest.raises(GalleryError) as caught:
        read_export(file)
    assert "\n" not in str(caught.value)


def test_too_many_templates_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_export_reader, "MAX_TEMPLATES", 2)
    file = tmp_path / "x"
    file.write_bytes(sealed_with_hash([HEADER, LINE, LINE, LINE]))
    with pytest.raises(GalleryError, match="more than 2 templates"):
        read_export(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="exported gallery not found"):
        read_export(tmp_path / "none")
    with pytest.raises(GalleryError, match="cannot be read"):
        read_export(tmp_path)


# --- becoming one


def test_somebody_of_the_same_name_is_not_taken_for_the_same_person(gallery: Gallery, tmp_path: Path) -> None:
    with make(tmp_path / "other.db", KEY) as other:
        other.enroll("Bo", [Template(unit(2)), Template(unit(7))])  # the first one is in the gallery already
        other.add("Cy", unit(8))
        before = gallery.contents()
        with pytest.raises(GalleryError, match=r"has somebody called 'Bo' already; rename one, or say with --join"):
            merge_gallery(gallery, other)
        assert gallery.contents() == before
        taken = merge_gallery(gallery, other, join=True)
    assert (taken.people, taken.templates, taken.skipped) == (1, 2, 1)
    assert {p.name: p.templates for p in gallery.list()} == {"Bo": 2, "Cy": 1, "Zoë": 2}


def test_galleries_of_two_spaces_do_not_mix(gallery: Gallery, tmp_path: Path) -> None:
    with make(tmp_path / "other.db", space="b" * 64) as other:
        other.add("Cy", unit(8))
        with pytest.raises(
            GalleryError, match=r"is of embedding space b{12}, and .* of a{12}: they cannot be compared"
        ):
            merge_gallery(gallery, other)


def test_renaming(gallery: Gallery) -> None:
    gallery.rename(" Bo ", "Boris")
    assert [p.name for p in gallery.list()] == ["Boris", "Zoë"]
    assert gallery.templates()[0] == ("Zoë", "Zoë", "Boris")
    with pytest.raises(GalleryError, match=r"somebody is called 'Zoë' .* already; merge them"):
        gallery.rename("Boris", "Zoe\u0308")
    with pytest.raises(GalleryError, match="nobody is called 'Bo'"):
        gallery.rename("Bo", "x")


def test_merging_keeps_what_is_known_of_each_template(gallery: Gallery) -> None:
    before = [*gallery.details("Zoë"), *gallery.details("Bo")]
    assert gallery.merge("Bo", "Zoë") == 1
    assert list(gallery.details("Zoë")) == before
    assert [p.name for p in gallery.list()] == ["Zoë"]
    with pytest.raises(GalleryError, match="give two names"):
        gallery.merge("Zoë", "Zoë")


def test_one_template_can_be_removed(gallery: Gallery) -> None:
    first, second = gallery.details("Zoë")
    (foreign,) = gallery.details("Bo")
    with pytest.raises(GalleryError, match="there are"):
        gallery.remove("Zoë", template=foreign.id)
    assert gallery.remove("Zoë", template=first.id) == 1
    assert gallery.details("Zoë") == (second,)
    with pytest.raises(GalleryError, match="it is the only one"):
        gallery.remove("Zoë", template=second.id)


def test_a_source_that_is_no_text_is_stored(gallery: Gallery) -> None:
    gallery.add("Cy", unit(4), float("nan"), "face\udcff.jpg" + "x" * 2000)
    (info,) = gallery.details("Cy")
    assert info.source.startswith("face?.jpg") and len(info.source) == 1000 and info.quality is None


# --- on the command line


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def fails(message: str, *arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0], result.output


def test_the_life_of_a_gallery(gallery: Gallery, tmp_path: Path) -> None:
    gallery.close()
    key, new, file = tmp_path / "k", tmp_path / "k2", tmp_path / "people.jsonl"
    at = ["--gallery", gallery.path]
    run("gallery", "keygen", key)
    run("gallery", "keygen", new)
    assert run("gallery", "list", *at, "--json")["encrypted"] is False
    fails("give the key to encrypt with", "gallery", "encrypt", *at)
    assert run("gallery", "encrypt", *at, "--gallery-key", key, "--json")["templates"] == 3
    fails("is encrypted; give its key", "gallery", "list", *at)
    run("gallery", "rekey", *at, "--gallery-key", key, "--new-key", new)
    fails("does not open gallery", "gallery", "list", *at, "--gallery-key", key)
    with_key = [*at, "--gallery-key", new]
    assert run("gallery", "list", *with_key, "--json")["encrypted"] is True
    assert "a.jpg" in run("gallery", "list", "Zoë", *with_key)
    run("gallery", "rename", "Bo", "Al", *with_key)
    exported = run("gallery", "export", file, *with_key, "--json")
    assert exported == {"schema": 1, "file": str(file), "templates": 3, "encrypted": True}
    run("gallery", "remove", "Al", *with_key)
    fails("is encrypted; give its key with --file-key", "gallery", "import", file, "--gallery", tmp_path / "n.db")
    assert run("gallery", "import", file, *with_key, "--json")["skipped"] == 2
    run("gallery", "import", file, "--gallery", tmp_path / "n.db", "--file-key", new)
    run("gallery", "merge", "Al", "Zoë", "--gallery", tmp_path / "n.db")
    fails(
        "has somebody called 'Zoë' already",
        "gallery",
        "merge",
        "--from",
        tmp_path / "n.db",
        *with_key,
    )
    fails("is encrypted already", "gallery", "encrypt", *with_key)
    log = run("gallery", "log", *with_key, "--json")
    assert log["ok"] is True
    assert [e["command"] for e in log["log"]][2:4] == ["edgeface gallery encrypt", "edgeface gallery rekey"]
    run("gallery", "decrypt", *with_key)
    assert "Zoë" in run("gallery", "list", *at)
    assert "imported" in run("gallery", "log", *at)
    facts = run("doctor", *at, "--json")["gallery"]
    assert facts == {"ok": True, "why": None, "people": 2, "encrypted": False}


def test_adding_is_enrolling() -> None:
    assert "Add a person to the gallery" in run("gallery", "add", "--help")


def test_merging_needs_two_names_or_a_gallery(gallery: Gallery) -> None:
    fails("give two names", "gallery", "merge", "Bo", "--gallery", gallery.path)
    fails("gallery not found", "gallery", "merge", "--from", "/no/gallery.db", "--gallery", gallery.path)


def test_the_key_of_the_environment_counts(gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.close()
    monkeypatch.setenv("EDGEFACE_GALLERY_KEY", KEY.raw.hex())
    run("gallery", "encrypt", "--gallery", gallery.path)
    assert run("gallery", "list", "--gallery", gallery.path, "--json")["encrypted"] is True
    assert issubclass(GalleryError, EdgefaceError)
