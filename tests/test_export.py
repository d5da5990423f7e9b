"""Export: the head is gone, the graph is the same network, and the file tells nothing about this machine."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeface.errors import ExportError
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.export import prelu_choice
from edgeface.export.cleaning import clean_model, serialize
from edgeface.export.foreign import adapt
from edgeface.export.graph import assert_head_stripped, export_backbone
from edgeface.export.half import convert_fp16
from edgeface.export.parity import assert_same, compare
from edgeface.export.prelu import has_prelu, rewrite_prelu
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.quantization.targets import is_this_machine
from edgeface.losses import build_loss
from edgeface.models import build_model
from edgeface.runtime.embedder import open_embedder

CLASSES = 7919  # a prime that is no dimension of any network here


class TinyNet(nn.Module):
    """A backbone with everything the exporter meets: PReLU, depthwise, batch norm, a residual sum."""

    def __init__(self, dimension=16):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.act2 = nn.PReLU(8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.pool = nn.Conv2d(8, 8, 14, groups=8)
        self.linear = nn.Linear(8, dimension)
        self.last = nn.BatchNorm1d(dimension)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = x + self.pointwise(self.act2(self.depthwise(x)))
        return self.last(self.linear(self.pool(x).flatten(1)))


def smooth_pictures():
    """Smooth random pictures: unlike noise, they use the range of the activations as photographs do."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (48, 7, 7, 3)).astype(np.float32)
    large = np.stack([np.kron(picture, np.ones((16, 16, 1))) for picture in small])
    return np.clip(large + rng.normal(0, 8, large.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def faces():
    return smooth_pictures()


@pytest.fixture(scope="module")
def backbone(faces):
    torch.manual_seed(0)
    net = TinyNet()
    net.train()
    with torch.no_grad():  # batch statistics and slopes as after some training
        net(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1)
        net.act.weight.uniform_(-0.2, 0.6)
        net.act2.weight.uniform_(-0.2, 0.6)
    return net.eval()


@pytest.fixture(scope="module")
def model(backbone):
    return export_backbone(backbone, classes=CLASSES)


def embed(model, faces):
    return open_embedder(serialize(model), provider="cpu").embed(faces)


def test_same_network(model, backbone, faces):
    parity = compare(BackboneEmbedder(backbone).embed(faces), embed(model, faces))
    assert_same(parity, "fp32")
    assert parity.images == len(faces)


def test_contract_opset_and_batch_norm(model):
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert not {"BatchNormalization", "Shape", "Expand"} & {node.op_type for node in model.graph.node}
    embedder = open_embedder(serialize(model), provider="cpu")
    assert embedder.dimension == 16 and len(embedder.space) == 64


def test_an_embedding_of_zero_gives_no_nan():
    net = TinyNet().eval()
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.zero_()
    assert (embed(export_backbone(net), np.zeros((1, 112, 112, 3), np.uint8)) == 0).all()


def test_reproducible_and_silent_about_this_machine(model, backbone):
    data = serialize(model)
    assert serialize(export_backbone(backbone, classes=CLASSES)) == data
    for trace in (b"/root", b"/home", b".py", b"site-packages", b"torch", b"stack_trace"):
        assert trace not in data


def test_the_size_does_not_depend_on_the_classes(backbone):
    """The same backbone beside heads of two sizes gives the same file: the head is never part of it."""
    files = []
    for classes in (10, CLASSES):
        net = nn.ModuleDict({"backbone": backbone, "head": build_loss("arcface", classes, 16).eval()})
        files.append(serialize(export_backbone(net["backbone"], classes=classes)))
    assert files[0] == files[1]


def test_a_head_left_in_the_graph_is_found(backbone):
    class WithHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = backbone, nn.Linear(16, CLASSES, bias=False)

        def forward(self, x):
            return self.head(self.backbone(x))

    whole = export_backbone(WithHead().eval())
    with pytest.raises(ExportError, match=rf"the number of classes \({CLASSES}\) as a dimension"):
        assert_head_stripped(whole, backbone, CLASSES)
    with pytest.raises(ExportError, match="something besides it"):
        assert_head_stripped(whole, backbone, 0)


def test_a_class_count_that_is_also_a_width_is_no_false_alarm(model, backbone):
    assert_head_stripped(model, backbone, 16)


def test_train_mode_is_refused(backbone):
    backbone.norm.train()
    try:
        with pytest.raises(ExportError, match="norm is in train mode"):
            export_backbone(backbone)
    finally:
        backbone.eval()


def test_weights_that_are_not_finite_are_refused():
    net = TinyNet().eval()
    with torch.no_grad():
        net.linear.weight[0, 0] = float("nan")
    with pytest.raises(ExportError, match=r"linear.weight has values that are not finite"):
        export_backbone(net)


def test_prelu_rewrite_is_exact(model, faces):
    rewritten = rewrite_prelu(model)
    assert has_prelu(model) and not has_prelu(rewritten)
    np.testing.assert_allclose(embed(rewritten, faces), embed(model, faces), atol=1e-6)
    assert serialize(rewrite_prelu(model)) == serialize(rewritten)


@pytest.mark.parametrize(("whole", "rewritten"), [(2.0, 1.0), (1.0, 2.0)])
def test_the_faster_form_of_prelu_is_taken(model, faces, monkeypatch, whole, rewritten):
    monkeypatch.setattr(prelu_choice, "race", lambda embedders, face: {"whole": whole, "rewritten": rewritten})
    monkeypatch.setattr(prelu_choice, "likes_prelu_rewritten", lambda target: True)
    chosen, found = prelu_choice.with_fast_prelu(model, "auto", faces[:1])
    assert has_prelu(chosen) == (whole < rewritten)
    assert f"{whole:.2f} ms whole, {rewritten:.2f} ms rewritten" in str(found)
    elsewhere = "arm64" if is_this_machine("x86-avx2") else "x86-avx2"
    chosen, found = prelu_choice.with_fast_prelu(model, elsewhere, faces[:1])
    assert not has_prelu(chosen) and "measured" in str(found)  # never timed here


def test_prelu_stays_whole_where_nothing_speaks_against_it(model, faces):
    assert prelu_choice.with_fast_prelu(model, "cuda", faces[:1]) == (model, None)
    assert prelu_choice.with_fast_prelu(rewrite_prelu(model), "x86-avx2", faces[:1])[1] is None


def test_prelu_with_a_shared_slope_stays():
    graph = helper.make_graph(
        [helper.make_node("PRelu", ["x", "slope"], ["y"], name="p")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(np.array([[0.1, 0.2]], np.float32), "slope")],  # along the width: not per channel
    )
    assert has_prelu(rewrite_prelu(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])))


def test_fp16_survives_long_embeddings(faces):
    """An embedding whose squared length exceeds float16 keeps its direction."""
    torch.manual_seed(0)
    net = TinyNet().eval()
    with torch.no_grad():
        net.last.weight.fill_(300.0)
    model = export_backbone(net)
    half = embed(convert_fp16(rewrite_prelu(model)), faces)
    assert compare(embed(model, faces), half).min_cosine > 0.999
    assert len(serialize(convert_fp16(model))) < len(serialize(model))


def foreign_network(layout, batch="n", opset=13):
    """Flatten and multiply by fixed numbers: any error in layout, order, mean or scale changes the answer."""
    rng = np.random.default_rng(0)
    size = 3 * 112 * 112
    shape = [batch, 3, 112, 112] if layout == "nchw" else [batch, 112, 112, 3]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["faces"], ["flat"]),  # their input has the name of ours
            helper.make_node("Gemm", ["flat", "w"], ["embeddings"]),
        ],
        "theirs",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(rng.normal(0, 0.01, (size, 4)).astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (127.5, 1 / 128)])
def test_foreign_networks_come_in_unchanged(faces, layout, order, mean, scale):
    theirs = foreign_network(layout)
    session = onnxruntime.InferenceSession(theirs.SerializeToString(), providers=["CPUExecutionProvider"])
    prepared = Preprocessing(layout, order, mean, scale).apply(faces)
    expected = session.run(None, {"faces": prepared})[0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    adapted = adapt(theirs, Preprocessing(layout, order, mean, scale))
    assert adapted.opset_import[0].version == 18
    np.testing.assert_allclose(embed(adapted, faces), expected, atol=1e-5)


def test_preprocessing_by_hand():
    face = np.zeros((1, 112, 112, 3), np.uint8)
    face[0, 5, 7] = [10, 20, 30]
    prepared = Preprocessing("nchw", "bgr", 10.0, 0.5).apply(face)
    assert prepared.shape == (1, 3, 112, 112)
    assert prepared[0, :, 5, 7].tolist() == [10.0, 5.0, 0.0]


def test_a_fixed_batch_becomes_free(faces):
    adapted = adapt(foreign_network("nchw", batch=1), Preprocessing("nchw", "rgb", 0, 1))
    assert embed(adapted, faces[:3]).shape == (3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 4), "needs"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 2**40), "16 to 1024 a side"),
        (lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.UINT8), "only FLOAT"),
        (lambda m: m.graph.output.append(m.graph.output[0]), "one output"),
        (lambda m: m.graph.input.append(helper.make_tensor_value_info("b", 1, [1])), "one input"),
    ],
)
def test_networks_that_cannot_be_adapted(change, message):
    model = foreign_network("nchw")
    change(model)
    with pytest.raises(ExportError, match=message):
        adapt(model, Preprocessing("nchw", "rgb", 0, 1))


@pytest.mark.parametrize("values", [("chw", "rgb", 0, 1), ("nchw", "gbr", 0, 1), ("nchw", "rgb", 0, 0)])
def test_preprocessing_that_makes_no_sense(values):
    with pytest.raises(ExportError, match="--"):
        Preprocessing(*values)


def test_external_data_is_refused():
    model = foreign_network("nchw")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ExportError, match="external file"):
        clean_model(model)


def test_a_different_network_does_not_pass_for_the_same(model, faces):
    rng = np.random.default_rng(0)
    embeddings = embed(model, faces)
    with pytest.raises(ExportError, match="not the same network"):
        assert_same(compare(embeddings, embeddings + rng.normal(0, 0.01, embeddings.shape)), "fp32")
    with pytest.raises(ExportError, match="not finite"):
        compare(embeddings, embeddings * np.nan)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilefacenet", "mobilefacenet-relu6", "resnet-edge", "iresnet18", "ghostfacenetv1-1.3-2", "edgeface-xs"]
)
def test_the_real_networks_export(name, faces):
    torch.manual_seed(0)
    net = build_model(name, 64)
    with torch.no_grad():  # batch statistics as after some training
        net(torch.from_numpy(faces[:8]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    net.eval()
    model = export_backbone(net, classes=CLASSES)
    # A norm before a padded convolution cannot be folded into it: eight units of iResNet-18, and the head.
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == (9 if name == "iresnet18" else 0)
    assert_same(compare(BackboneEmbedder(net).embed(faces[:8]), embed(rewrite_prelu(model), faces[:8])), name)
    onnx.checker.check_model(model, full_check=True)
