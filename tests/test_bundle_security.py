"""Signed bundles, hostile zips and changed files: refused with one line before anything is opened."""

import json
import os
import stat
import struct
import warnings
import zipfile

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeface.errors import BundleError, ConfigError, EdgefaceError
from edgeface.export.card import model_card
from edgeface.files import sha256
from edgeface.images import write_image
from edgeface.manifest import MAX_FILE_BYTES, Calibration, FileEntry, Licences
from edgeface.runtime.archive import Folder, Zip
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle, open_for_signing
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.packing import pack_bundle, zip_files
from edgeface.runtime.recognizer import open_recognizer
from edgeface.runtime.signature import KEY_VARIABLE, PREFIX, fingerprint, read_public_key, sign_manifest
from edgeface.runtime.signing import make_key, read_private_key, sign_bundle
from tests.test_cli import fails, run
from tests.test_inspection import HOSTILE, network
from tests.test_runtime_bundle import write_bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs: a.key, b.key."""
    folder = tmp_path_factory.mktemp("keys")
    for name in "ab":
        make_key(folder / f"{name}.key")
    return folder


@pytest.fixture
def bundle(tmp_path):
    folder = write_bundle(tmp_path / "toy.bundle")
    card = b"# toy\n"
    facts = json.loads((folder / "manifest.json").read_text())
    facts["files"]["MODEL_CARD.md"] = {"sha256": sha256(card), "bytes": len(card)}
    (folder / "MODEL_CARD.md").write_bytes(card)
    (folder / "manifest.json").write_text(json.dumps(facts, indent=2))
    return folder


@pytest.fixture
def signed(bundle, keys):
    sign_bundle(open_bundle(bundle), read_private_key(keys / "a.key"))
    return bundle


def test_ed25519_is_that_of_rfc_8032():
    """Test 2 of section 7.1: a wrong curve, hash or byte order cannot pass."""
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    signature = sign_manifest(b"{}", key)
    assert signature.public_key == public
    raw = bytes.fromhex(signature.signature)
    key.public_key().verify(raw, b"edgeface bundle manifest, signature 1\n{}")
    with pytest.raises(InvalidSignature):  # the prefix belongs to it
        key.public_key().verify(raw, b"{}")
    assert PREFIX.endswith(b"\n") and fingerprint(bytes.fromhex(public)) == sha256(bytes.fromhex(public))[:32]


def test_a_signed_bundle_opens_with_its_key(signed, keys):
    opened = open_bundle(signed, require_keys=[keys / "a.key.pub"])
    assert opened.signed_by == read_public_key(keys / "a.key.pub").fingerprint
    opened.verify()
    assert bundle_embedder(opened)[0].dimension == 3
    # Any of several keys will do, and without a required key the signature is checked all the same.
    assert open_bundle(signed, require_keys=[keys / "b.key.pub", keys / "a.key.pub"]).signed_by == opened.signed_by
    assert open_bundle(signed).signed_by == opened.signed_by


def test_whatever_is_not_signed_by_the_key_is_refused(signed, keys):
    with pytest.raises(BundleError, match=r"signed by key \w{32}, and this device requires key \w{32}; get"):
        open_bundle(signed, require_keys=[keys / "b.key.pub"])
    (signed / "manifest.sig").unlink()
    with pytest.raises(BundleError, match="is not signed, and this device requires"):
        open_bundle(signed, require_keys=[keys / "a.key.pub"])
    assert open_bundle(signed).signed_by is None


def test_a_key_swapped_into_the_signature_does_not_help(signed, keys):
    """The file says key a, the signature is b's."""
    forged = sign_manifest((signed / "manifest.json").read_bytes(), read_private_key(keys / "b.key"))
    public = read_public_key(keys / "a.key.pub").raw.hex()
    (signed / "manifest.sig").write_bytes(forged.model_copy(update={"public_key": public}).to_json())
    with pytest.raises(BundleError, match="changed after it was signed"):
        open_bundle(signed, require_keys=[keys / "a.key.pub"])


def test_a_manifest_with_other_hashes_does_not_fit_its_signature(signed):
    """Whoever changes a network and the manifest to match is caught by the signature alone."""
    manifest = signed / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"test"', b'"evil"', 1))
    with pytest.raises(BundleError, match="changed after it was signed"):
        open_bundle(signed)


def test_a_changed_manifest_is_not_parsed(signed, keys):
    (signed / "manifest.json").write_bytes(b"not even JSON")
    with pytest.raises(BundleError, match="changed after it was signed"):
        open_bundle(signed, require_keys=[keys / "a.key.pub"])


def places(size):
    return sorted({0, 1, size // 3, size // 2, size - 2, size - 1})


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "fp32.onnx", "int8.onnx", "MODEL_CARD.md"])
def test_a_flipped_byte_in_any_file_is_noticed(signed, keys, name):
    original = (signed / name).read_bytes()
    required = [keys / "a.key.pub"]
    for place in places(len(original)):
        for bit in (1, 0x20):
            changed = bytearray(original)
            changed[place] ^= bit
            (signed / name).write_bytes(changed)
            if name == "manifest.sig" and changed.split() == original.split():
                continue  # white space of the JSON means nothing
            with pytest.raises(BundleError):
                open_bundle(signed, require_keys=required).verify()
    (signed / name).write_bytes(original[:-2])
    with pytest.raises(BundleError):
        open_bundle(signed, require_keys=required).verify()
    (signed / name).write_bytes(original)
    open_bundle(signed, require_keys=required).verify()


def test_every_file_of_the_toy_bundle_was_flipped(signed):
    listed = {"manifest.json", "manifest.sig", "fp32.onnx", "int8.onnx", "MODEL_CARD.md"}
    assert {file.name for file in signed.iterdir()} == listed


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


def test_keys(tmp_path, keys):
    path = tmp_path / "k"
    name = make_key(path, passphrase="secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_public_key(tmp_path / "k.pub").fingerprint == name
    assert fingerprint(read_private_key(path, "secret").public_key().public_bytes_raw()) == name
    for wrong, message in ((None, "needs a passphrase"), ("", "needs a passphrase"), ("Secret", "does not open")):
        with pytest.raises(ConfigError, match=message):
            read_private_key(path, wrong)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists; choose another name"):
        make_key(path)
    assert path.read_bytes() == before
    assert make_key(path, force=True) != name
    path.unlink()
    with pytest.raises(ConfigError, match=r"k\.pub exists"):
        make_key(path)
    with pytest.raises(ConfigError, match="not an ed25519 public key"):
        read_public_key(keys / "a.key")
    with pytest.raises(ConfigError, match="not an ed25519 private key"):
        read_private_key(keys / "a.key.pub")
    with pytest.raises(ConfigError, match="key not found"):
        read_public_key(tmp_path / "none")


def test_a_private_key_that_others_can_read_is_pointed_out(tmp_path, caplog):
    make_key(tmp_path / "k")
    read_private_key(tmp_path / "k")
    assert not caplog.messages
    (tmp_path / "k").chmod(0o644)
    read_private_key(tmp_path / "k")
    assert "can be read by others (mode 644)" in caplog.text


def test_the_environment_requires_a_key(signed, keys, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, str(keys / "b.key.pub"))
    with pytest.raises(BundleError, match="this device requires"):
        open_bundle(signed)
    monkeypatch.setenv(KEY_VARIABLE, os.pathsep.join(str(keys / name) for name in ("b.key.pub", "a.key.pub")))
    open_bundle(signed)
    monkeypatch.setenv(KEY_VARIABLE, str(keys / "none"))
    with pytest.raises(ConfigError, match="key not found"):
        open_bundle(signed)
    monkeypatch.setenv(KEY_VARIABLE, "")  # a slip must not switch the check off
    with pytest.raises(ConfigError, match="is set but names no key"):
        open_bundle(signed)
    assert open_bundle(signed, require_keys=[keys / "a.key.pub"]).signed_by


def test_a_loose_detector_is_refused(signed, keys, monkeypatch):
    with pytest.raises(BundleError, match="loose ONNX file"):
        open_recognizer(signed, detector=BUILT_IN_DETECTOR, require_keys=[keys / "a.key.pub"])
    monkeypatch.setenv(KEY_VARIABLE, str(keys / "a.key.pub"))
    with pytest.raises(BundleError, match="loose ONNX file"):
        open_recognizer(signed, detector=BUILT_IN_DETECTOR)
    monkeypatch.delenv(KEY_VARIABLE)
    assert open_recognizer(signed, detector=BUILT_IN_DETECTOR, provider="cpu").precision == "int8"


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


# Packing and signing zips.


def test_the_same_bundle_packs_to_the_same_bytes(signed, tmp_path, keys):
    pack_bundle(open_bundle(signed), tmp_path / "1.zip")
    for file in signed.iterdir():
        os.utime(file, (1e9, 1e9))
        file.chmod(0o640)
    (signed / "stray.txt").write_text("stays out")
    pack_bundle(open_bundle(signed), tmp_path / "2.zip")
    pack_bundle(open_bundle(tmp_path / "2.zip"), tmp_path / "3.zip")  # from a zip
    first = (tmp_path / "1.zip").read_bytes()
    assert first == (tmp_path / "2.zip").read_bytes() == (tmp_path / "3.zip").read_bytes()
    open_bundle(tmp_path / "1.zip", require_keys=[keys / "a.key.pub"]).verify()
    with pytest.raises(BundleError, match=r"ends in .zip"):
        pack_bundle(open_bundle(signed), tmp_path / "1.tar")


def test_a_zip_is_signed_in_place(bundle, tmp_path, keys):
    path, link = tmp_path / "b.zip", tmp_path / "current.zip"
    pack_bundle(open_bundle(bundle), path)
    link.symlink_to(path)
    sign_bundle(open_for_signing(link), read_private_key(keys / "b.key"))
    assert link.is_symlink()
    opened = open_bundle(path, require_keys=[keys / "b.key.pub"])
    opened.verify()
    assert opened.manifest_bytes == (bundle / "manifest.json").read_bytes()


def test_the_list_of_a_full_bundle_fits_the_limits(tmp_path):
    path = tmp_path / "z.zip"
    path.write_bytes(zip_files({f"{'n' * 90}{index:03d}": b"x" for index in range(102)}))
    assert len(Zip(path).names()) == 102
    path.write_bytes(zip_files({f"{index:03d}": b"x" for index in range(103)}))
    with pytest.raises(BundleError, match="103 entries"):
        Zip(path)


# Commands.


def test_the_commands_from_key_to_device(bundle, tmp_path, monkeypatch):
    key, public = tmp_path / "release.key", tmp_path / "release.key.pub"
    made = json.loads(run("bundle", "keygen", key, "--json").stdout)
    fails("exists", "bundle", "keygen", key)
    assert "not signed" in run("bundle", "verify", bundle).stdout
    fails("is not signed", "bundle", "verify", bundle, "--key", public)
    assert run("bundle", "sign", bundle, "--key", key).stdout == f"signed {bundle} with key {made['fingerprint']}\n"
    (bundle / "stray.txt").write_text("?")
    result = run("bundle", "verify", bundle, "--key", public)
    assert result.exit_code == 0 and f"3 files, signed by key {made['fingerprint']}" in result.stdout
    assert "stray.txt is not in the manifest" in result.stderr
    packed = json.loads(run("bundle", "pack", bundle, tmp_path / "b.zip", "--json").stdout)
    assert packed["signed_by"] == made["fingerprint"]
    facts = json.loads(run("bundle", "verify", tmp_path / "b.zip", "--key", public, "--json").stdout)
    assert facts == {
        "bundle": str(tmp_path / "b.zip"),
        "ok": True,
        "files": 3,
        "signed_by": made["fingerprint"],
        "unlisted": [],
    }
    told = json.loads(run("bundle", "inspect", bundle, "--json").stdout)
    assert told["signed_by"] == made["fingerprint"] and told["manifest"]["name"] == "test"
    printed = run("bundle", "inspect", bundle).stdout
    for part in (made["fingerprint"], "licence of weights  not stated", "threshold for", "fp32.onnx", "MODEL_CARD.md"):
        assert part in printed
    monkeypatch.setenv(KEY_VARIABLE, str(public))
    assert run("bundle", "inspect", bundle).exit_code == 0
    report = json.loads(run("doctor", "--bundle", bundle, "--json").stdout)["bundle"]
    assert report["ok"] and report["signed_by"] == made["fingerprint"] and report["unlisted"] == ["stray.txt"]


def test_signing_again_replaces_a_signature_that_no_longer_fits(signed, keys):
    manifest = signed / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    fails("changed after it was signed", "bundle", "verify", signed)
    assert run("bundle", "sign", signed, "--key", keys / "b.key").exit_code == 0
    assert run("bundle", "verify", signed, "--key", keys / "b.key.pub").exit_code == 0


def test_passphrases_come_from_the_environment(bundle, tmp_path, monkeypatch):
    key = tmp_path / "k"
    fails("nobody to ask", "bundle", "keygen", key, "--passphrase")
    monkeypatch.setenv("EDGEFACE_KEY_PASSPHRASE", "secret")
    assert run("bundle", "keygen", key, "--passphrase").exit_code == 0
    assert run("bundle", "sign", bundle, "--key", key).exit_code == 0
    monkeypatch.setenv("EDGEFACE_KEY_PASSPHRASE", "wrong")
    fails("does not open", "bundle", "sign", bundle, "--key", key)
    monkeypatch.delenv("EDGEFACE_KEY_PASSPHRASE")
    fails("nobody to ask", "bundle", "sign", bundle, "--key", key)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, np.full((64, 64, 3), 128, np.uint8))
    return path


def test_a_device_that_requires_a_key_refuses_everything_else(bundle, keys, picture, tmp_path, monkeypatch):
    """By option and by environment, in every command that opens a bundle; and nothing is opened before."""
    gallery = ["--gallery", tmp_path / "g.db"]
    commands = [
        ["verify", picture, picture],
        ["enroll", "alice", "--image", picture, *gallery],
        ["run", "--source", picture.parent, *gallery],
    ]
    for function in ("_create", "inspect_model"):
        monkeypatch.setattr(f"edgeface.runtime.session.{function}", lambda *_: pytest.fail("a network was opened"))
    required = ["--require-key", keys / "a.key.pub"]
    for command in commands:
        whole = [*command, "--bundle", bundle]
        fails("is not signed, and this device requires", *whole, *required)
        fails("loose ONNX file", *whole, *required, "--detector", BUILT_IN_DETECTOR)
        monkeypatch.setenv(KEY_VARIABLE, str(keys / "a.key.pub"))
        fails("is not signed, and this device requires", *whole)
        fails("loose ONNX file", *whole, "--detector", BUILT_IN_DETECTOR)
        fails("signed", "eval", bundle, "--data", picture.parent)
        fails("loose ONNX file", "eval", BUILT_IN_DETECTOR, "--data", picture.parent)
        preprocessing = ["--input-layout", "nchw", "--channel-order", "rgb", "--mean", "0", "--scale", "1"]
        fails("loose ONNX file", "eval", BUILT_IN_DETECTOR, "--data", picture.parent, *preprocessing)
        monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.undo()  # the doctor tries each provider on a network of its own
    report = json.loads(run("doctor", "--bundle", bundle, *required, "--json").stdout)["bundle"]
    assert not report["ok"] and "is not signed" in report["why"]
    assert "is not signed" in run("doctor", "--bundle", bundle, *required).stdout


def test_a_loose_detector_is_refused_when_photographs_are_aligned(picture, tmp_path, keys, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, str(keys / "a.key.pub"))
    fails("loose ONNX file", "data", "align", picture.parent, tmp_path / "out", "--detector", BUILT_IN_DETECTOR)


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


def test_the_card_says_what_may_not_be_shipped(bundle):
    manifest = open_bundle(bundle).manifest
    card = model_card(manifest)
    assert manifest.space in card and "edgeface bundle verify BUNDLE --key KEY.pub" in card
    assert "Do not ship this" in card and "allowed with the weights and the training data;" in card
    stated = manifest.model_copy(
        update={
            "licences": Licences(weights="MIT", data="CC-BY-4.0"),
            "calibration": Calibration(source="200 faces", images=200, sha256="c" * 64),
            "tools": {"torch": "2.13"},
        }
    )
    card = model_card(stated)
    assert "Do not ship" not in card and "- training data: CC-BY-4.0" in card
    assert "c" * 64 in card and "- made with: torch 2.13" in card
