"""Fine-tuning int8: torch trains what onnxruntime then computes from the file, and the better network is kept."""

import dataclasses
import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeface.data import InMemoryFaces
from edgeface.data.synthetic import crops
from edgeface.errors import ConfigError, ExportError
from edgeface.export import pipeline
from edgeface.export.cleaning import serialize
from edgeface.export.graph import export_backbone
from edgeface.export.parity import compare
from edgeface.export.pipeline import ExportSettings, Network, export_bundle
from edgeface.export.prelu import rewrite_prelu
from edgeface.export.quantization import finetuning
from edgeface.export.quantization.calibration import held_out
from edgeface.export.quantization.fakequant import FakeQuantized, Grid
from edgeface.export.quantization.finetuning import finetune
from edgeface.export.quantization.operators import OPERATORS, check_operators, run_operator
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.search import Plan
from edgeface.export.quantization.targets import TARGETS
from edgeface.manifest import Finetuning, Manifest, Quantization
from edgeface.runtime.embedder import open_embedder
from tests.processors import needs_sums_of
from tests.test_cli import fails
from tests.test_export import smooth_pictures
from tests.test_quantization import TinyNet


@pytest.fixture(scope="module")
def faces():
    return smooth_pictures()


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    return export_backbone(TinyNet().eval())


@pytest.fixture(scope="module")
def model(exported):
    return rewrite_prelu(exported)


def quantized(model, faces, target="x86-avx2"):
    return Quantizer(model, faces, TARGETS[target])


def in_torch(quantizer):
    return FakeQuantized(quantizer.write(Plan()), quantizer.graph, quantizer.target, quantizer.biases)


def as_written(model, faces):
    """Embed by onnxruntime with every node computed as it stands in the file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(serialize(model), options)
    return session.run(None, {"faces": faces})[0]


def embed(model, faces):
    return open_embedder(serialize(model), provider="cpu").embed(faces)


def assert_same(made, expected):
    """Most faces agree to float precision; in a few, a sum in another order rounds to the next step somewhere."""
    parity = compare(expected, made)
    assert parity.mean_cosine > 0.99999 and parity.min_cosine > 0.9995
    assert np.median(np.abs(made - expected).max(axis=1)) < 1e-5


def shaken(quantizer):
    """Move weights and biases far, as long training would, so that no start value can pass for a trained one."""
    network = in_torch(quantizer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in (*network.weights.values(), *network.biases.values()):
            values += 3 * torch.randn(values.shape, generator=generator)
    return network


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("form", ["as it is", "rewritten"])
def test_torch_computes_what_the_file_says(exported, model, faces, target, form):
    needs_sums_of(target)
    quantizer = quantized(model if form == "rewritten" else exported, faces, target)
    before = as_written(quantizer.write(Plan()), faces)
    assert_same(in_torch(quantizer).embed(torch.from_numpy(faces)).detach().numpy(), before)
    network = shaken(quantizer)
    quantizer.tune(network.tuned())
    written = quantizer.write(Plan())
    trained = network.embed(torch.from_numpy(faces)).detach().numpy()
    assert_same(trained, as_written(written, faces))
    assert compare(before, trained).mean_cosine < 0.9999  # else the test could not fail
    assert compare(embed(written, faces), trained).mean_cosine > 0.999  # fused into integer kernels
    largest = max(np.abs(numpy_helper.to_array(t)).max() for t in written.graph.initializer if t.name.endswith(".w8"))
    assert largest == TARGETS[target].largest_weight


def test_layers_in_float_are_not_learned(model, faces):
    quantizer = quantized(model, faces, "x86-vnni")
    plan = quantizer.cheapest
    network = FakeQuantized(
        quantizer.write(plan), quantizer.graph, quantizer.target, quantizer.biases, plan.float_layers
    )
    assert plan.float_layers and network.weights and not set(plan.float_layers) & set(network.weights)
    made = network.embed(torch.from_numpy(faces)).detach().numpy()
    assert_same(made, as_written(quantizer.write(plan), faces))


def test_a_grid_rounds_half_to_even_and_stops_what_saturates():
    values = torch.tensor([-9.0, -1.5, -0.5, 0.5, 1.5, 2.5, 9.0], requires_grad=True)
    made = Grid.apply(values, torch.tensor(1.0), -2, 5)
    assert made.tolist() == [-2, -2, 0, 0, 2, 2, 5]
    made.backward(torch.arange(1.0, 8.0))
    assert values.grad is not None and values.grad.tolist() == [0, 2, 3, 4, 5, 6, 0]


def test_fine_tuning_comes_nearer_to_the_original(model, faces):
    learned = np.concatenate([faces, faces[..., ::-1]])
    # Every layer in int8: with the sensitive ones in float there is next to nothing left to learn here.
    quantizer = Quantizer(model, learned, dataclasses.replace(TARGETS["x86-avx2"], costs_known=False))
    told: list[str] = []
    before = quantizer.write(Plan())
    record = finetune(quantizer, learned, 15, told.append, clock=lambda: 0.0)
    assert record.kept and record.loss_after < 0.9 * record.loss_before
    assert (record.epochs, record.faces, record.held_apart) == (15, 84, 12)
    assert quantizer.record(Plan()).finetuning == record
    others = faces[..., [1, 2, 0]]  # seen by neither
    original = embed(model, others)
    after = quantizer.write(Plan())
    assert compare(original, embed(after, others)).mean_cosine > compare(original, embed(before, others)).mean_cosine
    apart = learned[:: finetuning.HELD_APART]
    measured = 1 - compare(embed(model, apart), embed(after, apart)).mean_cosine
    assert record.loss_after == pytest.approx(measured, rel=0.02)
    assert len(told) == 15 and told[2].startswith("int8: fine-tuning, epoch 3 of 15")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_same_faces_give_the_same_bytes(model, faces):
    digests = set()
    for seed in (0, 1):
        torch.manual_seed(seed)  # nothing may come from the global generator
        quantizer = quantized(model, faces)
        finetune(quantizer, faces, 2)
        digests.add(hashlib.sha256(serialize(quantizer.write(Plan()))).hexdigest())
    assert len(digests) == 1


def test_what_makes_it_worse_is_not_kept(model, faces, monkeypatch):
    quantizer = quantized(model, faces)
    before = serialize(quantizer.write(Plan()))
    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "WEIGHT_RATE", 30.0)
        record = finetune(quantizer, faces, 1)
    assert not record.kept and record.loss_after == record.loss_before
    assert serialize(quantizer.write(Plan())) == before
    with monkeypatch.context() as patched:  # torch says it is better, onnxruntime measures that it is not
        worse = shaken(quantizer).tuned()
        patched.setattr(FakeQuantized, "tuned", lambda _: worse)
        losses = iter([0.9, 0.1])
        patched.setattr(finetuning, "_loss", lambda *_: next(losses))
        record = finetune(quantizer, faces, 1)
    assert not record.kept and record.loss_after > record.loss_before
    assert serialize(quantizer.write(Plan())) == before


def test_layers_in_float_keep_their_own_weights(model, faces):
    quantizer = quantized(model, faces)
    every = Plan(tuple(layer.name for layer in quantizer.graph.layers), float_weights=True)
    mixed = Plan(every.float_layers[2:])
    before = {plan: quantizer.write(plan) for plan in (every, mixed)}
    quantizer.tune(shaken(quantizer).tuned())
    assert serialize(quantizer.write(every)) == serialize(before[every])
    old, new = ({t.name: t for t in m.graph.initializer} for m in (before[mixed], quantizer.write(mixed)))
    changed = {name.rsplit(".", 1)[0] for name in old if old[name] != new[name]}
    assert changed == {layer.name for layer in quantizer.graph.layers[:2]}
    quantizer.tune(None)
    assert serialize(quantizer.write(mixed)) == serialize(before[mixed])


def test_what_cannot_be_meant_is_refused(model, faces):
    for epochs in (0, -1, 1001):
        with pytest.raises(ConfigError, match=rf"--finetune takes 1 to 1000 epochs, got {epochs}"):
            ExportSettings("a", finetune=epochs)
    with pytest.raises(ConfigError, match="int8 is not among the precisions"):
        ExportSettings("a", precisions=("fp32", "fp16"), finetune=3)
    with pytest.raises(ExportError, match=r"at least 48 faces .* 20 were given"):
        finetune(quantized(model, faces), faces[:20], 1)
    with pytest.raises(ExportError, match=r"operator Det cannot be fine-tuned through .*Conv.*leave out --finetune"):
        check_operators({"Conv", "Det"})


def test_the_command_refuses_in_one_line():
    arguments = ("export", "/no/run", "--out", "x", "--calibration", ".", "--finetune")
    assert "--finetune takes 1 to 1000 epochs, got 0" in fails("--finetune", *arguments, "0")
    assert "not among the precisions" in fails("--finetune", *arguments, "5", "--precision", "fp32")


def test_a_bundle_tells_of_it_and_held_out_faces_are_not_learned_from(tmp_path, monkeypatch, exported):
    images, _ = crops(12, 8, seed=3)
    seen = []

    def spy(quantizer, faces, *rest):
        seen.append(faces)
        return finetune(quantizer, faces, *rest)

    monkeypatch.setattr(pipeline, "finetune", spy)
    network = Network(exported, lambda batch: embed(exported, batch), {})
    manifest = export_bundle(network, tmp_path / "b", ExportSettings("a", finetune=2), images, "drawn")
    tried = held_out(len(images))[1]
    learned = {face.tobytes() for face in seen[0]}
    assert len(learned) == 72 and not learned & {face.tobytes() for face in images[tried]}
    quantization = manifest.precisions["int8"].quantization
    assert quantization is not None and quantization.finetuning is not None
    assert (quantization.finetuning.epochs, quantization.finetuning.faces) == (2, 63)
    again = Manifest.parse((tmp_path / "b" / "manifest.json").read_bytes())
    assert again == manifest
    outcome = "" if quantization.finetuning.kept else ", so the network from before was kept"
    card = (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert "fine-tuned to the float32 network for 2 epochs on 63 faces: mean of 1 - cosine " in card
    assert f"on 9 faces held apart{outcome};" in card


def test_a_manifest_without_it_loads():
    old = {"target": "arm64", "activations": "int8", "weights": "int8", "per_channel": True, "reduce_range": False}
    assert Quantization.model_validate(old | {"method": "minmax"}).finetuning is None
    record = Finetuning(epochs=1, faces=2, held_apart=3, loss_before=0.1, loss_after=0.2, kept=False)
    new = Quantization.model_validate(old | {"method": "minmax", "finetuning": record.model_dump()})
    assert new.finetuning == record


PICTURE = (2, 6, 7, 8)
CASES = [  # operator, inputs (a shape for random floats, or an array), attributes
    ("Add", [PICTURE, (6, 1, 1)], {}),
    ("AveragePool", [PICTURE], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [PICTURE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [PICTURE], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("BatchNormalization", [PICTURE, (6,), (6,), (6,), np.linspace(0.5, 2, 6, dtype=np.float32)], {"epsilon": 1e-2}),
    ("Cast", [np.arange(4, dtype=np.uint8)], {"to": TensorProto.FLOAT}),
    ("Clip", [PICTURE, np.float32(-0.3), np.float32(0.6)], {}),
    ("Clip", [PICTURE, None, np.float32(0.6)], {}),
    ("Clip", [PICTURE], {}),
    ("Concat", [PICTURE, PICTURE], {"axis": 1}),
    ("Conv", [PICTURE, (4, 6, 3, 2), (4,)], {"strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [1, 2]}),
    ("Conv", [PICTURE, (6, 1, 3, 3)], {"group": 6, "pads": [0, 1, 1, 2]}),
    ("Div", [PICTURE, np.float32(3)], {}),
    ("Dropout", [PICTURE], {}),
    ("Erf", [PICTURE], {}),
    ("Flatten", [PICTURE], {}),
    ("Flatten", [PICTURE], {"axis": 2}),
    ("Gather", [PICTURE, np.array([[0, -1], [2, 2]])], {"axis": 1}),
    ("Gelu", [PICTURE], {}),
    ("Gelu", [PICTURE], {"approximate": "tanh"}),
    ("Gemm", [(3, 4), (5, 4), (5,)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [(4, 3), (4, 5)], {"transA": 1}),
    ("GlobalAveragePool", [PICTURE], {}),
    ("HardSigmoid", [PICTURE], {"alpha": 0.3}),
    ("HardSwish", [PICTURE], {}),
    ("Identity", [PICTURE], {}),
    ("LayerNormalization", [PICTURE, (8,), (8,)], {"epsilon": 1e-2}),
    ("LeakyRelu", [PICTURE], {"alpha": 0.2}),
    ("MatMul", [PICTURE, (8, 3)], {}),
    ("MaxPool", [PICTURE], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("Mul", [PICTURE, (6, 1, 1)], {}),
    ("PRelu", [PICTURE, (6, 1, 1)], {}),
    ("Pow", [PICTURE, np.float32(2)], {}),
    ("Reciprocal", [PICTURE], {}),
    ("ReduceL2", [PICTURE, np.array([1])], {}),
    ("ReduceMean", [PICTURE, np.array([-1, 2])], {"keepdims": 0}),
    ("ReduceSum", [PICTURE], {"keepdims": 0}),
    ("Relu", [PICTURE], {}),
    ("Reshape", [PICTURE, np.array([0, -1, 4])], {}),
    ("Shape", [PICTURE], {}),
    ("Sigmoid", [PICTURE], {}),
    ("Slice", [PICTURE, np.array([-1]), np.array([-9]), np.array([1]), np.array([-1])], {}),
    ("Slice", [PICTURE, np.array([1, 0]), np.array([9, -2]), np.array([2, 3])], {}),
    ("Slice", [PICTURE, np.array([0, 1]), np.array([1, 3])], {}),
    ("Softmax", [PICTURE], {"axis": 1}),
    ("Split", [PICTURE, np.array([1, 5])], {"axis": 1}),
    ("Split", [PICTURE], {"axis": 1, "num_outputs": 2}),
    ("Sqrt", [np.arange(5, dtype=np.float32)], {}),
    ("Squeeze", [(2, 1, 3, 1), np.array([1, -1])], {}),
    ("Squeeze", [(2, 1, 3, 1)], {}),
    ("Sub", [PICTURE, (6, 1, 1)], {}),
    ("Transpose", [PICTURE], {"perm": [0, 3, 1, 2]}),
    ("Unsqueeze", [(2, 3), np.array([-1, 1])], {}),
]


@pytest.mark.parametrize(("kind", "inputs", "attributes"), CASES)
def test_operators_do_what_onnxruntime_does(kind, inputs, attributes):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=given).astype(np.float32) if isinstance(given, tuple) else given for given in inputs]
    names = [None if array is None else f"input{place}" for place, array in enumerate(arrays)]
    results = ["first", "second"] if kind == "Split" else ["first"]
    node = helper.make_node(kind, [name or "" for name in names], results, **attributes)
    fed = [(name, np.asarray(array)) for name, array in zip(names, arrays, strict=True) if name]
    floats = [numpy_helper.from_array(array, name) for name, array in fed]
    outputs = [onnx.ValueInfoProto(name=name) for name in results]
    model = helper.make_model(
        helper.make_graph([node], "one", [], outputs, floats), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})
    given = [None if array is None else torch.from_numpy(np.array(array)) for array in arrays]
    made = run_operator(kind, given, {a.name: helper.get_attribute_value(a) for a in node.attribute})
    for mine, theirs in zip(made, expected, strict=True):
        assert mine.numpy().shape == theirs.shape and mine.numpy().dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_every_operator_is_compared():
    assert {kind for kind, _, _ in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Conv", [(1, 2, 5), (2, 2, 3)], {}),
        ("Conv", [PICTURE, (4, 6, 3, 3)], {"auto_pad": b"SAME_UPPER"}),
        ("AveragePool", [PICTURE], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("Cast", [PICTURE], {"to": TensorProto.FLOAT16}),
        ("Split", [PICTURE], {"axis": 1}),
    ],
)
def test_forms_that_are_not_computed_are_refused(kind, inputs, attributes):
    with pytest.raises(ExportError, match="fine-tuned through"):
        run_operator(kind, [torch.ones(shape) for shape in inputs], attributes)


def test_a_whole_network_of_attention_and_norms(faces):
    """Reshape, Transpose, MatMul of two activations, LayerNorm and GELU between int8 layers."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 16, 16)
            self.norm = nn.LayerNorm(16)
            self.mix = nn.MultiheadAttention(16, 2, batch_first=True)
            self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

        def forward(self, x):
            x = self.stem(x).flatten(2).transpose(1, 2)
            y = self.norm(x)
            x = x + self.mix(y, y, y, need_weights=False)[0]
            return (x + self.down(nn.functional.gelu(self.up(x)))).mean(1)

    torch.manual_seed(0)
    quantizer = quantized(export_backbone(Attention().eval()), faces)
    network = shaken(quantizer)
    quantizer.tune(network.tuned())
    made = network.embed(torch.from_numpy(faces)).detach().numpy()
    assert_same(made, as_written(quantizer.write(Plan()), faces))


def test_in_memory_faces_stay_as_they_are(model, faces):
    """Mirroring must not write into what the caller gave."""
    given = InMemoryFaces(faces.copy(), np.arange(len(faces)), name="a").images
    finetune(quantized(model, given), given, 1)
    assert (given == faces).all()
