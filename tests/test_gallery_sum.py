"""The sum over all records of an encrypted gallery: whatever is put in, put back, replaced or left out shows."""

import base64
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import ConfigError, GalleryError
from edgeface.runtime.gallery.gallery import Gallery, Template
from edgeface.runtime.gallery.importing import take_in
from edgeface.runtime.gallery.key import GalleryKey, make_key, read_key
from edgeface.runtime.gallery.people import to_blob
from edgeface.runtime.gallery.protection import protect
from edgeface.runtime.gallery.record_sum import RecordSum, sum_of_all
from edgeface.runtime.gallery.records import Records, TemplateRow
from tests.test_gallery import DIMENSION, SPACE, unit

KEY = GalleryKey(bytes(range(32)), "k")
OTHER = GalleryKey(bytes(range(1, 33)), "o")


def make(path: Path) -> Gallery:
    return Gallery(path, SPACE, DIMENSION, create=True, key=KEY)


def rows_of(path: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(path) as connection:
        found = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("people", "templates")}
    connection.close()
    return found


def put(path: Path, table: str, row: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    connection.close()


def run_sql(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        assert connection.execute(statement).rowcount
    connection.close()


def test_a_removed_person_cannot_be_put_back(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with make(path) as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(3)])
        gallery.add("Bo", unit(9))
    before = rows_of(path)
    with Gallery(path, key=KEY) as gallery:
        gallery.remove("Al", forget=True)
    with Gallery(path, SPACE, DIMENSION, key=KEY) as running:
        running.templates()
        for table, rows in before.items():
            for row in rows:
                put(path, table, row)
        assert running.changed()
        with pytest.raises(GalleryError, match="was altered: records were put in, put back, replaced or left out"):
            running.templates()
    message = "it was left with 1 people with 1 templates, there are 2 with 4; restore a copy"
    with pytest.raises(GalleryError, match=message):
        Gallery(path, SPACE, DIMENSION, key=KEY)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM templates WHERE id = 2",
        "DELETE FROM people WHERE id = 2",
        "UPDATE templates SET id = 17 WHERE id = 2",
        "UPDATE people SET id = 17 WHERE id = 2",
        "UPDATE people SET lookup = zeroblob(32) WHERE id = 2",
        "UPDATE people SET lookup = NULL WHERE id = 2",
        "UPDATE templates SET embedding = x'' WHERE id = 2",
        "INSERT INTO templates SELECT 17, person, embedding, quality, source, created, precision, cohort, cohort_mean, "
        "fitness FROM templates LIMIT 1",
        "INSERT INTO people SELECT 17, x'00', created, x'01', x'02' FROM people LIMIT 1",
    ],
)
def test_what_is_left_out_doubled_or_renumbered_shows(fast_path: Path, statement: str) -> None:
    path = fast_path / "people.db"
    with make(path) as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(3)])
        gallery.add("Bo", unit(9))
    run_sql(path, statement)
    with pytest.raises(GalleryError, match="was altered: records were put in"):
        Gallery(path, key=KEY)


def test_an_older_state_of_one_record_shows_and_later_changes_heal_nothing(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with make(path) as gallery:
        gallery.add("Al", unit(0))
        gallery.add("Bo", unit(1))
        old = rows_of(path)["people"][0]
        gallery.rename("Al", "Alan")
        put(path, "people", old)  # while it is open
        gallery.add("Bo", unit(2))
        gallery.remove("Bo")
        with pytest.raises(GalleryError, match="there are as many, but not those"):
            gallery.list()
    with pytest.raises(GalleryError, match="was altered: records"):
        Gallery(path, key=KEY)


def test_the_sum_itself_cannot_be_older_or_of_another_gallery(fast_path: Path) -> None:
    path, other = fast_path / "people.db", fast_path / "other.db"
    with make(path) as gallery, make(other) as second:
        second.add("Eve", unit(5))
        ((head,),) = second._file.query("SELECT value FROM meta WHERE key = 'head'")
        gallery.add("Al", unit(0))
        ((old,),) = gallery._file.query("SELECT value FROM meta WHERE key = 'head'")
        gallery.add("Bo", unit(1))
    for value, message in ((head, "what it says about itself does not fit"), (old, "records were put in")):
        run_sql(path, f"UPDATE meta SET value = '{value}' WHERE key = 'head'")
        with pytest.raises(GalleryError, match=message):
            Gallery(path, key=KEY)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "remove", "rename", "merge", "import", "template", "fail", "rekey")),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=10,
)


@settings(max_examples=12)
@given(STEPS)
def test_after_any_changes_the_sum_is_that_of_all_records(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    path = tmp_path_factory.mktemp("sum") / "people.db"
    with make(path) as gallery:
        gallery._file.query("PRAGMA synchronous = OFF")
        gallery._file.clean_up = lambda **_: None  # type: ignore[method-assign]
        for step, one, two in steps:
            first, second = f"P{one}", f"P{two}"
            try:
                if step == "add":
                    gallery.enroll(first, [Template(unit(10 * one + i)) for i in range(1 + two)])
                elif step == "remove":
                    gallery.remove(first, forget=bool(two))
                elif step == "rename":
                    gallery.rename(first, second)
                elif step == "merge":
                    gallery.merge(first, second)
                elif step == "template":
                    gallery.remove(first, template=gallery.details(first)[0].id)
                elif step == "import":
                    row = TemplateRow(to_blob(unit(two + 70), DIMENSION, path), None, "", None, "2026")
                    take_in(gallery, {first: [row], second: [row]}, "x", join=True)
                elif step == "rekey":
                    protect(gallery, KEY)
                else:
                    with gallery.changing() as connection:
                        gallery.records.add_person(connection, "Nobody", "2026")
                        raise GalleryError("undone")
            except GalleryError:
                pass
            sealer = gallery.records.sealer
            assert sealer is not None
            kept = gallery.records.head(gallery._file.read_meta()).sum
            assert kept == sum_of_all(gallery._file._connection, sealer.sum_key)
            assert kept.people == len(gallery.list()) and kept.templates == len(gallery.templates()[0])
            assert gallery.log().broken is None


def test_a_change_touches_its_own_records_only(fast_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(fast_path / "people.db") as gallery:
        gallery.enroll("Al", [Template(unit(i)) for i in range(50)])
        statements: list[str] = []
        gallery._file._connection.set_trace_callback(statements.append)
        gallery.add("Bo", unit(60))
        looked = [text for text in statements if text.startswith(("SELECT 'p'", "SELECT 't'"))]
        assert len(looked) == 2 and all(" WHERE id = " in text for text in looked)


def test_programs_that_write_at_the_same_time_keep_one_sum(fast_path: Path) -> None:
    path = fast_path / "people.db"
    make(path).close()

    def write(name: str) -> None:
        with Gallery(path, SPACE, DIMENSION, key=KEY, timeout_s=60) as gallery:
            for number in range(8):
                gallery.add(name, unit(number))
                if number % 3 == 2:
                    gallery.remove(name)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("Al", "Bo", "Cy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Gallery(path, key=KEY) as gallery:
        assert [(person.name, person.templates) for person in gallery.list()] == [("Al", 2), ("Bo", 2), ("Cy", 2)]
        assert gallery.log().broken is None


def test_sums_add_and_come_back_from_text() -> None:
    one, two = RecordSum(1, 2, 2**256 - 1), RecordSum(3, 4, 5)
    assert one + two == RecordSum(4, 6, 4)
    assert (one + two) - two == one
    assert RecordSum.from_text(one.to_text()) == one


def as_version_3(path: Path) -> None:
    """Bring a gallery into the state in which the version before left it: without a sum."""
    with Gallery(path, key=KEY) as gallery:
        records = gallery.records
        assert records.sealer is not None
        head = records.head(gallery._file.read_meta())
        sealed = base64.b64encode(records.sealer.seal(f"{head.entries}:{head.last}".encode(), "head")).decode()
    run_sql(path, f"UPDATE meta SET value = '{sealed}' WHERE key = 'head'")
    with sqlite3.connect(path) as connection:
        for column in ("cohort", "cohort_mean", "fitness"):
            connection.execute(f"ALTER TABLE templates DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 3")
    connection.close()


def test_an_older_gallery_gets_a_sum_and_nothing_that_was_sealed_before_fits_it(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with make(path) as gallery:
        gallery.enroll("Al", [Template(unit(i), 0.5, "a.jpg", "fp32") for i in range(3)])
        gallery.add("Bo", unit(9))
        before = gallery.contents()
        ((salt,),) = gallery._file.query("SELECT value FROM meta WHERE key = 'salt'")
    as_version_3(path)
    old = rows_of(path)
    with Gallery(path, SPACE, DIMENSION, key=KEY, command="edgeface test") as gallery:
        assert gallery.contents() == before
        assert gallery._file.query("SELECT value FROM meta WHERE key = 'salt'") != [(salt,)]
        report = gallery.log()
        assert report.broken is None
        assert (report.entries[-1].action, report.entries[-1].command) == ("sealed anew", "edgeface test")
        gallery.remove("Al")
    with Gallery(path, key=KEY) as gallery:
        assert [person.name for person in gallery.list()] == ["Bo"]
    put(path, "people", old["people"][0])
    with pytest.raises(GalleryError, match="was altered"):
        Gallery(path, key=KEY)
    as_plain = fast_path / "plain.db"
    with Gallery(as_plain, SPACE, DIMENSION, create=True) as gallery:
        gallery.add("Al", unit(0))
    run_sql(as_plain, "UPDATE meta SET value = value || ':1:1:" + "0" * 64 + "' WHERE key = 'head'")
    with Gallery(as_plain) as gallery, pytest.raises(GalleryError, match="the end of its log"):
        gallery.log()


def test_two_programs_may_open_an_older_gallery_at_once(fast_path: Path) -> None:
    path = fast_path / "people.db"
    with make(path) as gallery:
        gallery.add("Al", unit(0))
    as_version_3(path)
    opened: list[str] = []

    def look() -> None:
        with Gallery(path, key=KEY, timeout_s=60) as gallery:
            opened.extend(person.name for person in gallery.list())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["Al"] * 4


def test_an_older_file_put_back_shows_against_a_head_that_was_kept_elsewhere(fast_path: Path) -> None:
    path, key = fast_path / "people.db", str(fast_path / "k")
    make_key(key)

    def edgeface(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["gallery", *arguments, "--gallery", str(path), "--gallery-key", key])

    with Gallery(path, SPACE, DIMENSION, create=True, key=read_key(Path(key))) as gallery:
        gallery.add("Al", unit(0))
        old = gallery.log().head
    earlier = path.read_bytes()
    assert edgeface("remove", "Al").exit_code == 0
    head = edgeface("log", "--head").output.strip()
    assert head == Gallery(path, key=read_key(Path(key))).log().head and head.startswith("2:")
    assert edgeface("log", "--expect-head", head).exit_code == 0
    assert edgeface("log", "--expect-head", old).exit_code == 0  # it went on from there
    path.write_bytes(earlier)
    assert edgeface("list").exit_code == 0  # nothing in the file itself can tell
    result = edgeface("log", "--expect-head", head)
    assert result.exit_code == 1
    assert (
        "has not gone on from the head 2:" in result.output and "older or another file is in its place" in result.output
    )
    assert edgeface("log", "--expect-head", "nonsense").exit_code == 1
    with Gallery(path, key=read_key(Path(key))) as gallery, pytest.raises(ConfigError, match="is no head of a log"):
        gallery.log().went_on_from("7")


def test_records_count_what_they_change_only_when_sealed(fast_path: Path) -> None:
    with Gallery(fast_path / "p.db", SPACE, DIMENSION, create=True) as gallery:
        gallery.add("Al", unit(0))
        assert gallery.records.difference == RecordSum()
        assert Records(fast_path).describe() == {"encryption": "none", "head": "0:" + "0" * 64}
