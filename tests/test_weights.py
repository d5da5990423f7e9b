"""Weights that others saved: their names, the files around them, and that nothing in a file is run."""

import argparse
import io
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeface.errors import CheckpointError, ConfigError, ExportError
from edgeface.export.expectation import MIN_COSINE, assert_expected
from edgeface.export.pipeline import Network
from edgeface.export.presets import Said
from edgeface.export.weights import open_weights_embedder
from edgeface.models import MODELS, build_model
from edgeface.models.iresnet import IResNet
from edgeface.models.weights.files import read_tensors
from edgeface.models.weights.loading import open_weights, swap_channels
from edgeface.models.weights.names import in_groups
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import bundle_embedder
from tests.test_cli import fails, run
from tests.test_export import smooth_pictures

IR_WIDTHS = (64, 128, 256, 512)


class Foreign:
    """A network as plain functions over a state dict in its maker's names; the first pass draws the numbers."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)

    def _get(self, name: str, *shape: int, around: float = 0.0, spread: float = 0.1) -> Tensor:
        if name not in self.state:
            self.state[name] = around + spread * torch.randn(*shape, generator=self._generator)
        return self.state[name]

    def conv(
        self, x: Tensor, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1, pad: int = -1
    ) -> Tensor:
        fan_in = x.shape[1] // groups * kernel**2
        weight = self._get(f"{name}.weight", width, x.shape[1] // groups, kernel, kernel, spread=fan_in**-0.5)
        return F.conv2d(x, weight, None, stride, kernel // 2 if pad < 0 else pad, groups=groups)

    def norm(self, x: Tensor, name: str, *, affine: bool = True) -> Tensor:
        count = x.shape[1]
        mean = self._get(f"{name}.running_mean", count)
        variance = self._get(f"{name}.running_var", count, around=1.0).abs_()
        weight = self._get(f"{name}.weight", count, around=1.0) if affine else None
        bias = self._get(f"{name}.bias", count) if affine else None
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.1, 1e-5)

    def slopes(self, x: Tensor, name: str) -> Tensor:
        return F.prelu(x, self._get(f"{name}.weight", x.shape[1], around=0.25))

    def linear(self, x: Tensor, name: str, width: int, *, bias: bool) -> Tensor:
        weight = self._get(f"{name}.weight", width, x.shape[1], spread=x.shape[1] ** -0.5)
        return F.linear(x, weight, self._get(f"{name}.bias", width) if bias else None)


def adaface(net: Foreign, x: Tensor, depths: tuple[int, ...], size: int, widths: tuple[int, ...] = IR_WIDTHS) -> Tensor:
    """AdaFace's IR network before it is normalised; it sees BGR."""
    x = net.slopes(net.norm(net.conv(x, "input_layer.0", widths[0], 3), "input_layer.1"), "input_layer.2")
    unit = 0
    for width, depth in zip(widths, depths, strict=True):
        for index in range(depth):
            name, stride = f"body.{unit}", 2 if index == 0 else 1
            beside = x[:, :, ::stride, ::stride]
            if x.shape[1] != width:
                beside = net.conv(x, f"{name}.shortcut_layer.0", width, 1, stride)
                beside = net.norm(beside, f"{name}.shortcut_layer.1")
            y = net.conv(net.norm(x, f"{name}.res_layer.0"), f"{name}.res_layer.1", width, 3)
            y = net.slopes(net.norm(y, f"{name}.res_layer.2"), f"{name}.res_layer.3")
            y = net.norm(net.conv(y, f"{name}.res_layer.4", width, 3, stride), f"{name}.res_layer.5")
            x = y + beside
            unit += 1
    x = net.linear(net.norm(x, "output_layer.0").flatten(1), "output_layer.3", size, bias=True)
    return net.norm(x, "output_layer.4", affine=False)


def arcface_iresnet(net: Foreign, x: Tensor, depths: tuple[int, ...], size: int) -> Tensor:
    x = net.slopes(net.norm(net.conv(x, "conv1", 64, 3), "bn1"), "prelu")
    for stage, (width, depth) in enumerate(zip(IR_WIDTHS, depths, strict=True), 1):
        for index in range(depth):
            name, stride = f"layer{stage}.{index}", 2 if index == 0 else 1
            beside = x
            if index == 0:
                beside = net.norm(net.conv(x, f"{name}.downsample.0", width, 1, stride), f"{name}.downsample.1")
            y = net.conv(net.norm(x, f"{name}.bn1"), f"{name}.conv1", width, 3)
            y = net.slopes(net.norm(y, f"{name}.bn2"), f"{name}.prelu")
            x = net.norm(net.conv(y, f"{name}.conv2", width, 3, stride), f"{name}.bn3") + beside
    return net.norm(net.linear(net.norm(x, "bn2").flatten(1), "fc", size, bias=True), "features")


def arcface_mbf(net: Foreign, x: Tensor, width: int, blocks: tuple[int, ...], size: int) -> Tensor:
    """insightface's MobileFaceNet: a list of blocks, each a Sequential called `layers`."""

    def block(
        x: Tensor, name: str, outputs: int, kernel: int, stride: int = 1, groups: int = 1, pad: int = -1
    ) -> Tensor:
        return net.norm(net.conv(x, f"{name}.layers.0", outputs, kernel, stride, groups, pad), f"{name}.layers.1")

    def depthwise(x: Tensor, name: str, outputs: int, hidden: int, stride: int) -> Tensor:
        y = net.slopes(block(x, f"{name}.layers.0", hidden, 1), f"{name}.layers.0.layers.2")
        y = net.slopes(block(y, f"{name}.layers.1", hidden, 3, stride, hidden), f"{name}.layers.1.layers.2")
        y = block(y, f"{name}.layers.2", outputs, 1)
        return y + x if stride == 1 else y

    def row(x: Tensor, place: int, count: int, hidden: int) -> Tensor:
        for index in range(count):
            x = depthwise(x, f"layers.{place}.layers.{index}", x.shape[1], hidden, 1)
        return x

    x = net.slopes(block(x, "layers.0", width, 3, 2), "layers.0.layers.2")
    if blocks[0] == 1:
        x = net.slopes(block(x, "layers.1", width, 3, 1, 64), "layers.1.layers.2")
    else:
        x = row(x, 1, blocks[0], 128)
    x = row(depthwise(x, "layers.2", width, 128, 2), 3, blocks[1], 128)
    x = row(depthwise(x, "layers.4", 2 * width, 256, 2), 5, blocks[2], 256)
    x = row(depthwise(x, "layers.6", 2 * width, 512, 2), 7, blocks[3], 256)
    x = net.slopes(block(x, "conv_sep", 512, 1), "conv_sep.layers.2")
    x = block(x, "features.layers.0", 512, 7, groups=512, pad=0).flatten(1)
    return net.norm(net.linear(x, "features.layers.2", size, bias=False), "features.layers.3")


NETWORKS: dict[str, Callable[[Foreign, Tensor], Tensor]] = {
    "ir18": partial(adaface, depths=(2, 2, 2, 2), size=24),
    "iresnet18": partial(arcface_iresnet, depths=(2, 2, 2, 2), size=32),
    "mbf": partial(arcface_mbf, width=128, blocks=(1, 4, 6, 2), size=40),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_of_others_answer_as_their_own_code(name, tmp_path):
    faces = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    foreign = Foreign()
    with torch.no_grad():
        theirs = NETWORKS[name](foreign, faces)
    torch.save(foreign.state, tmp_path / "w.pt")
    weights = open_weights(tmp_path / "w.pt", name)
    assert weights.embedding_size == theirs.shape[1] and not weights.dropped and not weights.fresh
    assert weights.source.preprocessing == ("adaface" if name == "ir18" else "arcface")
    network = weights.build()
    with torch.no_grad():
        assert torch.equal(network(faces), theirs)
        swap_channels(network)  # from BGR to RGB
        torch.testing.assert_close(network(faces.flip(1)), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("ir50", partial(adaface, depths=(3, 4, 14, 3))),
        ("iresnet200", partial(arcface_iresnet, depths=(6, 26, 60, 6))),
        ("mbf-large", partial(arcface_mbf, width=256, blocks=(2, 8, 12, 4))),
    ],
)
def test_the_large_ones_have_the_same_tensors(name, build):
    """Names and shapes alone: the parts are those of the small ones."""
    from edgeface.models.weights.sources import SOURCES

    foreign = Foreign()
    with torch.device("meta"), torch.no_grad():
        foreign._generator = None  # type: ignore[assignment]
        build(foreign, torch.zeros(1, 3, 112, 112), size=512)
        network = build_model(name, 512)
    renamed = [source.names(network) for source in SOURCES]
    theirs = {name: tuple(tensor.shape) for name, tensor in foreign.state.items()}
    ours = network.state_dict()
    assert theirs in [{t: tuple(ours[o].shape) for o, t in names.items()} for names in renamed if names is not None]


@pytest.fixture(scope="module")
def nano() -> nn.Module:
    torch.manual_seed(5)
    network = build_model("resnet-nano", 16)
    network(torch.randn(4, 3, 112, 112))  # running statistics of its own
    return network.eval()


class Holder(nn.Module):
    """A class of somebody's training script."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.model = backbone


def lightning(state: dict[str, Tensor]) -> dict[str, Any]:
    """A checkpoint as Lightning writes it: classes as keys, states of callbacks, numpy numbers, a namespace."""
    from collections import Counter, defaultdict

    callback = sys.modules["lightning_of_others"].ModelCheckpoint
    instance = callback()
    instance.best = np.float64(0.5)
    return {
        "epoch": 3,
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()}
        | {"head.kernel": torch.zeros(16, 70), "head.t": torch.zeros(1), "head.batch_mean": torch.zeros(1)},
        "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "path": Path("a/b")}, "other": instance},
        "hyper_parameters": argparse.Namespace(arch="ir_50", counts=Counter("aab"), more=defaultdict(list, a=[1])),
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}],
        "scores": np.arange(3.0),
    }


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda state: state,
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "torch.compile": lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
    "compiled parts": lambda state: {name.replace("stages.", "stages._orig_mod."): t for name, t in state.items()},
    "nested": lambda state: {"epoch": 1, "model": {"backbone": state}, "optimizer": {"state": {}}},
    "old norms": lambda state: {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")},
    "CVLface": lambda state: {f"model.net.{name}": tensor for name, tensor in state.items()},
    "parameters": lambda state: {name: nn.Parameter(t, t.is_floating_point() and False) for name, t in state.items()},
    "arcface_torch": lambda state: {
        "state_dict_backbone": {f"module.{name}": tensor for name, tensor in state.items()},
        "state_dict_softmax_fc": {"weight": torch.zeros(70, 16)},
        "state_optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
    },
    "with a head": lambda state: state | {"metric_fc.weight": torch.zeros(70, 16), "loss.s": torch.tensor(64.0)},
    "Lightning": lightning,
}


@pytest.fixture
def lightning_of_others(monkeypatch):
    module = types.ModuleType("lightning_of_others")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": "lightning_of_others"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning_of_others", module)
    return module


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_what_people_wrap_around_weights(kind, legacy, nano, tmp_path, lightning_of_others, monkeypatch):
    if legacy and kind == "Lightning":
        pytest.skip("files of before torch 1.6 with classes in them are refused")
    torch.save(WRAPPED[kind](nano.state_dict()), tmp_path / "w.ckpt", _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, "lightning_of_others")
    weights = open_weights(tmp_path / "w.ckpt", "resnet-nano")
    expected = {
        "arcface_torch": ("state_dict_softmax_fc.*", "state_optimizer.*"),
        "with a head": ("metric_fc.*", "loss.*"),
        "Lightning": ("state_dict.head.*", "callbacks.*", "optimizer_states.*"),
    }
    assert set(weights.dropped) <= set(expected.get(kind, ()))
    assert len(weights.dropped) >= len(expected.get(kind, ())) - (kind == "Lightning")
    faces = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(weights.build()(faces), nano(faces))


def test_whole_modules_halves_and_safetensors(nano, tmp_path):
    faces = torch.randn(2, 3, 112, 112)
    torch.save(Holder(nano), tmp_path / "whole.pt")
    save_file({f"net.{name}": tensor for name, tensor in nano.state_dict().items()}, tmp_path / "w.safetensors")
    with torch.no_grad():
        for name in ("whole.pt", "w.safetensors"):
            assert torch.equal(open_weights(tmp_path / name, "resnet-nano").build()(faces), nano(faces))
        half = {name: t.half() if t.is_floating_point() else t for name, t in nano.state_dict().items()}
        torch.save(half, tmp_path / "half.pt")
        made = open_weights(tmp_path / "half.pt", "resnet-nano").build()
        assert made(faces).dtype == torch.float32
        torch.testing.assert_close(made(faces), nano(faces), atol=0.05, rtol=0.05)


class TestRefused:
    def refusal(self, path: Path, state: Any, message: str, model: str = "resnet-nano") -> str:
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=message) as caught:
            open_weights(path, model).build()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_every_missing_and_unexpected_tensor_is_named(self, nano, tmp_path):
        path, state = tmp_path / "w.pt", dict(nano.state_dict())
        lacking = {name: tensor for name, tensor in state.items() if name not in ("stem.0.weight", "head.1.weight")}
        text = self.refusal(path, lacking, "does not fit resnet-nano: it lacks stem.0.")
        assert "head.1." in text and "no network of edgeface fits it" in text
        self.refusal(path, state | {"se.fc.weight": torch.zeros(3)}, r"it has besides se\.\*;")
        # A head is known by name and shape; what only looks like one is not left out.
        self.refusal(path, state | {"classifier.weight": torch.zeros(3, 4)}, r"it has besides classifier\.\*")
        self.refusal(path, state | {"head.9.weight": torch.zeros(2, 3, 4)}, r"it has besides head\.9\.\*")

    def test_shapes_are_told_of_both(self, nano, tmp_path):
        state = dict(nano.state_dict())
        state["stem.0.weight"] = torch.zeros(8, 3, 3, 3)
        ours = " x ".join(map(str, nano.state_dict()["stem.0.weight"].shape))
        self.refusal(
            tmp_path / "w.pt", state, rf"stem\.0\.weight is 8 x 3 x 3 x 3 in the file and {ours} in the network"
        )
        state = nano.state_dict() | {"head.1.weight": nano.state_dict()["head.1.weight"][:5]}
        self.refusal(tmp_path / "w.pt", state, r"head\.2\.weight is 16 in the file and 5 in the network")
        integers = {name: tensor.int() for name, tensor in nano.state_dict().items()}
        self.refusal(tmp_path / "w.pt", integers, r"is of the type torch\.int32")

    def test_another_network_is_recognised(self, nano, tmp_path):
        for model in ("mobilefacenet", "ir18"):
            message = rf"does not fit {model}: the file has other names, net\.\*; its tensors are those of resnet-nano"
            self.refusal(tmp_path / "w.pt", {"net": nano.state_dict()}, message, model)
        small = {name: tensor for name, tensor in nano.state_dict().items() if not name.startswith("head.")}
        self.refusal(tmp_path / "w.pt", small, r"does not fit resnet-edge: it lacks stages\.1\.1\.\*", "resnet-edge")

    def test_two_networks_and_numbers_that_are_not_finite(self, nano, tmp_path):
        twice = {"model": nano.state_dict(), "ema": nano.state_dict()}
        self.refusal(tmp_path / "w.pt", twice, "holds the network 2 times, below ema. and model.")
        broken = dict(nano.state_dict()) | {"stem.1.bias": torch.full_like(nano.state_dict()["stem.1.bias"], torch.nan)}
        self.refusal(tmp_path / "w.pt", broken, r"not finite, in stem\.1\.bias")

    def test_tensors_that_pretend_to_be_large(self, tmp_path):
        huge = torch.zeros(1).expand(1 << 40, 4)
        self.refusal(tmp_path / "w.pt", {"stem.0.weight": huge, "x": huge}, "does not fit")
        for odd in (torch.zeros(3, device="meta"), torch.zeros(3).to_sparse()):
            self.refusal(tmp_path / "w.pt", {"stem.0.weight": odd}, "holds no named tensors")
        deep: dict[str, Any] = {}
        deep["self"] = deep
        self.refusal(tmp_path / "w.pt", deep, "holds no named tensors; save the weights alone with torch.save")

    @pytest.mark.parametrize(
        "make", [lambda: os.system, lambda: eval, lambda: io.open, lambda: np.load], ids=["os", "eval", "open", "numpy"]
    )
    def test_no_code_is_run(self, make, nano, tmp_path):
        target = tmp_path / "ran"

        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                arguments = {"eval": f"open({str(target)!r}, 'w')", "system": f"touch {target}"}
                name = make().__name__
                return make(), (arguments.get(name, str(target)), *(["w"] if name == "open" else []))

        for legacy in (False, True):
            torch.save(
                nano.state_dict() | {"evil": Evil()}, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy
            )
            try:
                open_weights(tmp_path / "w.pt", "resnet-nano").build()
            except CheckpointError as error:
                assert "without running code" in str(error) and "\n" not in str(error)
            assert not target.exists()

    def test_files_of_other_kinds(self, nano, tmp_path, monkeypatch):
        path = tmp_path / "w.pt"
        with pytest.raises(CheckpointError, match="weights not found"):
            read_tensors(tmp_path / "none.pt")
        with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
            read_tensors(tmp_path)
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("m/data.pkl", "m/constants.pkl", "m/version"):
                archive.writestr(name, b"")
        with pytest.raises(CheckpointError, match="program of TorchScript"):
            read_tensors(path)
        torch.save(nano.state_dict(), path)
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in archive.namelist():
                packed.writestr(name, archive.read(name))
        with pytest.raises(CheckpointError, match="is a compressed archive"):
            read_tensors(tmp_path / "z.pt")
        for content in (
            b"",
            b"\x80\x02",
            b"PK\x03\x04",
            b"\x89HDF\r\n",
            pickle.dumps([1, 2]),
            b"x" * 8 + b"{" + b"y" * 50,
        ):
            path.write_bytes(content)
            with pytest.raises(CheckpointError):
                read_tensors(path)
        monkeypatch.setattr("edgeface.models.weights.files.MAX_FILE_BYTES", 100)
        path.write_bytes(b"x" * 101)
        with pytest.raises(CheckpointError, match="at most 100 are read"):
            read_tensors(path)

    @settings(max_examples=150)
    @given(data=st.data())
    def test_broken_files_are_refused_in_one_line(self, data, tmp_path_factory):
        path = tmp_path_factory.getbasetemp() / "fuzz.pt"
        state = {"a.weight": torch.arange(6.0).reshape(2, 3), "n": {"b": torch.zeros(2)}, "x": argparse.Namespace(a=1)}
        kind = data.draw(st.sampled_from(["zip", "legacy", "safetensors"]))
        if kind == "safetensors":
            save_file({"a.weight": torch.arange(6.0)}, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
        try:
            tensors = read_tensors(path)
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:
            assert all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors.values())


def test_names_in_groups():
    universe = [f"layer.{n}.{part}" for n in range(12) for part in ("w", "b")] + ["end.w", "end.b", "alone"]
    lacking = [name for name in universe if name.startswith(("layer.4.", "layer.5.", "layer.9."))]
    assert in_groups(lacking, universe) == ("layer.{4-5,9}.*",)
    assert in_groups(["end.w", "alone"], universe) == ("end.w", "alone")
    assert in_groups(universe, universe) == ("layer.*", "end.*", "alone")
    assert in_groups(["x" * 500], ["x" * 500])[0] == "x" * 100 + "..."


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "0", "1", "7"]), min_size=1, max_size=4), min_size=1, max_size=12),
    st.data(),
)
def test_groups_stand_for_their_names_and_no_others(parts, data):
    universe = sorted({".".join(part) for part in parts})
    names = data.draw(st.lists(st.sampled_from(universe), unique=True))
    expanded: set[str] = set()
    for group in in_groups(names, universe):
        head, brace, rest = group.partition("{")
        numbers, _, tail = rest.partition("}")
        texts = [group]
        if brace:
            ranges = [list(map(int, one.split("-"))) for one in numbers.split(",")]
            texts = [f"{head}{n}{tail}" for one in ranges for n in range(one[0], one[-1] + 1)]
        for text in texts:
            expanded |= {
                name for name in universe if name == text or (text.endswith(".*") and name.startswith(text[:-1]))
            }
    assert expanded == set(names)


class TestExpected:
    """Parity with the reference embeddings of a network."""

    def network(self, embeddings: npt.NDArray[np.float32]) -> Network:
        return Network(None, lambda faces: embeddings[: len(faces)], {"source": "a test"})  # type: ignore[arg-type]

    def unit(self, count: int = 5):
        vectors = np.random.default_rng(0).normal(size=(count, 8))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def files(self, folder: Path, faces: Any, embeddings: Any) -> tuple[Path, Path]:
        np.save(folder / "faces.npy", faces)
        np.save(folder / "embeddings.npy", embeddings)
        return folder / "faces.npy", folder / "embeddings.npy"

    def test_the_smallest_cosine_counts(self, tmp_path):
        unit = self.unit()
        faces = np.zeros((5, 112, 112, 3), np.uint8)
        scaled = unit.astype(np.float64) * np.arange(1, 6)[:, None]
        checked = assert_expected(self.network(unit), *self.files(tmp_path, faces, scaled))
        assert "smallest cosine 1.000000 to the embeddings of 5 faces" in str(
            checked.origin["agrees with its own code"]
        )
        for angle, good in ((np.arccos(MIN_COSINE) * 0.98, True), (np.arccos(MIN_COSINE) * 1.02, False)):
            turned = unit.astype(np.float64)
            other = unit[0] - unit[0] @ unit[3] * unit[3]
            turned[3] = np.cos(angle) * unit[3] + np.sin(angle) * other / np.linalg.norm(other)
            files = self.files(tmp_path, faces, turned)
            if good:
                assert_expected(self.network(unit), *files)
            else:
                with pytest.raises(
                    ExportError, match=r"cosine 0\.99\d\d to embeddings.npy for face 3 of 5.*0\.999 is needed"
                ):
                    assert_expected(self.network(unit), *files)

    @pytest.mark.parametrize(
        ("faces", "embeddings", "message"),
        [
            (np.zeros((5, 112, 112, 3), np.float32), np.ones((5, 8)), r"uint8 RGB"),
            (np.zeros((5, 3, 112, 112), np.uint8), np.ones((5, 8)), r"uint8 RGB"),
            (np.zeros((0, 112, 112, 3), np.uint8), np.ones((0, 8)), r"uint8 RGB"),
            (np.zeros((5, 112, 112, 3), np.uint8), np.ones((4, 8)), r"\(4, 8\) float64; .* makes \(5, 8\)"),
            (np.zeros((5, 112, 112, 3), np.uint8), np.zeros((5, 8)), "without a length"),
            (np.zeros((5, 112, 112, 3), np.uint8), np.full((5, 8), np.nan), "not finite"),
            (np.zeros((5, 112, 112, 3), np.uint8), np.array([{}]), "is not a .npy file of numbers"),
            (np.uint8(3), np.ones((5, 8)), "several faces"),
        ],
    )
    def test_files_that_do_not_go_together(self, faces, embeddings, message, tmp_path):
        with pytest.raises(ExportError, match=message):
            assert_expected(self.network(self.unit()), *self.files(tmp_path, faces, embeddings))
        with pytest.raises(ExportError, match="not found"):
            assert_expected(self.network(self.unit()), tmp_path / "none.npy", tmp_path / "embeddings.npy")


TINY: dict[str, Any] = {"depths": (1, 1, 1, 1), "size": 20, "widths": (8, 12, 16, 16)}


class TestCommands:
    @pytest.fixture
    def tiny(self, monkeypatch, tmp_path) -> Foreign:
        """A narrow network of AdaFace's with one unit a stage, and its checkpoint."""
        monkeypatch.setattr("edgeface.models.iresnet.WIDTHS", TINY["widths"])
        monkeypatch.setitem(MODELS, "ir-tiny", partial(IResNet, depths=TINY["depths"], subsampled=True))
        foreign = Foreign()
        with torch.no_grad():
            adaface(foreign, torch.zeros(1, 3, 112, 112), **TINY)
        state = {f"model.{name}": tensor for name, tensor in foreign.state.items()}
        torch.save({"state_dict": state | {"head.kernel": torch.zeros(20, 300)}}, tmp_path / "ada.ckpt")
        return foreign

    def test_a_checkpoint_of_adaface_becomes_a_bundle(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr("edgeface.export.quantization.calibration.check_aligned", lambda *_: None)  # no faces
        monkeypatch.setattr("edgeface.export.speed.ROUNDS", 2)
        people = smooth_pictures()[:24]
        from edgeface.images import write_image

        for index, face in enumerate(people):
            write_image(tmp_path / "people" / f"p{index % 8}" / f"{index}.png", face)
        # As AdaFace's own code prepares and normalises.
        bgr = ((people[..., ::-1].astype(np.float32) / 255) - 0.5) / 0.5
        with torch.no_grad():
            raw = adaface(tiny, torch.from_numpy(bgr.transpose(0, 3, 1, 2).copy()), **TINY)
        theirs = (raw / raw.norm(dim=1, keepdim=True)).numpy()
        np.save(tmp_path / "faces.npy", people)
        np.save(tmp_path / "theirs.npy", raw.numpy())
        expect = ["--expect", tmp_path / "faces.npy", tmp_path / "theirs.npy"]
        export = [
            *("export", tmp_path / "ada.ckpt", "--model", "ir-tiny", "--calibration", tmp_path / "people"),
            *("--precision", "fp32", "--detector", "none", "--fmr", "0.1", "--calibration-images", "16"),
        ]
        made = run(*export, *expect, "--out", tmp_path / "b")
        assert made.exit_code == 0, made.output
        assert "ada.ckpt: ir-tiny with embeddings of 20 numbers, under the names of AdaFace" in made.stderr
        assert "left out of ada.ckpt: state_dict.head.*" in made.stderr
        bundle = open_bundle(tmp_path / "b")
        embedder, _ = bundle_embedder(bundle, precision="fp32", provider="cpu")
        np.testing.assert_allclose(embedder.embed(people), theirs, atol=1e-5)
        card = bundle.read("MODEL_CARD.md").decode()
        assert "weights under the names of AdaFace" in card and "nchw bgr, (pixel - 127.5) * 0.00784314" in card
        assert "smallest cosine 1.000000 to the embeddings of 24 faces in theirs.npy" in card
        evaluated = run(
            "eval", tmp_path / "ada.ckpt", "--model", "ir-tiny", "--data", tmp_path / "people", "--bootstrap", "0"
        )
        assert evaluated.exit_code == 0, evaluated.output

        swapped, _ = open_weights_embedder(tmp_path / "ada.ckpt", "ir-tiny", Said(channel_order="rgb"))
        with pytest.raises(ExportError, match="does not answer as expected: cosine"):
            assert_expected(Network(None, swapped.embed, {}), *expect[1:])  # type: ignore[arg-type]
        fails("--input-size is for ONNX files", *export, "--out", tmp_path / "c", "--input-size", "96")
        fails("its network inside", "export", "--onnx", "n.onnx", *export[2:], "--out", tmp_path / "c")
        fails("name their network with --model", "export", tmp_path / "ada.ckpt", *export[4:], "--out", tmp_path / "c")
        fails("does not fit iresnet18", *export[:3], "iresnet18", *export[4:], "--out", tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_options_go_before_what_the_source_does(self, tiny, tmp_path):
        people = smooth_pictures()[:3]
        said = Said(channel_order="rgb", mean=(100.0, 110.0, 120.0), scale=(0.01, 0.02, 0.03))
        embedder, remarks = open_weights_embedder(tmp_path / "ada.ckpt", "ir-tiny", said)
        assert any("--channel-order rgb instead of bgr" in remark for remark in remarks)
        prepared = (people.astype(np.float32) - [100, 110, 120]) * [0.01, 0.02, 0.03]
        pixels = torch.from_numpy(prepared.transpose(0, 3, 1, 2).astype(np.float32).copy())
        with torch.no_grad():
            raw = F.normalize(adaface(tiny, pixels, **TINY))
        np.testing.assert_allclose(embedder.embed(people), raw.numpy(), atol=1e-5)
        with pytest.raises(ConfigError, match="sees RGB only"):
            swap_channels(nn.Sequential(nn.Linear(3, 3)))
