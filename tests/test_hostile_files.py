"""Hostile zips, folders, manifests and networks: refused with one line, and read no further than it takes."""

import json
import os
import struct
import warnings
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeface.errors import BundleError, EdgefaceError
from edgeface.files import sha256
from edgeface.manifest import MAX_FILE_BYTES, FileEntry
from edgeface.runtime.archive import Folder, Zip
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.packing import pack_bundle, zip_files
from edgeface.runtime.signing import read_private_key, sign_bundle
from tests.signed_bundles import bundle, keys, picture, signed
from tests.test_cli import fails, run
from tests.test_inspection import HOSTILE, network

__all__ = ["bundle", "keys", "picture", "signed"]  # fixtures are found by their names


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_of_a_zip_is_refused_or_harmless(signed, data):
    """Bytes that carry no content (times, versions) may change; what is read then is still what was signed."""
    packed = signed.parent / "good.zip"
    if not packed.exists():
        pack_bundle(open_bundle(signed), packed)
    original = packed.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = signed.parent / "changed.zip"
    path.write_bytes(changed)
    try:
        opened = open_bundle(path)
        opened.verify()
        read = {name: opened.read(name) for name in opened.manifest.files}
    except EdgefaceError:
        return
    assert read == {name: (signed / name).read_bytes() for name in read}
    assert opened.manifest_bytes == (signed / "manifest.json").read_bytes()


# Zips, entry by entry.


def entry(name, *, mode=0o100644, method=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return info


def zip_with(path, files, *more, comment=b""):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # about a name that is there twice
        for name, data in files.items():
            archive.writestr(entry(name), data)
        for info, data in more:
            archive.writestr(info, data)
        archive.comment = comment
    return path


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (entry("../evil.onnx"), "not a plain file name"),
        (entry("/etc/passwd"), "not a plain file name"),
        (entry("toy/fp32.onnx"), "not a plain file name; zip the files themselves"),
        (entry("..\\evil.onnx"), "not a plain file name"),
        (entry("C:evil"), "not a plain file name"),
        (entry(".hidden"), "not a plain file name"),
        (entry("sub/"), "not a plain file name"),
        (entry("new\nline"), "not a plain file name"),
        (entry("link", mode=0o120777), "is a link"),
        (entry("pipe", mode=0o010644), "another special file"),
        (entry("fp32.onnx"), "two entries called fp32.onnx"),
        (entry("stray.txt"), "does not list"),
        (entry("lzma", method=zipfile.ZIP_LZMA), "compressed by method 14"),
    ],
)
def test_hostile_entries_are_refused(signed, tmp_path, info, message):
    files = {file.name: file.read_bytes() for file in signed.iterdir()}
    path = zip_with(tmp_path / "z.zip", files, (info, b"content"))
    with pytest.raises(BundleError, match=message):
        open_bundle(path)


def test_the_same_zip_without_such_an_entry_opens(signed, tmp_path):
    files = {file.name: file.read_bytes() for file in signed.iterdir()}
    open_bundle(zip_with(tmp_path / "z.zip", files)).verify()


def patched(path, before, after, *, count=1):
    """Replace bytes of a zip's headers."""
    data = path.read_bytes()
    assert data.count(before) >= count
    path.write_bytes(data.replace(before, after))
    return path


def test_encrypted_entries_are_refused(tmp_path):
    path = zip_with(tmp_path / "z.zip", {"manifest.json": b"{}"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # list of entries
    path.write_bytes(data)
    with pytest.raises(BundleError, match="encrypted"):
        open_bundle(path)


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(4 << 20))
    with pytest.raises(BundleError, match=r"unpacks \d+ bytes to 4194304, as only a bomb does"):
        open_bundle(path)


def test_a_bomb_that_lies_about_its_size_is_cut_off(tmp_path):
    """The headers say 100 bytes; 4 MiB come out. No more than 100 of them are unpacked, and they do not pass."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(4 << 20))
    patched(path, struct.pack("<L", 4 << 20), struct.pack("<L", 100), count=2)
    with pytest.raises(BundleError, match="cannot be unpacked"):
        Zip(path).read("manifest.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "without a comment"),
        (lambda data: data + b"x", "without a comment"),
        (lambda data: b"", "too short"),
        (lambda data: data[:-10] + struct.pack("<L", 1 << 20) + data[-6:], "too long"),
        (lambda data: data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:], "too long"),
    ],
)
def test_a_zip_with_another_end_is_refused(tmp_path, change, message):
    path = zip_with(tmp_path / "z.zip", {"manifest.json": b"{}"})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=f"neither a bundle folder nor an intact zip of one: .*{message}"):
        open_bundle(path)


def test_a_zip_with_a_comment_is_refused(signed, tmp_path):
    path = zip_with(tmp_path / "z.zip", {"manifest.json": b"{}"}, comment=b"PK\x05\x06 another zip")
    with pytest.raises(BundleError, match="without a comment"):
        open_bundle(path)


def test_the_list_of_a_full_bundle_fits_the_limits(tmp_path):
    path = tmp_path / "z.zip"
    path.write_bytes(zip_files({f"{'n' * 90}{index:03d}": b"x" for index in range(102)}))
    assert len(Zip(path).names()) == 102
    path.write_bytes(zip_files({f"{index:03d}": b"x" for index in range(103)}))
    with pytest.raises(BundleError, match="103 entries"):
        Zip(path)


# Folders and manifests.


def test_a_folder_may_be_a_link_but_nothing_in_it(signed, tmp_path, keys):
    current = tmp_path / "current"
    current.symlink_to(signed)
    open_bundle(current, require_keys=[keys / "a.key.pub"]).verify()
    (signed / "manifest.json").rename(tmp_path / "elsewhere")
    (signed / "manifest.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        open_bundle(current)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_pipes_and_folders_are_not_read(signed, make):
    (signed / "fp32.onnx").unlink()
    make(signed / "fp32.onnx")
    with pytest.raises(BundleError, match=r"not a plain file|cannot be read"):
        open_bundle(signed).read("fp32.onnx")


def test_a_file_larger_than_listed_is_not_read_to_its_end(signed):
    with (signed / "fp32.onnx").open("ab") as file:
        file.truncate(1 << 40)  # sparse: reading all of it would never end
    with pytest.raises(BundleError, match="larger than the"):
        open_bundle(signed).read("fp32.onnx")


def test_a_manifest_that_lists_a_huge_size(bundle):
    facts = json.loads((bundle / "manifest.json").read_text())
    facts["files"]["fp32.onnx"]["bytes"] = MAX_FILE_BYTES + 1
    (bundle / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=r"files.fp32.onnx.bytes: Input should be less than or equal to 1073741824"):
        open_bundle(bundle)
    facts["files"] = {f"f{index}": facts["files"]["int8.onnx"] for index in range(500)}
    (bundle / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match="files: Dictionary should have at most 100 items"):
        open_bundle(bundle)


def test_a_manifest_of_gigabytes_is_not_read(bundle):
    with (bundle / "manifest.json").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=r"manifest.json .* larger than the 4194304 bytes"):
        open_bundle(bundle)


def test_a_hostile_network_in_a_bundle_with_right_hashes(bundle, keys):
    data, message = HOSTILE["64 GiB of zeros"]
    facts = json.loads((bundle / "manifest.json").read_text())
    facts["files"]["int8.onnx"] = FileEntry(sha256=sha256(data), bytes=len(data)).model_dump()
    (bundle / "int8.onnx").write_bytes(data)
    (bundle / "manifest.json").write_text(json.dumps(facts))
    for act in (
        lambda: open_bundle(bundle).verify(),
        lambda: bundle_embedder(open_bundle(bundle), precision="int8"),
        lambda: sign_bundle(open_bundle(bundle), read_private_key(keys / "a.key")),
    ):
        with pytest.raises(BundleError, match=message):
            act()
    assert not (bundle / "manifest.sig").exists()


def test_unlisted_files_are_ignored_and_reported(signed):
    (signed / "stray.onnx").write_bytes(b"?")
    opened = open_bundle(signed)
    assert opened.unlisted() == ("stray.onnx",)
    with pytest.raises(BundleError, match=r"does not list stray.onnx"):
        opened.read("stray.onnx")
    assert len(Folder(signed).names()) == 6


# Commands.


@pytest.mark.parametrize("what", ["64 GiB of zeros", "a loop", "a size that depends on data"])
def test_a_hostile_detector_file_is_one_line(bundle, picture, tmp_path, what):
    data, message = HOSTILE[what]
    (tmp_path / "d.onnx").write_bytes(data)
    fails(message, "verify", picture, picture, "--bundle", bundle, "--detector", tmp_path / "d.onnx")


def test_names_in_hostile_files_are_shown_and_not_obeyed(bundle, picture, tmp_path):
    """A name that would clear the screen and write "ok"."""
    node = helper.make_node("Loop\x1b[2J\nok", ["x"], ["y"])
    (tmp_path / "d.onnx").write_bytes(network([node], {"x": (1,)}).SerializeToString())
    line = fails("operator Loop", "verify", picture, picture, "--bundle", bundle, "--detector", tmp_path / "d.onnx")
    assert "\x1b" not in line and r"\x1b[2J" in line
    facts = json.loads((bundle / "manifest.json").read_text()) | {"name": "toy\x1b[2J"}
    (bundle / "manifest.json").write_text(json.dumps(facts))
    printed = run("bundle", "inspect", bundle).stdout
    assert "\x1b" not in printed and r"toy\x1b[2J" in printed


def test_a_hostile_foreign_network_is_one_line(tmp_path, picture):
    data, message = HOSTILE["64 GiB of zeros"]
    (tmp_path / "n.onnx").write_bytes(data)
    shape = ["--input-layout", "nchw", "--channel-order", "rgb", "--mean", "0", "--scale", "1"]
    fails(message, "eval", tmp_path / "n.onnx", "--data", picture.parent, *shape)
