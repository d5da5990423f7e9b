"""Signed bundles and the keys that a device may require: whatever else is refused before anything is opened."""

import json
import os
import stat

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeface.errors import BundleError, ConfigError
from edgeface.files import sha256
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle, open_for_signing
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.packing import pack_bundle
from edgeface.runtime.recognizer import open_recognizer
from edgeface.runtime.signature import KEY_VARIABLE, PREFIX, fingerprint, read_public_key, sign_manifest
from edgeface.runtime.signing import make_key, read_private_key, sign_bundle
from tests.signed_bundles import bundle, keys, picture, signed
from tests.test_cli import fails, run

__all__ = ["bundle", "keys", "picture", "signed"]  # fixtures are found by their names


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
    assert facts.pop("canaries")[0]["state"] == "none"
    assert facts == {
        "schema": 1,
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


def test_a_device_that_requires_a_key_refuses_everything_else(bundle, keys, picture, tmp_path, monkeypatch):
    """By option and by environment, in every command that opens a bundle; and nothing is opened before."""
    gallery = ["--gallery", tmp_path / "g.db"]
    commands = [
        ["verify", picture, picture],
        ["enroll", "alice", "--image", picture, *gallery],
        ["run", "--source", picture.parent, *gallery],
    ]
    place = "edgeface.runtime.providers.session.inspect_model"
    monkeypatch.setattr(place, lambda *_: pytest.fail("a network was opened"))
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
