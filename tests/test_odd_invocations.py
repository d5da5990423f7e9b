"""What people type by mistake: one line, no traceback, nothing written."""

import os
import shlex
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.images import write_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle
from edgeface.runtime.gallery.gallery import Gallery
from tests.test_runtime_bundle import write_bundle

if sys.platform == "win32":
    pytest.skip("the files of Unix", allow_module_level=True)

LONG = "x" * 300
HUGE = "99999999999999999999"
OPEN = f"--bundle b.bundle --detector {BUILT_IN_DETECTOR} --gallery g.db --headless"
RUN = f"run --source faces/a {OPEN} --decision votes"
EVAL = "eval b.bundle --data faces --bootstrap 0"
TRAIN = "train --data faces"
EXPORT = "export none --out out --calibration faces"
ODD = f"""
verify pipe p.png --bundle b.bundle
verify /dev/zero p.png --bundle b.bundle
verify '' '' --bundle b.bundle
verify {LONG} p.png --bundle b.bundle
verify p.png/x p.png --bundle b.bundle
verify p.png p.png --bundle b.bundle --fmr nan
verify p.png p.png --bundle b.bundle --fmr -1
verify p.png p.png --bundle b.bundle --threads {HUGE}
verify p.png p.png --bundle b.bundle --threads 100000
verify p.png p.png --bundle {LONG}
verify p.png p.png --bundle /dev/zero
verify p.png p.png --bundle b.bundle --detector pipe
verify p.png p.png --bundle b.bundle --require-key faces
verify p.png p.png --bundle b.bundle --precision ''
enroll '' --image p.png {OPEN}
enroll {LONG} --image p.png {OPEN}
enroll x --image p.png --bundle b.bundle --gallery faces
enroll x --image p.png --bundle b.bundle --gallery /dev/null
enroll x --source 'http://[' {OPEN}
enroll x --camera {HUGE} {OPEN}
{RUN} --miss nan
{RUN} --window {HUGE}
{RUN} --min-face {HUGE}
{RUN} --cooldown inf
{RUN} --record text/x.avi
{RUN} --events faces
{RUN} --snapshots text/x
{RUN} --webhook 'https://['
{RUN} --webhook https://x/ --outbox text
{RUN} --mqtt mqtts://h:99999/t
{RUN} --on-match true --hook-timeout inf
{RUN} --gallery-key faces
{RUN} --provider-library x=
{RUN} --device {HUGE}
run --camera 5 {OPEN} --open-timeout nan
run --camera 5 {OPEN} --size 99999999x9
run --camera {HUGE} {OPEN}
bench --bundle b.bundle --threads ''
bench --bundle b.bundle --threads 99999999
bench --bundle b.bundle --faces 99999999999
bench --bundle b.bundle --image pipe
doctor --bundle {LONG}
gallery list --gallery faces
gallery list --gallery pipe
gallery list --gallery {LONG}
gallery list '' --gallery g.db
gallery remove Ada --template {HUGE} --gallery g.db
gallery rename Ada '' --gallery g.db
gallery export text/x --gallery g.db
gallery export /dev/null --gallery g.db --force
gallery import latin --gallery n.db
gallery keygen ''
gallery keygen {LONG}
gallery encrypt --gallery g.db --gallery-key text
bundle inspect pipe
bundle verify b.bundle --key latin
bundle keygen ''
bundle keygen text/k
bundle sign b.bundle --key /dev/zero
bundle pack b.bundle text/x.zip
bundle pack b.bundle {LONG}.zip
bundle fetch yunet-2023mar --accept-licence --mirror 'https://[' --out f.onnx
bundle fetch yunet-2023mar --accept-licence --mirror http://127.0.0.1:1/ --timeout inf --out f.onnx
liveness test text --attacks faces --bona-fide faces
data check {LONG}
data check latin.csv
data check /dev/zero
data check faces --workers 99999
data align faces text/x
data align faces out --min-face inf
data pack faces out --shard-mib nan
data pack faces out --prefix {LONG}
data teach faces out --teacher ''
{EVAL} --fmr nan
{EVAL} --out text/x
{EVAL} --labels latin
{EVAL} --pairs faces
{EVAL} --seed {HUGE}
eval '' --data faces
calibrate b.bundle --data faces --fmr nan --out out
calibrate b.bundle --data faces --fmr 0.5 --out text/x
{EXPORT} --min-cosine nan
{EXPORT} --batch {HUGE}
{EXPORT} --seed -1
{EXPORT} --fact ''
{TRAIN} --config faces
{TRAIN} --config latin
{TRAIN} --config bom.toml --set run.epochs=x
{TRAIN} --config types.toml
{TRAIN} --set ''
{TRAIN} --set run.epochs={HUGE}
{TRAIN} --set optimizer.lr=nan
{TRAIN} --nproc 99999
{TRAIN} --val-data pipe
{TRAIN} --out text/x --batch-size 16 --set data.val_identities=0
compare --losses arcface:=
compare --losses softmax --jobs {HUGE}
models ''
demo --out text/x
demo --out faces
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    for person in "abcdefgh":
        for number in range(2):
            write_image(folder / f"faces/{person}/{number}.png", rng.integers(0, 256, (112, 112, 3), np.uint8))
    write_image(folder / "p.png", rng.integers(0, 256, (112, 112, 3), np.uint8))
    bundle = write_bundle(folder / "b.bundle")
    with Gallery(folder / "g.db", open_bundle(bundle).manifest.space, 3, create=True) as gallery:
        gallery.add("Ada", np.array([1, 0, 0], np.float32))
    os.mkfifo(folder / "pipe")
    (folder / "text").write_text("hello\n")
    (folder / "latin").write_bytes(b"\xff\xe9 a = 1\n")
    (folder / "latin.csv").write_bytes(b"path,identity\n\xff\xe9.png,\xe9\n")
    (folder / "bom.toml").write_bytes(b"\xef\xbb\xbf[run]\nepochs = 3\n")
    (folder / "types.toml").write_text("run = 3\n")
    return folder


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("line", [line for line in ODD.splitlines() if line], ids=lambda line: line[:60])
def test_one_line_says_what_is_wrong(line, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = everything(folder)
    result = CliRunner().invoke(app, shlex.split(line))
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    if result.exit_code == 1:
        errors = [said for said in result.stderr.splitlines() if said.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in result.output, result.output
    else:
        assert result.exit_code == 2 and "Usage" in result.stderr, result.output
    assert everything(folder) == before


def test_a_byte_order_mark_is_no_setting(folder):
    from edgeface.training.config import load_config

    assert load_config(folder / "bom.toml").run.epochs == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TERMINAL_WIDTH", "wide"),
        ("COLUMNS", "-3"),
        ("COLUMNS", "wide"),
        ("FORCE_COLOR", "1"),
        ("TERM", "none"),
        ("XDG_DATA_HOME", "/dev/null/x"),
        ("EDGEFACE_GALLERY_KEY", "zz"),
        ("EDGEFACE_REQUIRE_KEY", "/no/key"),
    ],
)
def test_odd_environments(folder, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    for arguments in (["verify", "--help"], ["verify", "a", "b"], ["gallery", "list"], ["gallery", "list", "--such"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (0, 1, 2) and isinstance(result.exception, SystemExit | None), repr(result.exception)
