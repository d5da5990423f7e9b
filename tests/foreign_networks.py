"""Small networks as other people store them, and what onnxruntime says of them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeface.export.cleaning import serialize
from edgeface.export.importing.foreign_model import NOTHING_SAID
from edgeface.export.importing.running import probe_faces
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.sources import foreign_network
from edgeface.runtime.embedder import open_embedder

PLAIN = Preprocessing("nchw", "rgb", 127.5, 1 / 128)
NHWC = Preprocessing("nhwc", "rgb", 127.5, 1 / 128)
PIXELS = Preprocessing("nchw", "rgb", 0, 1)
DIMENSION = 16
CHANNELS = 8


def weights(shape, seed=0, scale=None, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale or np.prod(shape[1:] or (1,)) ** -0.5, shape).astype(dtype)


def node(kind, inputs, output, /, **attributes):
    return helper.make_node(kind, inputs, [output] if isinstance(output, str) else output, **attributes)


def stem(channels=CHANNELS):
    """x (N, 3, 112, 112) -> maps (N, 8, 7, 7); onnxruntime has it in all opsets."""
    nodes = [
        node("AveragePool", ["x"], "small", kernel_shape=[16, 16], strides=[16, 16]),
        node("Conv", ["small", "stem_w"], "made", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["made"], "maps"),
    ]
    return nodes, {"stem_w": weights((channels, 3, 3, 3))}


def end(source="flat", output="y", width=CHANNELS * 49):
    """flat (N, width) -> y (N, 16)."""
    nodes = [node("Gemm", [source, "end_w", "end_b"], output, transB=1)]
    return nodes, {"end_w": weights((DIMENSION, width), 1), "end_b": weights((DIMENSION,), 2, 0.3)}


def make(nodes, stored, *, batch=1, opset=17, outputs=None, ir=8, inputs=None, functions=(), imports=()):
    """Put a network together; `outputs` are (name, shape) or values."""
    declared = outputs or [("y", [batch, DIMENSION])]
    values = [
        value if isinstance(value, onnx.ValueInfoProto) else helper.make_tensor_value_info(value[0], 1, value[1])
        for value in declared
    ]
    taken = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 112, 112])]
    arrays = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "theirs", taken, values, arrays)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), *imports], ir_version=ir, functions=list(functions)
    )


def between(middle, stored=None, *, width=CHANNELS * 49, source="flat", **options):
    """A network with some nodes between maps (N, 8, 7, 7) and flat (N, width)."""
    first, own = stem()
    last, others = end(source, width=width)
    return make([*first, *middle, *last], own | (stored or {}) | others, **options)


def original(model, feeds, output=None):
    """What onnxruntime makes of the file as it is."""
    data = model if isinstance(model, str) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run([output or session.get_outputs()[0].name], feeds)[0]


def expected(model, *, preprocessing=PLAIN, rows=1, dtype=np.float32, output=None, extra=None):
    """Unit embeddings of the probe faces, each alone (or `rows` times in a run), by the file as it is."""
    embeddings = []
    for face in probe_faces():
        prepared = preprocessing.apply(face[None]).astype(dtype).repeat(rows, axis=0)
        made = np.asarray(original(model, {"x": prepared} | (extra or {}), output), np.float32).reshape(-1)
        embeddings.append(made[: len(made) // rows])
    stacked = np.stack(embeddings)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def brought_in(model, folder: Path, *, preprocessing=PLAIN, choices=NOTHING_SAID, opset=18):
    """Return the network that is exported, and what it makes of the probe faces at once."""
    path = model if isinstance(model, Path) else folder / "theirs.onnx"
    if not isinstance(model, Path):
        path.write_bytes(model.SerializeToString())
    network = foreign_network(path, preprocessing, opset, choices)
    return network, open_embedder(serialize(network.model), provider="cpu").embed(probe_faces())


def assert_comes_in(model, folder, *, batch=None, tolerance=2e-5, preprocessing=PLAIN, choices=NOTHING_SAID, **how):
    """Check that a network comes in, for any number of faces or for one, and says what the file says."""
    network, made = brought_in(model, folder, preprocessing=preprocessing, choices=choices)
    assert network.batch == batch
    np.testing.assert_allclose(made, expected(model, preprocessing=preprocessing, **how), atol=tolerance)
    assert np.linalg.norm(made[0] - made[1]) > 1e-2  # the faces are told apart, so the comparison means something
    return network
