"""Encrypted galleries: what an enemy can read in the file, alter in it, or put into it."""

import base64
import contextlib
import functools
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgeface.errors import ConfigError, GalleryError, MissingPackageError
from edgeface.runtime.gallery import key as gallery_key
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.key import GalleryKey, find_key, make_key, read_key
from edgeface.runtime.gallery.protection import protect
from edgeface.runtime.gallery.sealing import Sealer, SealError
from tests.conftest import ROOT
from tests.test_gallery import DIMENSION, SPACE, on_disk, unit

KEY = GalleryKey(bytes(range(32)), "k")
OTHER = GalleryKey(bytes(range(1, 33)), "other.key")


def make(path: Path, key: GalleryKey | None = KEY) -> Gallery:
    return Gallery(path, SPACE, DIMENSION, create=True, key=key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "g").mkdir()
    return tmp_path / "g" / "people.db"


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute(statement, values).rowcount != 0
    connection.commit()
    connection.close()


@functools.cache
def a_gallery() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.db"
        with make(path) as gallery:
            gallery.enroll("Zaphod", [Template(unit(0), 0.5, "zaphod.jpg", "fp32"), Template(unit(1), None, "z2.jpg")])
            gallery.add("Arthur", unit(2), 0.25, "arthur.jpg")
        return path.read_bytes()


def filled(path: Path) -> None:
    path.write_bytes(a_gallery())


def test_what_goes_in_comes_out(path: Path) -> None:
    filled(path)
    with Gallery(path, SPACE, DIMENSION, key=KEY) as gallery:
        assert gallery.encrypted
        names, matrix = gallery.templates()
        assert names == ("Zaphod", "Zaphod", "Arthur")
        np.testing.assert_allclose(matrix, [unit(i) for i in range(3)], atol=1e-7)
        assert [(p.name, p.templates, p.precisions) for p in gallery.list()] == [
            ("Arthur", 1, ()),
            ("Zaphod", 2, ("fp32",)),
        ]
        assert [(t.quality, t.source) for t in gallery.details("Zaphod")] == [(0.5, "zaphod.jpg"), (None, "z2.jpg")]
        assert gallery.precisions("Zaphod") == {"fp32": 1, None: 1}
        gallery.rename("Zaphod", "Beeblebrox")
        assert gallery.merge("Arthur", "Beeblebrox") == 1
        assert gallery.templates()[0] == ("Beeblebrox",) * 3
        gallery.remove("Beeblebrox")
        assert gallery.list() == ()


def test_neither_names_nor_templates_nor_sources_are_in_the_file(path: Path) -> None:
    with make(path) as gallery:
        gallery.enroll("Zaphod", [Template(unit(0), 0.5, "zaphod.jpg")])
        gallery.rename("Zaphod", "Arthur")
        everything = on_disk(path)
    for secret in (b"aphod", b"Arthur", unit(0).tobytes(), unit(0).tobytes()[:8], KEY.raw, base64.b64encode(KEY.raw)):
        assert secret not in everything
        assert secret not in on_disk(path)
    with Gallery(path, key=KEY) as gallery:
        assert gallery.log().entries[1].names == ("Zaphod", "Arthur")


def test_records_are_aes_256_gcm_with_a_fresh_nonce() -> None:
    sealer = Sealer(KEY, bytes(16), SPACE, DIMENSION)
    one, two = (sealer.seal(b"data", "template", "x", 0.5, None) for _ in range(2))
    assert one[:12] != two[:12] and len(one) == 12 + 4 + 16
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    raw = HKDF(SHA256(), 32, bytes(16), b"edgeface gallery records").derive(KEY.raw)
    bound = b'["aes-256-gcm", 3, "' + SPACE.encode() + b'", 16, "template", "x", 0.5, null]'
    assert AESGCM(raw).decrypt(one[:12], one[12:], bound) == b"data"
    assert sealer.open(one, "template", "x", 0.5, None) == b"data"
    for other in (
        Sealer(OTHER, bytes(16), SPACE, DIMENSION),
        Sealer(KEY, bytes(15) + b"1", SPACE, DIMENSION),
        Sealer(KEY, bytes(16), "b" * 64, DIMENSION),
    ):
        with pytest.raises(SealError):
            other.open(one, "template", "x", 0.5, None)
    for belongs in (("template", "y", 0.5, None), ("name", "x", 0.5, None), ("template", "x", 0.25, None)):
        with pytest.raises(SealError):
            sealer.open(one, *belongs)
    assert Sealer.new(KEY, SPACE, DIMENSION).salt != Sealer.new(KEY, SPACE, DIMENSION).salt


def test_a_key_that_does_not_fit_is_refused_before_anything_is_used(path: Path, tmp_path: Path) -> None:
    filled(path)
    with pytest.raises(GalleryError, match=r"other.key does not open gallery .*: it is key [0-9a-f]{16}, not"):
        Gallery(path, key=OTHER)
    with pytest.raises(GalleryError, match="is encrypted; give its key with --gallery-key FILE"):
        Gallery(path, SPACE, DIMENSION, create=True)
    plain = tmp_path / "plain.db"
    make(plain, None).close()
    with pytest.raises(GalleryError, match="is not encrypted, but k gives a key for it"):
        Gallery(plain, key=KEY)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE templates SET embedding = zeroblob(108) WHERE id = 1",
        "UPDATE templates SET embedding = 'text' WHERE id = 1",
        "UPDATE templates SET embedding = (SELECT embedding FROM templates WHERE id = 3) WHERE id = 1",
        "UPDATE templates SET person = 2 WHERE id = 1",
        "UPDATE templates SET person = 77 WHERE id = 1",
        "UPDATE templates SET quality = 0.9 WHERE id = 1",
        "UPDATE templates SET precision = 'int8' WHERE id = 1",
        "UPDATE templates SET created = '2020-01-01T00:00:00+00:00' WHERE id = 1",
        "UPDATE people SET uid = zeroblob(16) WHERE id = 1",
        "UPDATE people SET created = '2020-01-01T00:00:00+00:00' WHERE id = 1",
        "UPDATE people SET name = 'Zaphod' WHERE id = 1",
    ],
)
def test_an_altered_record_is_refused(path: Path, statement: str) -> None:
    filled(path)
    with Gallery(path, SPACE, DIMENSION, key=KEY) as running:
        change(path, statement)
        with pytest.raises(
            GalleryError, match=r"was altered: (records were put in|a (name|template of \S+) does not fit)"
        ):
            running.templates()
        with pytest.raises(GalleryError, match="was altered"):
            protect(running, OTHER)
    message = r"was altered: .*; restore a copy"  # and nothing was changed
    with pytest.raises(GalleryError, match=message), Gallery(path, key=KEY) as gallery:
        gallery.templates()


def test_names_that_were_swapped_are_refused(path: Path) -> None:
    filled(path)
    connection = sqlite3.connect(path)
    (one,), (two,) = connection.execute("SELECT name FROM people ORDER BY id").fetchall()
    for name, person in (("", 1), (one, 2), (two, 1)):
        connection.execute("UPDATE people SET name = ? WHERE id = ?", (name, person))
    connection.commit()
    connection.close()
    with pytest.raises(GalleryError, match=r"was altered: records .*, there are as many, but not those; restore"):
        Gallery(path, key=KEY)


def test_a_lookup_that_leads_to_somebody_else_is_refused(path: Path) -> None:
    filled(path)
    with Gallery(path, key=KEY) as gallery:
        sealer = gallery.records.sealer
        assert sealer is not None
        change(path, "UPDATE people SET lookup = zeroblob(32 + id)")
        change(path, "UPDATE people SET lookup = ? WHERE id = 2", sealer.blind("Zaphod"))
        with pytest.raises(GalleryError, match="was altered: the name of 'Zaphod'"):
            gallery.add("Zaphod", unit(5))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("space", "b" * 64),
        ("dimension", "8"),
        ("head", "0:" + "0" * 64),
        ("head", base64.b64encode(bytes(90)).decode()),
        ("salt", "00" * 16),
        ("salt", "nonsense"),
        ("encryption", "rot13"),
        ("key_id", "0" * 16),
    ],
)
def test_what_the_gallery_says_of_itself_cannot_be_altered(path: Path, key: str, value: str) -> None:
    filled(path)
    change(path, "UPDATE meta SET value = ? WHERE key = ?", value, key)
    with pytest.raises(GalleryError, match=r"was altered|does not open|does not say how"):
        Gallery(path, key=KEY)


def test_a_gallery_that_pretends_to_be_plain_is_refused_to_who_has_a_key(path: Path) -> None:
    filled(path)
    change(path, "UPDATE meta SET value = 'none' WHERE key = 'encryption'")
    with pytest.raises(GalleryError, match="is not encrypted, but"):
        Gallery(path, key=KEY)


def test_encrypting_leaves_no_plain_bytes_and_keeps_everything(path: Path) -> None:
    with make(path, None) as gallery:
        for person in range(30):
            gallery.enroll(f"Person {person:02}", [Template(unit(person), 0.5, "face.jpg"), Template(unit(99))])
        rows = gallery._file.query("SELECT embedding FROM templates")
        secrets = [blob for (blob,) in rows] + [b"Person 0", b"face.jpg"]
        before = gallery.contents()
        assert all(secret in on_disk(path) for secret in secrets)
        assert protect(gallery, KEY) == 60
        assert not any(secret in on_disk(path) for secret in secrets)
        assert gallery.contents() == before
        gallery.add("Person 00", unit(100))
    assert not any(secret in on_disk(path) for secret in secrets)
    with Gallery(path, key=KEY) as gallery:
        assert len(gallery.list()) == 30
        report = gallery.log()
        assert report.broken is None
        assert [e.action for e in report.entries[-2:]] == ["encrypted", "enrolled"]
        assert report.entries[0].names == ("Person 00",)


def test_changing_the_key_and_decrypting(path: Path) -> None:
    filled(path)
    with Gallery(path, key=KEY) as gallery:
        before = gallery.contents()
        protect(gallery, OTHER)
    with pytest.raises(GalleryError, match="k does not open"):
        Gallery(path, key=KEY)
    with Gallery(path, key=OTHER) as gallery:
        assert gallery.contents() == before
        protect(gallery, None)
    with Gallery(path, SPACE, DIMENSION) as gallery:
        assert not gallery.encrypted
        assert gallery.contents() == before
        report = gallery.log()
    assert report.broken is None
    assert [e.action for e in report.entries] == ["enrolled", "enrolled", "changed the key", "decrypted"]
    assert report.entries[0].names == ("Zaphod",)


def test_a_full_disk_while_encrypting_changes_nothing(path: Path) -> None:
    with make(path, None) as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(500)])
        before = gallery.contents()
        ((pages,),) = gallery._file.query("PRAGMA page_count")
        gallery._file.query(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(GalleryError, match="the disk is full"):
            protect(gallery, KEY)
        assert not gallery.encrypted
        assert gallery.contents() == before
    with Gallery(path) as gallery:
        assert gallery.contents() == before


def test_another_program_that_has_it_open_is_told(path: Path) -> None:
    with make(path, None) as gallery, Gallery(path, SPACE, DIMENSION) as running:
        gallery.add("Al", unit(0))
        running.templates()
        protect(gallery, KEY)
        assert running.changed()
        for use in (running.templates, running.list, lambda: running.add("Bo", unit(1)), lambda: running.remove("Al")):
            with pytest.raises(GalleryError, match="encrypted anew by another program; open it again with its key"):
                use()
        protect(gallery, OTHER)
        assert gallery.templates()[0] == ("Al",)


CHILD = """
import sys
from pathlib import Path
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.gallery.protection import protect

gallery = Gallery(Path(sys.argv[1]))
written = 0

def watch(statement):
    global written
    written += statement.startswith("UPDATE templates")
    if written == 150:
        print("middle", flush=True)
        sys.stdin.read()

gallery._file._connection.execute("PRAGMA cache_size = 1")  # so that half of it is on the disk
gallery._file._connection.set_trace_callback(watch)
protect(gallery, GalleryKey(bytes(range(32)), "k"))
"""


def test_killed_while_encrypting_everything_is_as_before(path: Path) -> None:
    with make(path, None) as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(300)])
        before = gallery.contents()
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "middle\n"
        child.kill()
    with Gallery(path) as gallery:
        assert gallery.contents() == before
        assert gallery.log().broken is None and len(gallery.log().entries) == 1


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE templates SET quality = 'good'",
        "UPDATE templates SET precision = zeroblob(3)",
        "UPDATE templates SET source = zeroblob(3)",
        "UPDATE templates SET created = zeroblob(3)",
        "UPDATE people SET uid = NULL",
        "UPDATE people SET created = zeroblob(3)",
        "UPDATE people SET name = zeroblob(id)",
        "UPDATE people SET name = CAST(x'ff80' || zeroblob(id) AS TEXT)",
    ],
)
def test_rows_of_other_types_are_one_clear_error(path: Path, key: GalleryKey | None, statement: str) -> None:
    if key is None:
        with make(path, None) as gallery:
            gallery.enroll("Al", [Template(unit(0))])
    else:
        filled(path)
    with Gallery(path, key=key) as gallery:
        change(path, statement)
        with pytest.raises(GalleryError, match=r"was altered|cannot be used: Could not decode"):
            gallery.templates()
        for read in (gallery.list, gallery.contents, lambda: gallery.details("Al")):
            with contextlib.suppress(GalleryError):
                read()


def test_an_erased_person_leaves_no_sealed_bytes_either(path: Path) -> None:
    filled(path)
    with Gallery(path, key=KEY) as gallery:
        rows = gallery._file.query("SELECT embedding FROM templates WHERE person = 1")
        rows += gallery._file.query("SELECT name FROM people WHERE id = 1")
        assert all(blob in on_disk(path) for (blob,) in rows)
        gallery.remove("Zaphod", forget=True)
        assert not any(blob in on_disk(path) for (blob,) in rows)
        assert "Zaphod" not in repr(gallery.log())


# --- keys


def test_a_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "k.key"
    make_key(str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    key = read_key(file)
    assert len(key.raw) == 32 and key == find_key(str(file))
    assert key.raw.hex() not in repr(key) and repr(key.raw) not in repr(key)
    for mode in (0o640, 0o604, 0o660, 0o620):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=r"is refused: .* by others \(mode 0"):
            read_key(file)
    file.chmod(0o400)
    assert read_key(file) == key
    with pytest.raises(ConfigError, match="exists; choose another name"):
        make_key(str(file))
    make_key(str(file), force=True)
    assert read_key(file).raw != key.raw


@pytest.mark.parametrize("text", [KEY.raw.hex(), KEY.raw.hex().upper() + "\n", base64.b64encode(KEY.raw).decode()])
def test_a_key_from_the_environment(text: str, tmp_path: Path) -> None:
    found = find_key(None, {"EDGEFACE_GALLERY_KEY": text})
    assert found is not None and found.raw == KEY.raw and found.origin == "EDGEFACE_GALLERY_KEY"
    file = tmp_path / "k"
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    file.write_text(text)
    assert read_key(file).raw == KEY.raw
    assert find_key(None, {}) is None


@pytest.mark.parametrize("text", ["", " ", "not a key!", "00" * 31, "AAAA", base64.b64encode(bytes(33)).decode()])
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"EDGEFACE_GALLERY_KEY (is no gallery key|has \d+)") as caught:
        find_key(None, {"EDGEFACE_GALLERY_KEY": text})
    assert not text.strip() or text not in str(caught.value)


def test_key_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gallery key not found"):
        find_key(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read"):
        find_key(str(tmp_path))
    large = tmp_path / "large"
    large.write_bytes(b"A" * 5000)
    large.chmod(0o600)
    with pytest.raises(ConfigError, match="larger than any key"):
        find_key(str(large))
    with pytest.raises(ConfigError, match="cannot be written"):
        make_key(str(large / "below"))


def test_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, ...], str] = {}

    def ask(what: str, *arguments: str) -> str | None:
        if what == "get_password":
            return kept.get(arguments)
        kept[arguments[:-1]] = arguments[-1]
        return None

    monkeypatch.setattr(gallery_key, "_ask_keyring", ask)
    with pytest.raises(ConfigError, match=r"the keyring has no gallery key 'gallery'; make one with"):
        find_key("keyring")
    make_key("keyring")
    make_key("keyring:door")
    one, two = find_key("keyring"), find_key("keyring:door")
    assert one is not None and two is not None and one.raw != two.raw
    with pytest.raises(ConfigError, match="exists"):
        make_key("keyring")


def test_a_keyring_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingPackageError, match=r"'keyring'; install it with: pip install 'edgeface\[keyring\]'"):
        find_key("keyring")
