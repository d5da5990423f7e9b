"""Int8: the faces stay the same, the search leaves in float what a bound needs, and each step does what it says."""

import dataclasses
from itertools import combinations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from edgeface.data import InMemoryFaces, make_pairs
from edgeface.errors import ConfigError, ExportError, UnknownNameError
from edgeface.export.cleaning import serialize
from edgeface.export.graph import export_backbone, fix_batch
from edgeface.export.parity import compare
from edgeface.export.prelu import rewrite_prelu
from edgeface.export.quantization import equalization
from edgeface.export.quantization.bias import corrected_biases
from edgeface.export.quantization.bounded import Bounds, Trial, quantize_within
from edgeface.export.quantization.calibration import draw_faces, held_out
from edgeface.export.quantization.cost import CONVERSION, FEWEST_INPUTS, CostModel
from edgeface.export.quantization.equalization import equalize, find_neighbours
from edgeface.export.quantization.layers import find_layers
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.ranges import (
    BINS,
    METHODS,
    Histogram,
    channel_reaches,
    collect_activations,
    entropy_range,
    minmax_range,
    percentile_range,
    with_outputs,
)
from edgeface.export.quantization.search import Plan, find_plan, ladder
from edgeface.export.quantization.sensitivity import draw_sensitivity, measure_sensitivity, ranked
from edgeface.export.quantization.targets import TARGETS, check_target, resolve_target
from edgeface.export.quantization.weights import round_weight
from edgeface.export.speed import explain_speed, race
from edgeface.runtime.embedder import open_embedder
from edgeface.runtime.placement import placement
from edgeface.runtime.providers.session import open_session
from tests.processors import needs_sums_of
from tests.test_export import smooth_pictures


class TinyNet(nn.Module):
    """Every kind of layer: PReLU and ReLU, depthwise, a residual sum, a product at the end."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 8, 3)
        self.act = nn.PReLU(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.act2 = nn.PReLU(8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.wide = nn.Conv2d(8, 64, 3, 1, 1)
        self.narrow = nn.Conv2d(64, 8, 1)
        self.pool = nn.Conv2d(8, 8, 14, groups=8)
        self.linear = nn.Linear(8, 16)

    def forward(self, x):
        x = self.act(self.stem(x))
        x = x + self.pointwise(self.act2(self.depthwise(x)))
        x = x + self.narrow(torch.relu(self.wide(x)))
        return self.linear(self.pool(x).flatten(1))


@pytest.fixture(scope="module")
def faces():
    return smooth_pictures()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = TinyNet()
    with torch.no_grad():
        for act in (net.act, net.act2):
            act.weight.uniform_(-0.2, 0.6)
        net.stem.weight *= torch.logspace(-1, 1, 8).reshape(-1, 1, 1, 1)  # channels of very different size
    return rewrite_prelu(export_backbone(net.eval()))


@pytest.fixture(scope="module")
def quantizer(model, faces):
    return Quantizer(model, faces, TARGETS["x86-avx2"])


def embed(model, faces):
    return open_embedder(serialize(model), provider="cpu").embed(faces)


def equalized(graph, faces):
    between = [pair.first.output for pair in find_neighbours(graph)]
    return equalize(graph, channel_reaches(graph.model, between, faces))


def outputs_of(model, name, faces):
    """Run faces and return one tensor of the graph, (N, ...)."""
    session = open_session(serialize(with_outputs(model, [name])), provider="cpu")
    place = [output.name for output in session.outputs].index(name)
    return session.run({"faces": faces})[place]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_int8_keeps_the_faces(model, faces, target):
    needs_sums_of(target)
    quantizer = Quantizer(model, faces, TARGETS[target])
    quantized = quantizer.write(Plan())
    assert compare(embed(model, faces), embed(quantized, faces)).min_cosine > 0.97
    assert quantizer.record(Plan()).target == target
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    products = [layer for layer in quantizer.graph.layers if layer.weight]
    assert len(products) == 7
    for layer in products:
        weight = numbers[f"{layer.name}.w8"]
        assert weight.dtype == np.int8 and np.abs(weight).max() == (64 if TARGETS[target].reduce_range else 127)
        assert len(numbers[f"{layer.name}.ws"]) == weight.shape[layer.channel_axis]  # one scale per channel
    biases = {tensor.data_type for tensor in quantized.graph.initializer if tensor.name.endswith((".b32", ".bias"))}
    assert biases == {TensorProto.INT32 if TARGETS[target].bias else TensorProto.FLOAT}
    zeros = {int(value) for name, value in numbers.items() if name.endswith(".zero")}
    kinds = {value.dtype for name, value in numbers.items() if name.endswith(".zero")}
    assert kinds == {np.dtype(np.int8 if TARGETS[target].signed else np.uint8)}
    assert (zeros == {0}) == TARGETS[target].symmetric


def test_tensorrt_gets_a_pair_for_each_taker(model, faces):
    quantized = Quantizer(model, faces, TARGETS["tensorrt"]).write(Plan())
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear":
            takers = [other for other in quantized.graph.node if node.output[0] in other.input]
            assert [other.op_type for other in takers] == ["DequantizeLinear"]
            users = [other for other in quantized.graph.node if takers[0].output[0] in other.input]
            assert len(users) <= 1 or not any(user.op_type == "Conv" for user in users)


def test_int8_is_reproducible(model, faces):
    first, second = (serialize(Quantizer(model, faces[:16], TARGETS["x86-avx2"]).write(Plan())) for _ in range(2))
    assert first == second


def test_all_in_float_with_float_weights_is_the_network(quantizer, model, faces):
    every = tuple(layer.name for layer in quantizer.graph.layers)
    assert compare(embed(model, faces), embed(quantizer.write(Plan(every, True)), faces)).min_cosine > 0.999999
    stored = quantizer.write(Plan(every))
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in stored.graph.node}
    assert len(serialize(stored)) < 0.7 * len(serialize(quantizer.write(Plan(every, True))))
    assert 0.999 < compare(embed(model, faces), embed(stored, faces)).min_cosine < 0.9999999


def test_a_sum_in_float_takes_the_exact_trunk(quantizer):
    """Beside a convolution in int8, a residual sum in float reads what was made in float, not its rounded form."""
    first_sum = next(layer for layer in quantizer.graph.layers if layer.kind == "Add")
    trunk = next(n for n in first_sum.inputs if n in quantizer.graph.layers[1].inputs)
    quantized = quantizer.write(Plan((first_sum.name,)))
    nodes = {node.name: node for node in quantized.graph.node}
    assert trunk in nodes[first_sum.name].input
    assert nodes[quantizer.graph.layers[1].name].input[0] == f"{trunk}.dq"


def test_what_does_not_exist_is_refused(quantizer, model, faces):
    with pytest.raises(ExportError, match="no layer 'nobody'"):
        quantizer.write(Plan(("nobody",)))
    with pytest.raises(UnknownNameError, match="entropy, minmax, percentile"):
        Quantizer(model, faces, TARGETS["x86-avx2"], "median")
    with pytest.raises(ExportError, match=r"at least 16 .* 5 were given"):
        Quantizer(model, faces[:5], TARGETS["x86-avx2"])


def test_targets():
    assert resolve_target("auto") in TARGETS.values()
    with pytest.raises(ExportError, match=r"no quantized convolutions.*fp16"):
        resolve_target("cuda")
    check_target("cuda", integer=False)
    with pytest.raises(UnknownNameError, match="tensorrt"):
        check_target("tpu", integer=False)


def test_equalisation_leaves_the_float_network_alone(model, faces):
    graph = find_layers(model)
    equal = equalized(graph, faces)
    places = {layer.name: place for place, layer in enumerate(graph.layers)}
    pairs = [(places[pair.first.name], places[pair.second.name]) for pair in find_neighbours(graph)]
    assert pairs == [(1, 2), (4, 5)]  # through a PReLU and a ReLU; the stem also feeds the sum
    for tensor in (graph.layers[2].output, "embeddings"):
        before, after = (outputs_of(g.model, tensor, faces) for g in (graph, equal))
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * np.abs(before).max())
    changed = [
        t.name for t, u in zip(graph.model.graph.initializer, equal.model.graph.initializer, strict=True) if t != u
    ]
    assert changed


def test_equalised_channels_reach_equally_far(model, faces):
    """Before a depthwise convolution exactly; before another, weights and reach share the difference."""
    graph = equalized(find_layers(model), faces)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    last = find_neighbours(graph)[-1]
    reach = channel_reaches(graph.model, [last.first.output], faces)[last.first.output]
    largest = np.abs(stored[last.second.weight]).max((0, 2, 3))
    alive = reach > 0
    assert alive.sum() > 32
    ratio = reach[alive] ** (equalization.SHARE / (1 - equalization.SHARE)) / largest[alive]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    stem = nn.Conv2d(3, 8, 7, 8, 3)
    net = nn.Sequential(stem, nn.ReLU(), nn.Conv2d(8, 8, 14, groups=8), nn.Flatten()).eval()
    with torch.no_grad():
        stem.weight *= torch.logspace(-0.5, 0.5, 8).reshape(-1, 1, 1, 1)
    before = find_layers(export_backbone(net))
    (pair,) = find_neighbours(before)
    for graph, equal in ((before, False), (equalized(before, faces), True)):
        reach = channel_reaches(graph.model, [pair.first.output], faces)[pair.first.output]
        assert (reach.max() < 1.001 * reach.min()) == equal


def test_relu6_is_no_neighbour():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 16), nn.ReLU6(), nn.Conv2d(8, 8, 7), nn.Flatten()).eval()
    assert not find_neighbours(find_layers(export_backbone(net)))


def test_bias_correction_makes_the_mean_error_zero(model, faces):
    """Each layer with rounded weights, fed with what the float network makes."""
    graph = find_layers(model)
    activations = collect_activations(graph.model, graph.tensors, faces)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    products = [layer for layer in graph.layers if layer.weight]
    rounded = {layer.name: round_weight(stored[layer.weight], layer.channel_axis, 7) for layer in products}
    biases = corrected_biases(graph, activations.means, rounded)
    assert set(biases) == {layer.name for layer in products}
    for layer in (entry for entry in products if entry.activation is None):
        expected = outputs_of(graph.model, layer.output, faces).astype(np.float64)
        for corrected in (False, True):
            changed = onnx.ModelProto()
            changed.CopyFrom(graph.model)
            for tensor in changed.graph.initializer:
                if tensor.name == layer.weight:
                    tensor.CopyFrom(numpy_helper.from_array(rounded[layer.name].floats, tensor.name))
                if tensor.name == layer.bias and corrected:
                    tensor.CopyFrom(numpy_helper.from_array(biases[layer.name], tensor.name))
            error = outputs_of(changed, layer.output, faces) - expected
            mean = np.abs(error.mean(axis=(0, *range(2, error.ndim)))).max() / np.abs(expected).max()
            assert (mean < 1e-6) == corrected, (layer.name, mean)


@pytest.mark.parametrize("top", [64, 127])
def test_weights_are_rounded_with_the_least_error(top):
    weight = np.random.default_rng(0).standard_t(3, (4, 9, 3, 3)).astype(np.float32)
    weight[2] = 0
    rounded = round_weight(weight, 0, top)
    error = np.square(rounded.floats - weight).sum(axis=(1, 2, 3))
    for channel in (0, 1, 3):
        plain = np.abs(weight[channel]).max() / top
        naive = np.square(np.rint(weight[channel] / plain) * plain - weight[channel]).sum()
        assert error[channel] <= naive * (1 + 1e-5)
    assert error[2] == 0 and np.isfinite(rounded.scales).all()


def test_a_histogram_does_not_depend_on_the_order():
    values = np.random.default_rng(0).normal(0, 3, (6, 5000)).astype(np.float32)
    values[3] *= 50
    forwards, backwards = Histogram(), Histogram()
    for block in values:
        forwards.add(block)
    for block in values[::-1]:
        backwards.add(block)
    assert (forwards.counts == backwards.counts).all() and forwards.limit == backwards.limit
    assert forwards.counts.sum() == values.size
    expected, _ = np.histogram(values, BINS, (-forwards.limit, forwards.limit))
    assert (
        np.abs(np.cumsum(expected) - np.cumsum(forwards.counts)).max() <= 2
    )  # a value on a border may fall either side
    with pytest.raises(ExportError, match="not finite"):
        forwards.add(np.array([np.inf], np.float32))


def test_ranges():
    values = np.random.default_rng(0).normal(0, 1, 200_000).astype(np.float32)
    values[0] = 40.0
    histogram = Histogram()
    histogram.add(values)
    assert minmax_range(histogram) == pytest.approx((values.min(), 40.0))
    low, high = percentile_range(histogram)
    step = histogram.edges[1] - histogram.edges[0]
    assert high == pytest.approx(np.percentile(values, 99.9995), abs=2 * step)
    assert low == pytest.approx(np.percentile(values, 0.0005), abs=2 * step)
    entropy = entropy_range(histogram)
    assert entropy[1] < 20  # one value in 200 000 is not worth three quarters of the steps
    positive = Histogram()
    positive.add(np.abs(values[1:]))
    assert all(method(positive)[0] == 0 for method in METHODS.values())


def test_a_plan_is_the_least_that_holds():
    """Against a bound that needs two of eight layers, of which one stands late in the ranking; x is free in float."""
    ranking = tuple("abcdefgh")
    asked = []

    def holds(plan):
        asked.append(plan)
        return {"b", "e"} <= set(plan.float_layers)

    plan = find_plan(("x",), ranking, lambda name: ord(name), holds)
    assert plan == Plan(("x", "b", "e"))
    assert len(asked) < 16
    assert find_plan((), ranking, ord, lambda plan: True) == Plan()
    assert find_plan(("x",), ranking, ord, lambda plan: True) == Plan(("x",))
    assert find_plan((), ranking, ord, lambda plan: False) is None
    whole = find_plan(("x",), ranking, ord, lambda plan: plan.float_weights and len(plan.float_layers) >= 3)
    assert whole is not None and whole.float_weights and len(whole.float_layers) == 3
    steps = ladder(Plan(("b",)), ranking)
    assert steps[0] == Plan(("b",)) and set(steps[-1].float_layers) == set(ranking)


def conversions(graph, float_layers):
    """Count, by the definition, the numbers that change between float and int8 on their way through a network."""
    layers = {layer.name: layer for layer in graph.layers}
    inside = {layer.activation for layer in graph.layers}
    total = 0
    for tensor in graph.tensors:
        maker = next((layer for layer in graph.layers if layer.output == tensor), None)
        users = [node for node in graph.model.graph.node if tensor in node.input and node.name not in inside]
        in_int8 = [node.name in layers and node.name not in float_layers for node in users]
        if maker is None or maker.name in float_layers:
            total += graph.sizes[tensor] * any(in_int8)
        elif maker.kind in ("Conv", "Add"):
            total += graph.sizes[tensor] * (not all(in_int8))
    return total


def test_the_cheapest_plan_is_the_least_of_all(quantizer):
    """Against every plan there is, with costs counted node by node."""
    graph = quantizer.graph
    model = CostModel(graph)
    names = [layer.name for layer in graph.layers]
    saved = {
        layer.name: layer.work
        if layer.weight and not layer.depthwise and layer.work >= FEWEST_INPUTS * graph.sizes[layer.product]
        else 0
        for layer in graph.layers
    }
    assert sorted(saved.values())[-1] > 0 and 0 in saved.values()
    least = None
    for count in range(len(names) + 1):
        for chosen in combinations(names, count):
            cost = sum(saved[name] for name in chosen) + CONVERSION * conversions(graph, chosen)
            assert model.cost(chosen) == cost
            least = cost if least is None else min(least, cost)
    cheapest = model.cheapest()
    assert model.cost(cheapest) == least
    assert {layer.name for layer in graph.layers if layer.depthwise} & set(cheapest)


def test_a_product_at_the_end_runs_in_integers(quantizer, faces):
    """And gives float32: nothing rounds the embedding again."""
    found = placement(serialize(quantizer.write(Plan())), "tiny")
    assert not found.floats
    quantized = quantizer.write(Plan())
    last = quantizer.graph.layers[-1]
    assert last.kind == "Gemm"
    takers = [node.op_type for node in quantized.graph.node if last.output in node.input]
    assert takers and "QuantizeLinear" not in takers


@pytest.fixture(scope="module")
def trial(model, faces):
    return Trial(faces, embed(model, faces), "faces", None, serialize(model))


def test_sensitivity_finds_the_layer_that_suffers(quantizer, trial):
    """A layer whose input gets a useless range must stand out, and come first."""
    graph = quantizer.graph
    broken = graph.layers[1].name
    hurt = {layer.name: 0.001 for layer in graph.layers} | {broken: 0.2}

    def judge(names):
        loss = sum(hurt[layer.name] for layer in graph.layers if layer.name not in names)
        return dataclasses.replace(compare(trial.reference, trial.reference), mean_cosine=1 - loss)

    measured = measure_sensitivity(graph, judge)
    assert [entry.layer.name for entry in measured] == [layer.name for layer in graph.layers]
    assert max(measured, key=lambda entry: entry.loss).layer.name == broken
    assert ranked(measured, lambda name: 1e6)[0] == broken
    cheap = graph.layers[-1].name
    assert ranked(measured, lambda name: 0.0 if name == cheap else 1e6)[:2] == (cheap, broken)
    assert draw_sensitivity(measured, (broken,)).startswith(b"\x89PNG")
    assert draw_sensitivity(measured, (broken,)) == draw_sensitivity(measured, (broken,))


def test_the_search_keeps_a_bound(quantizer, trial):
    free = CostModel(quantizer.graph).cheapest()
    everything = trial.parity(serialize(quantizer.write(Plan(free)))).min_cosine
    bound = (everything + 1) / 2
    found = quantize_within(quantizer, Bounds(min_cosine=bound), trial)
    assert found.record is not None and found.sensitivities
    assert set(free) < set(found.record.float_nodes) < {layer.name for layer in quantizer.graph.layers}
    assert trial.parity(found.data).min_cosine >= bound
    assert f"at least {round(bound, 5):g} asked, on {len(trial.faces)} faces" in str(found.record.bound)
    assert found.data == quantize_within(quantizer, Bounds(min_cosine=bound), trial).data
    loose = quantize_within(quantizer, Bounds(min_cosine=everything - 0.01), trial)
    assert loose.record is not None and loose.record.float_nodes == free and not loose.sensitivities


def test_budgets_that_nothing_fits_are_said_so(quantizer, trial):
    with pytest.raises(
        ExportError, match=r"no network fits: the one that keeps the bound \(minimum cosine .*--max-bytes"
    ):
        quantize_within(quantizer, Bounds(min_cosine=0.9, max_bytes=1000), trial)
    with pytest.raises(ExportError, match=r"no network fits: the fastest of those .* ms, at most 1e-06 were asked"):
        quantize_within(quantizer, Bounds(min_cosine=0.9, max_latency_ms=1e-6), trial)
    with pytest.raises(ConfigError, match="labelled pairs"):
        quantize_within(quantizer, Bounds(min_cosine=None, max_drop=0.1), trial)


@pytest.mark.parametrize("values", [{"min_cosine": 1.5}, {"max_drop": -1.0}, {"max_latency_ms": 0.0}, {"max_bytes": 0}])
def test_bounds_that_make_no_sense(values):
    with pytest.raises(ConfigError, match="--m"):
        Bounds(**values)


def test_what_runs_in_float_is_named(quantizer, model, faces):
    first = next(layer.name for layer in quantizer.graph.layers if layer.weight)
    quantized = serialize(quantizer.write(Plan((first,))))
    times = race({"a": open_embedder(quantized), "b": open_embedder(serialize(model))}, faces[:1])
    assert set(times) == {"a", "b"} and min(times.values()) > 0
    here = resolve_target("auto")
    assert "2.00 times as fast" in explain_speed(4.0, 2.0, quantized, here)
    slow = explain_speed(2.0, 4.0, quantized, here)
    assert "int8 is slower than fp32 (0.50 of its speed): " in slow and "2 PReLUs" in slow and first in slow
    elsewhere = next(target for target in TARGETS.values() if target != here)
    assert f"no {elsewhere.name}" in explain_speed(4.0, 2.0, quantized, elsewhere)


def test_calibration_takes_people_in_turns():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 112, 112, 3)).astype(np.uint8)
    images[0], images[1] = 77, images[2]
    images[3] = np.linspace(0, 255, 112).astype(np.uint8)[None, :, None]  # contrast without detail
    labels = np.array([0] * 41 + [n // 2 + 1 for n in range(19)])
    drawn = draw_faces(InMemoryFaces(images, labels, name="sample"), 60)
    assert (drawn.flat, drawn.blurred, drawn.repeated, drawn.broken) == (1, 1, 1, 0)
    assert len(drawn.images) == 57 and drawn.people == 11
    few = draw_faces(InMemoryFaces(images, labels, name="sample"), 22)
    chosen = [int(labels[np.flatnonzero((images == face).all(axis=(1, 2, 3)))[-1]]) for face in few.images]
    assert max(np.bincount(chosen)) <= 3 and set(chosen) == set(range(11))
    assert "22 faces of 11 people" in str(few)
    assert "16 faces, 15 of them of 15 people" in str(dataclasses.replace(few, images=images[:16], named=15, people=15))
    assert (draw_faces(InMemoryFaces(images, labels, name="sample"), 22).images == few.images).all()


@pytest.mark.parametrize("batch", [1, 5])
def test_a_fixed_batch_gives_the_same(model, faces, batch):
    fixed = fix_batch(model, batch)
    assert [size.dim_value for size in fixed.graph.input[0].type.tensor_type.shape.dim] == [batch, 112, 112, 3]
    for count in (1, 7):
        np.testing.assert_allclose(embed(fixed, faces[:count]), embed(model, faces[:count]), atol=1e-6)


@pytest.mark.parametrize("opset", [17, 20])
def test_int8_at_other_opsets(faces, opset):
    torch.manual_seed(0)
    model = export_backbone(TinyNet().eval(), opset=opset)  # PReLU stays whole here
    quantized = Quantizer(model, faces, TARGETS["x86-vnni"]).write(Plan())
    assert quantized.opset_import[0].version == opset
    assert compare(embed(model, faces), embed(quantized, faces)).min_cosine > 0.97


def test_a_drop_of_accuracy_bounds_the_search(quantizer, model, faces):
    """Pairs of the same picture and of different ones: a network that tells them apart loses nothing."""
    people = InMemoryFaces(np.concatenate([faces, faces[:, ::-1]]), np.tile(np.arange(len(faces)), 2), name="turned")
    trial = Trial(faces, embed(model, faces), "faces", (people, make_pairs(people, 40)), serialize(model))
    found = quantize_within(quantizer, Bounds(min_cosine=None, max_drop=99.0, fmr=0.1), trial)
    assert found.record is not None and found.record.float_nodes == CostModel(quantizer.graph).cheapest()
    assert "points of TAR at FMR 0.1 lost, at most 99 asked" in str(found.record.bound)


def test_bounds_are_measured_on_faces_that_fixed_no_range():
    ranges, tried, name = held_out(100)
    assert not (ranges & tried).any() and (ranges | tried).all() and tried.sum() == 25 and name == "held-out faces"
    ranges, tried, name = held_out(20)
    assert ranges.all() and tried.all() and name == "calibration faces"
