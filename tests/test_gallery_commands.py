"""Options of `edgeface gallery` and of the keys of bundles, by what they change."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.reader import is_encrypted
from tests.test_runtime_bundle import write_bundle


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    if "--json" not in arguments:
        return result.stdout
    facts = json.loads(result.stdout)
    assert facts.pop("schema") == 1
    return facts


def fails(message, *arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and message in result.stderr, result.output


def make(path, *names):
    with Gallery(path, "space", 3, create=True) as gallery:
        for place, name in enumerate(names):
            gallery.add(name, np.eye(3, dtype=np.float32)[place % 3])
    return path


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "g.db", "Ada", "Bo", "Bo")


def names(path, *more):
    people = run("gallery", "list", "--gallery", path, *more, "--json")["people"]
    return {person["name"]: person["templates"] for person in people}


def test_remove(path):
    first, _ = run("gallery", "list", "Bo", "-g", path, "--json")["templates"]
    removed = run("gallery", "remove", "Bo", "--template", first["id"], "--gallery", path, "--json")
    assert removed == {"name": "Bo", "templates": 1, "gallery": str(path)}
    assert names(path) == {"Ada": 1, "Bo": 1}
    fails("leave out --template", "gallery", "remove", "Bo", "--template", "1", "--forget", "--gallery", path)
    run("gallery", "remove", "Bo", "--forget", "--gallery", path)
    assert "Bo" not in run("gallery", "log", "--gallery", path)
    run("gallery", "remove", "Ada", "--gallery", path)
    assert "Ada" in run("gallery", "log", "--gallery", path)


def test_rename_and_merge_tell_programs(path):
    assert run("gallery", "rename", "Ada", "Cy", "--gallery", path, "--json") == {
        "name": "Cy",
        "was": "Ada",
        "gallery": str(path),
    }
    merged = run("gallery", "merge", "Bo", "Cy", "--gallery", path, "--json")
    assert merged == {"name": "Cy", "was": "Bo", "templates": 2, "gallery": str(path)}
    assert names(path) == {"Cy": 3}


def test_merging_an_encrypted_file(path, tmp_path):
    key, other = tmp_path / "k", make(tmp_path / "other.db", "Dee", "Ada")
    assert run("gallery", "keygen", key, "--json") == {"key": str(key)}
    run("gallery", "encrypt", "--gallery", other, "--gallery-key", key)
    arguments = ["gallery", "merge", "--from", other, "--gallery", path, "--file-key", key]
    fails("'Ada'", *arguments)
    assert run(*arguments, "--join", "--json")["people"] == 1
    assert names(path) == {"Ada": 2, "Bo": 2, "Dee": 1}


def test_export(path, tmp_path):
    key, file = tmp_path / "k", tmp_path / "out.jsonl"
    run("gallery", "keygen", key)
    run("gallery", "export", file, "--gallery", path, "--file-key", key)
    assert b"Ada" not in file.read_bytes()
    run("gallery", "encrypt", "--gallery", path, "--gallery-key", key)
    arguments = ["gallery", "export", file, "--gallery", path, "--gallery-key", key, "--plain"]
    fails("exclude each other", *arguments, "--file-key", key)
    fails(str(file), *arguments)
    run(*arguments, "--force")
    assert b"Ada" in file.read_bytes()


def test_import_joins_people_when_told(path, tmp_path):
    other, file = make(tmp_path / "other.db", "Cy", "Ada"), tmp_path / "out.jsonl"
    run("gallery", "export", file, "--gallery", other)
    fails("'Ada'", "gallery", "import", file, "--gallery", path)
    run("gallery", "import", file, "--gallery", path, "--join")
    assert names(path) == {"Ada": 2, "Bo": 2, "Cy": 1}


def test_keys(path, tmp_path):
    key, new = tmp_path / "k", tmp_path / "k2"
    run("gallery", "keygen", key)
    before = key.read_bytes()
    fails(str(key), "gallery", "keygen", key)
    assert key.read_bytes() == before
    run("gallery", "keygen", key, "--force")
    assert key.read_bytes() != before
    run("gallery", "keygen", new)
    run("gallery", "encrypt", "--gallery", path, "--gallery-key", key)
    arguments = ["--gallery", path, "--gallery-key", key, "--new-key", new, "--json"]
    assert run("gallery", "rekey", *arguments)["encrypted"] is True
    assert names(path, "--gallery-key", new) == {"Ada": 1, "Bo": 2}
    told = run("gallery", "decrypt", "--gallery", path, "--gallery-key", new, "--json")
    assert told == {"gallery": str(path), "encrypted": False, "templates": 3}
    assert not is_encrypted(path)


def test_keys_of_bundles(tmp_path):
    key, bundle = tmp_path / "r.key", write_bundle(tmp_path / "b.bundle")
    first = run("bundle", "keygen", key, "--json")["fingerprint"]
    fails("exists", "bundle", "keygen", key)
    second = run("bundle", "keygen", key, "--force", "--json")["fingerprint"]
    assert second != first
    assert run("bundle", "sign", bundle, "--key", key, "--json") == {"bundle": str(bundle), "signed_by": second}


def test_the_head_of_the_log(path, tmp_path):
    old = path.read_bytes()
    head = run("gallery", "log", "--head", "--gallery", path).strip()
    assert run("gallery", "log", "--head", "--gallery", path, "--json") == {"gallery": str(path), "head": head}
    run("gallery", "remove", "Ada", "--gallery", path)
    newer = run("gallery", "log", "--head", "--gallery", path).strip()
    assert newer != head
    run("gallery", "log", "--expect-head", head, "--gallery", path)
    path.write_bytes(old)
    fails("error: ", "gallery", "log", "--expect-head", newer, "--gallery", path)


def test_version_and_remarks(path, caplog):
    from edgeface import __version__

    assert run("--version") == f"edgeface {__version__}\n"
    levels = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.basicConfig", lambda **settings: levels.append(settings["level"]))
        for remarks in ([], ["--verbose"], ["-vv"]):
            run(*remarks, "gallery", "list", "--gallery", path)
    assert levels == [30, 20, 10]
