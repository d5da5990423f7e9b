"""Plug-ins: the example package installed, trained, evaluated, exported and run; whose word it takes; bad options."""

import dataclasses
import json
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn
from typer.testing import CliRunner

from edgeface import plugins
from edgeface.cli import app
from edgeface.comparison.contenders import contender
from edgeface.data import InMemoryFaces, make_pairs
from edgeface.data.augment import Augmentation, AugmentConfig
from edgeface.data.loader import AugmentedFaces
from edgeface.data.synthetic import crops
from edgeface.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    PluginError,
    SourceError,
    TrainingError,
    UnknownNameError,
)
from edgeface.evaluation.models import open_model
from edgeface.export.pipeline import ExportSettings, LabelledPairs, export_bundle
from edgeface.export.quantization.bounded import Bounds
from edgeface.export.sources import checkpoint_network
from edgeface.losses import Head, build_loss
from edgeface.losses.objective import Objective
from edgeface.models import build_model
from edgeface.plugin_options import check_options, constructor_options, split_options
from edgeface.plugins import Kind
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.cameras.capture import open_frames
from edgeface.runtime.cameras.frames import Frame, FrameSource
from edgeface.runtime.detection.detector import Detections, Detector, load_detector
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.events import Event, FanOut
from edgeface.runtime.recognizer import bundle_detector, open_recognizer
from edgeface.runtime.sinks.plugin import QueuedSink, SinkPlugin, open_sink
from edgeface.training import TrainConfig, load_config, train

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "plugin"
BACKBONE = "edgeface_plugin_example.backbone:TinyConvNet"
LOSS = "edgeface_plugin_example.loss:ProxyNCA"
NOW = datetime(2026, 11, 23, 18, 5, 9, 0, UTC)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The example, installed in a folder of its own that is on the path while the tests of this file run."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, folder / "source")  # a build leaves files beside what it builds
    site = folder / "site"
    quick = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *quick, "--target", site, source], check=True)
    sys.path.append(str(site))
    yield site
    sys.path.remove(str(site))
    for name in [name for name in sys.modules if name.startswith("edgeface_plugin_example")]:
        del sys.modules[name]


@pytest.fixture
def uninstalled(site):
    """The same machine without the example."""
    sys.path.remove(str(site))
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("edgeface_plugin_example")}
    yield
    sys.path.append(str(site))
    sys.modules.update(loaded)


@pytest.fixture(scope="module")
def faces():
    images, labels = crops(10, 8, seed=3)
    return InMemoryFaces(images, labels, name="drawn")


@pytest.fixture(scope="module")
def run(site, faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    settings = ["model.name=tiny-convnet", "model.width=4", "model.embedding_size=16", "loss.name=proxy-nca"]
    settings += ["loss.temperature=0.5", "run.epochs=2", "run.batch_size=20", "data.workers=0", "run.val_pairs=40"]
    train(load_config(overrides=settings), folder, faces=faces)
    return folder


@pytest.fixture(scope="module")
def bundle(run, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "a.bundle"
    labelled = LabelledPairs(faces, make_pairs(faces, 100), "drawn people")
    settings = ExportSettings("a", precisions=("fp32", "int8"), fmr=(0.1,), bounds=Bounds(min_cosine=0.5))
    network = checkpoint_network(run, allow_plugins=[BACKBONE])
    export_bundle(network, out, settings, faces.images[:32], "drawn", labelled)
    return out


def test_what_is_installed_is_found_without_running_it(uninstalled, site):
    assert not plugins.installed(Kind.loss)
    sys.path.append(str(site))
    try:
        found = plugins.installed(Kind.loss)["proxy-nca"]
        assert (found.reference, found.package, found.version) == (LOSS, "edgeface-plugin-example", "1.0")
        assert plugins.find(Kind.backbone, BACKBONE) == plugins.installed(Kind.backbone)["tiny-convnet"]
        assert "edgeface_plugin_example" not in sys.modules
    finally:
        sys.path.remove(str(site))


def test_the_loss_is_what_its_paper_says(site):
    head = build_loss("proxy-nca", 3, 4, temperature=0.7)
    proxies = head.get_parameter("proxies").double()
    x, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, -1, 1])
    expected = []
    for row, label in zip(x.double(), labels.tolist(), strict=True):
        if label >= 0:
            away = [(row / row.norm() - p / p.norm()).square().sum() / 0.7 for p in proxies]
            others = sum(torch.exp(-d) for place, d in enumerate(away) if place != label)
            expected.append(-torch.log(torch.exp(-away[label]) / others))
    assert head(x, labels).item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)
    assert head(x[3:4], labels[3:4]) == 0


def test_a_run_remembers_its_plugins(run):
    state = json.loads((run / "checkpoint" / "state.json").read_text())
    assert (state["model"], state["loss"]) == (BACKBONE, LOSS)
    package = {"package": "edgeface-plugin-example", "version": "1.0"}
    assert state["plugins"] == [
        {"kind": "backbone", "reference": BACKBONE, **package},
        {"kind": "loss", "reference": LOSS, **package},
    ]
    config = json.loads((run / "config.json").read_text())
    assert config["loss"] == {"name": "proxy-nca", "weight": 1.0, "options": {"temperature": 0.5}}
    read = TrainConfig.from_dict(config)
    assert read.model.options == {"width": 4} and read.to_dict() == config


def test_a_checkpoint_runs_no_code_unless_the_user_says_so(run, faces):
    for word in ([], ["edgeface_plugin_example.loss:ProxyNCA"], ["no-such"]):
        with pytest.raises(PluginError, match=f"names the backbone {BACKBONE}.* allow it with --allow-plugin"):
            open_model(run, allow_plugins=word)
    for allowed in (BACKBONE, "tiny-convnet"):
        embedded = open_model(run, allow_plugins=[allowed]).embedder.embed(faces.images[:3])
        assert embedded.shape == (3, 16)


def test_without_the_package_the_error_says_what_to_install(run, uninstalled):
    message = "not installed; install the package edgeface-plugin-example, if you trust it, and allow it with"
    for allowed in ([], [BACKBONE]):
        with pytest.raises(PluginError, match=message):
            open_model(run, allow_plugins=allowed)
    with pytest.raises(PluginError, match="there is no module 'edgeface_plugin_example'"):
        build_model(BACKBONE, 16)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "os:system"}, PluginError),  # not allowed, whatever it says of itself
        ({"model": "tiny-convnet"}, CheckpointError),  # what an entry point leads to is not the file's to choose
        ({"plugins": [{"kind": "backbone", "reference": "x"}]}, CheckpointError),
        (
            {"plugins": [{"kind": "backbone", "reference": BACKBONE, "package": "a; b"}]},
            CheckpointError,
        ),
        ({"plugins": 3}, CheckpointError),
        ({"plugins": [{}]}, CheckpointError),
    ],
)
def test_a_hostile_checkpoint(run, tmp_path, changes, error):
    folder = shutil.copytree(run / "checkpoint", tmp_path / "checkpoint")
    state = json.loads((folder / "state.json").read_text()) | changes
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(error):
        open_model(folder, allow_plugins=[BACKBONE])


def test_a_bundle_remembers_and_needs_no_plugin(bundle, faces, uninstalled):
    manifest = open_bundle(bundle).manifest
    assert manifest.origin["plug-in backbone"] == f"{BACKBONE} of the package edgeface-plugin-example 1.0"
    embedder, _ = bundle_embedder(open_bundle(bundle), precision="int8", provider="cpu")
    assert embedder.embed(faces.images[:2]).shape == (2, 16)


def test_the_run_is_exported_as_it_is(run, bundle, faces):
    embedder, _ = bundle_embedder(open_bundle(bundle), precision="fp32", provider="cpu")
    original = open_model(run, allow_plugins=[BACKBONE]).embedder.embed(faces.images[:4])
    assert np.abs(embedder.embed(faces.images[:4]) - original).max() < 1e-4


def test_commands_take_the_word(run, tmp_path):
    refused = CliRunner().invoke(app, ["eval", str(run), "--data", str(tmp_path)])
    assert refused.exit_code == 1
    listed = CliRunner().invoke(app, ["plugins", "--json"])
    found = {(row["kind"], row["name"]) for row in json.loads(listed.stdout)["plugins"]}
    assert found == {("loss", "proxy-nca"), ("backbone", "tiny-convnet"), ("sink", "attendance")}
    counted = json.loads(CliRunner().invoke(app, ["models", BACKBONE, "--json"]).stdout)["models"][0]
    assert counted["parameters"] == sum(p.numel() for p in build_model(BACKBONE, 512).parameters())
    losses = json.loads(CliRunner().invoke(app, ["losses", "--json"]).stdout)["losses"]
    assert {"name": "arcface", "compares": "classes"}.items() <= losses[1].items()
    assert losses[-1]["name"] == "triplet"


def test_a_sink_of_the_example(site, tmp_path):
    sink = open_sink(f"attendance?path={tmp_path}/came.csv")
    fan = FanOut([sink])
    told: Any = (("match", "ann"), ("match", "ann"), ("unknown", None), ("match", "bob, jr."))
    for name, who in told:
        fan.write(Event(NOW, name, identity=who))
    sink.finish(10.0)
    lines = (tmp_path / "came.csv").read_text().splitlines()
    assert lines == ["2026-11-23,18:05:09,ann", '2026-11-23,18:05:09,"bob, jr."']
    assert dataclasses.astuple(sink.state())[1:5] == (4, 0, 0, 0)


class Remembers(SinkPlugin):
    """Takes events, some of which it does not like, once the gate is open."""

    def __init__(self) -> None:
        self.gate, self.closed = threading.Event(), 0
        self.seen: list[int] = []

    def write(self, event):
        self.gate.wait(10)
        if event.frame == 1:
            raise KeyError("not this one")
        self.seen.append(event.frame)

    def close(self):
        self.closed += 1


def test_a_slow_and_faulty_sink_harms_nobody(caplog):
    plugin, time_s = Remembers(), [0.0]
    sink = QueuedSink(plugin, "slow", lambda: time_s[0])
    fan = FanOut([sink])
    for frame in range(4):
        fan.write(Event(NOW, "match", frame, until_s=None if frame < 2 else 5.0 + frame))
    time_s[0] = 7.5  # the match of frame 2 does not hold any more
    plugin.gate.set()
    sink.finish(10.0)
    sink.close()
    assert (plugin.seen, plugin.closed) == ([0, 3], 1)
    state = fan.states()[0]
    assert (state.sent, state.lost, state.late, state.waiting) == (2, 1, 1, 0)
    assert "slow did not take an event: KeyError: 'not this one'" in caplog.text
    with pytest.raises(OSError, match="closed"):
        sink.write(Event(NOW, "lost"))


class Pictures(FrameSource):
    """Plain grey pictures."""

    live = False

    def __init__(self, count: int, grey: int = 7, pause_s: float = 0.0) -> None:
        self.left, self.grey = count, grey
        if pause_s < 0:
            raise RuntimeError("no such pause")

    def read(self):
        self.left -= 1
        return Frame(np.full((8, 8, 3), self.grey, np.uint8), 0, 0.0) if self.left >= 0 else None

    def close(self):
        pass


class Undecided(Pictures):
    live: Any = None


class Everywhere(Detector):
    """Finds a face in the middle of every picture."""

    def __init__(self, *, size: Literal[1, 2] = 1) -> None:
        self.size = size

    def detect(self, image):
        return Detections.empty()


HERE = __name__


def test_frames_from_a_source_outside():
    with open_frames(f"{HERE}:Pictures?count=3&grey=9") as frames:
        seen = [frame.image[0, 0, 0] for frame in iter(frames.read, None)]
    assert seen == [9, 9, 9]
    assert (frames.name, frames.fps) == (f"{HERE}:Pictures", None)


def test_a_file_of_such_a_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nowhere:Pictures").mkdir()
    with pytest.raises(SourceError, match="no pictures in nowhere:Pictures"):
        open_frames("nowhere:Pictures")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("Pictures", "its option count is missing"),
        ("Pictures?count=x", "count = 'x' does not fit: input should be a valid integer"),
        ("Pictures?count=true", "count = True does not fit"),
        ("Pictures?count=1&many=2", "it has no option 'many', its options are: count, grey, pause_s"),
        ("Pictures?many=1&pause_s=a", "'many'.*; pause_s = 'a' does not fit.*; its option count is missing"),
        ("Pictures?count", "options of a plug-in are NAME"),
        ("Pictures?count=1&count=2", "each key once"),
        ("Pictures?count=1&pause_s=-1", "cannot be opened: RuntimeError: no such pause"),
        ("Undecided?count=1", "does not say whether it is live"),
        ("Everywhere", "does not derive from edgeface.runtime.cameras.frames.FrameSource"),
        ("NoSuch", f"the module {HERE} has no class NoSuch"),
    ],
)
def test_sources_that_cannot_be_used(spec, message):
    with pytest.raises(Exception, match=message) as caught:
        open_frames(f"{HERE}:{spec}")
    assert "\n" not in str(caught.value)


def test_a_detector_from_outside(bundle):
    found = bundle_detector(open_bundle(bundle), f"{HERE}:Everywhere?size=2")
    assert isinstance(found, Everywhere) and found.size == 2
    with pytest.raises(PluginError, match="size = 3 does not fit: input should be 1 or 2"):
        load_detector(f"{HERE}:Everywhere?size=3")


def test_a_device_that_requires_signatures_takes_no_plugin(tmp_path, bundle):
    from edgeface.runtime.signing import make_key

    make_key(tmp_path / "k")
    with pytest.raises(Exception, match="is a plug-in that nobody can have signed"):
        open_recognizer(bundle, detector=f"{HERE}:Everywhere", require_keys=[tmp_path / "k.pub"])


class Dims(Augmentation):
    def __init__(self, *, shape: tuple[int, ...] = (112, 112, 3), by: Annotated[int, Field(ge=1)] = 2) -> None:
        self.shape, self.by = shape, by

    def __call__(self, face, rng):
        return np.ascontiguousarray(face[: self.shape[0]] // self.by)


def test_an_augmentation_from_outside(faces):
    none: dict[str, Any] = dict.fromkeys(AugmentConfig().chances(), 0.0)
    plain = AugmentedFaces(faces, AugmentConfig(**none), 0)[(0, 5)][0]
    dim = AugmentedFaces(faces, AugmentConfig(**none, name=f"{HERE}:Dims", options={"by": 3}), 0)[(0, 5)][0]
    assert torch.equal(dim, plain // 3)
    with pytest.raises(DataError, match=r"Dims gave \(40, 112, 3\) uint8; it has to give \(112, 112, 3\) uint8"):
        AugmentedFaces(faces, AugmentConfig(name=f"{HERE}:Dims", options={"shape": [40, 1]}), 0)[(0, 5)]
    config = load_config(overrides=[f"augment.name={HERE}:Dims", "augment.by=0", "augment.flip=0.1"])
    assert config.augment.flip == 0.1 and config.augment.options == {"by": 0}
    with pytest.raises(PluginError, match="by = 0 does not fit: input should be greater than or equal to 1"):
        train(config, Path("unused"), faces=faces)  # before it sees that there are too few


class Base:
    def __init__(self, first, size: int = 3, **more: object) -> None: ...


class Derived(Base):
    def __init__(self, first, *, depth: float, path: Path | None = None, anything=None, **more: object) -> None: ...


def test_options_are_the_constructor_s():
    assert list(constructor_options(Derived, 1)) == ["depth", "path", "anything", "size"]
    assert list(constructor_options(nn.Module, 0)) == []
    made = check_options("x", Derived, 1, {"depth": 2, "path": "a/b", "anything": [1], "size": 4})
    assert made == {"depth": 2.0, "path": Path("a/b"), "anything": [1], "size": 4} and type(made["depth"]) is float
    with pytest.raises(PluginError, match=r"x: depth = 'deep' does not fit: .* number; it has no option 'more'"):
        check_options("x", Derived, 1, {"depth": "deep", "more": 1})
    with pytest.raises(PluginError, match=r"depth = .* is no value for an option"):
        check_options("x", Derived, 1, {"depth": datetime(2026, 1, 1, tzinfo=UTC)})
    assert split_options("a:B?x=1&y=two%26&z=[1, 2]&w=a=b") == ("a:B", {"x": 1, "y": "two&", "z": [1, 2], "w": "a=b"})


class Flat(nn.Module):
    def __init__(self, embedding_size: int, shape: str = "short") -> None:
        super().__init__()
        self.shape, self.size = shape, embedding_size

    def forward(self, x):
        if self.shape == "wrong":
            raise RuntimeError("mat1 and mat2\nhave no such shape")
        return x.new_zeros(len(x), self.size + 1)


class Rows(Head):
    def __init__(self, classes: int, embedding_size: int) -> None:
        super().__init__(classes)

    def forward(self, embeddings, labels):
        return embeddings.sum(1)


class Refuses(Rows):
    def __init__(self, classes: int, embedding_size: int) -> None:
        raise ValueError("not today")


def test_plugins_that_are_not_what_they_should_be(tmp_path, monkeypatch):
    with pytest.raises(PluginError, match=r"Flat gave \(2, 9\) for two faces; it has to give \(2, 8\)"):
        build_model(f"{HERE}:Flat", 8)
    with pytest.raises(PluginError, match=r"cannot embed a \(2, 3, 112, 112\) tensor: mat1 and mat2$"):
        build_model(f"{HERE}:Flat", 8, shape="wrong")
    with pytest.raises(TrainingError, match=r"the loss Rows gave an array of the shape \(4,\)"):
        Objective(build_loss(f"{HERE}:Rows", 2, 3), 1.0, 0.0)(torch.ones(4, 3), torch.zeros(4, dtype=torch.long), None)
    with pytest.raises(PluginError, match="cannot be made with these options: ValueError: not today"):
        build_loss(f"{HERE}:Refuses", 2, 3)
    with pytest.raises(PluginError, match=r"does not derive from edgeface.losses.head.Head"):
        build_loss(f"{HERE}:Flat", 2, 3)
    with pytest.raises(UnknownNameError, match=r"unknown loss 'arc'; choose one of: .*module:Class"):
        build_loss("arc", 2, 3)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_plugin.py").write_text("import sys\nsys.exit('no')\n")
    (tmp_path / "hungry_plugin.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(PluginError, match="broken_plugin:X does not load: SystemExit: no"):
        build_loss("broken_plugin:X", 2, 3)
    with pytest.raises(PluginError, match="it needs the module 'no_such_module_anywhere'"):
        build_loss("hungry_plugin:X", 2, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"loss.name={HERE}:Rows", None),
        ("loss.name=no_such", "unknown loss 'no_such'"),
        ("augment.name=no_such", "unknown augmentation 'no_such'; choose one of: module:Class"),
        ("loss.marign=1", "unknown config key 'loss.marign'.*nearest: loss.margin"),
        ("loss.options={a = 1}", "a are options of a plug-in, and 'arcface' is none"),
    ],
)
def test_names_in_settings(override, message):
    if message is None:
        load_config(overrides=[override])
    else:
        with pytest.raises(ConfigError, match=message):
            load_config(overrides=[override])


def test_own_names_stay_edgeface_s_own(site, monkeypatch):
    """A package cannot make itself heard by taking a name that people type."""
    entry = metadata.EntryPoint("arcface", LOSS, Kind.loss.group)
    monkeypatch.setattr(metadata, "entry_points", lambda group: (entry,) if group == Kind.loss.group else ())
    assert type(build_loss("arcface", 2, 3)).__name__ == "ArcFace"
    other = metadata.EntryPoint("mine", "a:B", Kind.loss.group)
    again = metadata.EntryPoint("mine", "a:C", Kind.loss.group)
    monkeypatch.setattr(metadata, "entry_points", lambda group: (other, again))
    assert plugins.installed(Kind.loss) == {}


def test_compare_takes_a_loss_from_outside():
    found = contender(f"{HERE}:Rows")
    assert (found.name, found.options, found.pairs) == (f"{HERE}:Rows", (), False)
    assert contender("triplet:semi-hard").options == ("mining=semi-hard",)
