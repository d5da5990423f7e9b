"""Networks that were made for a fixed number of faces."""

import re
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.importing.batch import MixedError
from edgeface.export.importing.freeing import free_batch
from edgeface.export.importing.inputs import Image
from edgeface.export.preprocessing import Preprocessing
from tests.foreign_networks import (
    CHANNELS,
    DIMENSION,
    PLAIN,
    assert_comes_in,
    between,
    brought_in,
    end,
    make,
    node,
    original,
    stem,
    weights,
)


def whole(*values):
    return np.array(values, np.int64)


def attention(heads=2, tokens=50, width=CHANNELS):
    """A class token, positions, and attention as exporters write it for one picture; gives flat (1, 8)."""
    part = width // heads
    nodes = [
        node("Reshape", ["maps", "to_row"], "row"),
        node("Transpose", ["row"], "patches", perm=[0, 2, 1]),
        node("Shape", ["patches"], "sizes"),
        node("Gather", ["sizes", "zero"], "count", axis=0),
        node("Concat", ["count", "one", "wide"], "asked", axis=0),
        node("Expand", ["token", "asked"], "tokens"),
        node("Concat", ["tokens", "patches"], "all", axis=1),
        node("Add", ["all", "places"], "placed"),
        node("LayerNormalization", ["placed", "gain", "shift"], "normed", axis=-1),
    ]
    for name in ("q", "k", "v"):
        nodes += [
            node("MatMul", ["normed", f"w{name}"], f"{name}0"),
            node("Reshape", [f"{name}0", "to_heads"], f"{name}1"),
            node("Transpose", [f"{name}1"], f"{name}2", perm=[0, 2, 1, 3]),
            node("Reshape", [f"{name}2", "to_merged"], name),
        ]
    nodes += [
        node("Transpose", ["k"], "kt", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], "scores"),
        node("Softmax", ["scores"], "shares", axis=-1),
        node("MatMul", ["shares", "v"], "mixed"),
        node("Reshape", ["mixed", "from_merged"], "split"),
        node("Transpose", ["split"], "joined", perm=[0, 2, 1, 3]),
        node("Reshape", ["joined", "from_heads"], "out"),
        node("Add", ["out", "placed"], "left"),
        node("Gather", ["left", "first"], "flat", axis=1),
    ]
    stored = {
        "to_row": whole(1, width, tokens - 1),
        "zero": whole(0),
        "one": whole(1),
        "wide": whole(width),
        "first": np.array(0, np.int64),
        "token": weights((1, 1, width), 3),
        "places": weights((1, tokens, width), 4, 0.2),
        "gain": np.ones(width, np.float32),
        "shift": np.zeros(width, np.float32),
        "to_heads": whole(1, tokens, heads, part),
        "to_merged": whole(heads, tokens, part),
        "from_merged": whole(1, heads, tokens, part),
        "from_heads": whole(1, tokens, width),
        **{f"w{name}": weights((width, width), seed) for seed, name in enumerate("qkv", 5)},
    }
    return between(nodes, stored, width=width)


def tokens_first():
    """Attention over (tokens, faces, width), as torch.nn.MultiheadAttention has it: heads and faces in one axis."""
    nodes = [
        node("Reshape", ["maps", "to_row"], "row"),
        node("Transpose", ["row"], "seq", perm=[2, 0, 1]),
        node("Reshape", ["seq", "merge"], "merged"),
        node("Transpose", ["merged"], "heads", perm=[1, 0, 2]),
        node("Transpose", ["heads"], "turned", perm=[0, 2, 1]),
        node("MatMul", ["heads", "turned"], "scores"),
        node("Softmax", ["scores"], "shares", axis=-1),
        node("MatMul", ["shares", "heads"], "mixed"),
        node("Transpose", ["mixed"], "back", perm=[1, 0, 2]),
        node("Reshape", ["back", "rows"], "tokens_by_faces"),
        node("MatMul", ["tokens_by_faces", "w"], "projected"),
        node("Reshape", ["projected", "seq_again"], "again"),
        node("ReduceMean", ["again"], "flat", axes=[0], keepdims=0),
    ]
    stored = {
        "to_row": whole(1, CHANNELS, 49),
        "merge": whole(49, 2, CHANNELS // 2),
        "rows": whole(49, CHANNELS),
        "seq_again": whole(49, 1, CHANNELS),
        "w": weights((CHANNELS, CHANNELS), 4),
    }
    return between(nodes, stored, width=CHANNELS)


def mirrored(*parted):
    """A face and its mirror image as two rows of a batch, taken apart again and summed."""
    nodes, stored = stem()
    nodes = [
        node("Slice", ["x", "start", "stop", "axis", "step"], "flipped"),
        node("Concat", ["x", "flipped"], "both", axis=0),
        *(helper.make_node(n.op_type, ["both" if i == "x" else i for i in n.input], n.output, **_attributes(n))
          for n in nodes),
        node("Flatten", ["maps"], "flat"),
        *end(output="two")[0],
        *parted,
        node("Add", ["left", "right"], "y"),
    ]  # fmt: skip
    stored |= end()[1] | {
        "start": whole(-1),
        "stop": whole(-(1 << 31)),
        "axis": whole(3),
        "step": whole(-1),
        "halves": whole(1, 1),
        "zero": whole(0),
        "one": whole(1),
        "many": whole(1 << 60),
    }
    return make(nodes, stored)


HALVES = node("Split", ["two", "halves"], ["left", "right"], axis=0)
FIRST = node("Slice", ["two", "zero", "one", "zero"], "left")
SECOND = node("Slice", ["two", "one", "many", "zero"], "right")


def _attributes(part):
    return {entry.name: helper.get_attribute_value(entry) for entry in part.attribute}


FREED = {
    "Reshape [1, -1]": lambda: between([node("Reshape", ["maps", "s"], "flat")], {"s": whole(1, -1)}),
    "Reshape to numbers": lambda: between([node("Reshape", ["maps", "s"], "flat")], {"s": whole(1, CHANNELS * 49)}),
    "Flatten": lambda: between([node("Flatten", ["maps"], "flat")]),
    "shape arithmetic": lambda: between(
        [
            node("Shape", ["maps"], "sizes"),
            node("Slice", ["sizes", "from", "to"], "batch"),
            node("Concat", ["batch", "rest"], "asked", axis=0),
            node("Reshape", ["maps", "asked"], "flat"),
        ],
        {"from": whole(0), "to": whole(1), "rest": whole(-1)},
    ),
    "squeezed and stood up again": lambda: between(
        [
            node("GlobalAveragePool", ["maps"], "pooled"),
            node("Squeeze", ["pooled"], "row"),
            node("Unsqueeze", ["row", "front"], "flat"),
        ],
        {"front": whole(0)},
        width=CHANNELS,
    ),
    "the first of one": lambda: between(
        [node("Gather", ["maps", "first"], "face", axis=0), node("Reshape", ["face", "s"], "flat")],
        {"first": np.array(0, np.int64), "s": whole(1, -1)},
    ),
    "a slice of all": lambda: between(
        [node("Slice", ["maps", "from", "to", "at"], "same"), node("Flatten", ["same"], "flat")],
        {"from": whole(0, 1), "to": whole(1, 7), "at": whole(0, 2)},
        width=CHANNELS * 42,
    ),
    "resized to sizes": lambda: between(
        [
            node("Resize", ["maps", "", "", "sizes"], "larger", mode="nearest"),
            node("Reshape", ["larger", "s"], "flat"),
        ],
        {"sizes": whole(1, CHANNELS, 14, 14), "s": whole(1, -1)},
        width=CHANNELS * 196,
    ),
    "tiled, padded, normalised": lambda: between(
        [
            node("Tile", ["maps", "times"], "more"),
            node("Pad", ["more", "pads"], "padded"),
            node("ReduceL2", ["padded"], "length", axes=[1], keepdims=1),
            node("Add", ["length", "least"], "safe"),
            node("Expand", ["safe", "whole"], "lengths"),
            node("Div", ["padded", "lengths"], "normed"),
            node("Reshape", ["normed", "s"], "flat"),
        ],
        {
            "times": whole(1, 1, 1, 2),
            "pads": whole(0, 0, 1, 0, 0, 0, 0, 0),
            "least": np.array(1e-3, np.float32),
            "whole": whole(1, CHANNELS, 8, 14),
            "s": whole(1, -1),
        },
        width=CHANNELS * 8 * 14,
    ),
    "an einsum": lambda: between(
        [node("Einsum", ["maps", "w"], "more", equation="nchw,cd->ndhw"), node("Flatten", ["more"], "flat")],
        {"w": weights((CHANNELS, CHANNELS), 6)},
    ),
    "a constant repeated for each face": lambda: between(
        [node("Add", ["maps", "same"], "sum"), node("Reshape", ["sum", "s"], "flat")],
        {"same": np.broadcast_to(weights((1, CHANNELS, 1, 1), 7), (4, CHANNELS, 1, 1)).copy(), "s": whole(4, -1)},
        batch=4,
    ),
    "a class token": attention,
    "attention with the tokens first": tokens_first,
    "a face and its mirror image, split": lambda: mirrored(HALVES),
    "a face and its mirror image, sliced": lambda: mirrored(FIRST, SECOND),
}


@pytest.mark.parametrize("kind", FREED)
def test_a_fixed_number_of_faces_becomes_free(kind, tmp_path):
    model = FREED[kind]()
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    network = assert_comes_in(model, tmp_path, rows=batch)
    assert any("takes any number now" in remark for remark in network.remarks)


BOUND = {
    "softmax over the faces": (
        [
            node("Softmax", ["maps"], "odd", axis=0),
            node("Add", ["odd", "maps"], "sum"),
            node("Flatten", ["sum"], "flat"),
        ],
        "works along the axis of the faces",
    ),
    "their mean": (
        [
            node("ReduceMean", ["maps"], "mean", axes=[0], keepdims=1),
            node("Mul", ["mean", "maps"], "product"),
            node("Flatten", ["product"], "flat"),
        ],
        "reduces over the faces",
    ),
    "a product of faces with faces": (
        [
            node("Flatten", ["maps"], "rows"),
            node("Transpose", ["rows"], "columns", perm=[1, 0]),
            node("MatMul", ["rows", "columns"], "likeness"),
            node("Mul", ["rows", "likeness"], "flat"),
        ],
        "faces",
    ),
    "an operator that nothing is known of": (
        [node("MeanVarianceNormalization", ["maps"], "normed", axes=[0, 2, 3]), node("Flatten", ["normed"], "flat")],
        "faces",
    ),
}


@pytest.mark.parametrize("kind", BOUND)
def test_what_mixes_faces_is_run_for_one(kind, tmp_path):
    nodes, why = BOUND[kind]
    network = assert_comes_in(between(nodes), tmp_path, batch=1)
    said = f"the network takes 1 face in every run: .*{why}"
    assert any(re.search(said, remark) for remark in network.remarks)
    assert network.origin["faces in a run"].startswith("1: ")


def test_a_free_batch_that_is_none(tmp_path):
    """The file declares any number of faces, and a Reshape in it merges them."""
    nodes, stored = stem()
    last, more = end(output="row")
    nodes += [
        node("Reshape", ["maps", "s"], "flat"),
        *last,
        node("Softmax", ["row"], "shares", axis=0),
        node("Add", ["row", "shares"], "y"),
    ]
    model = make(nodes, stored | more | {"s": whole(1, -1)}, batch="n")
    assert_comes_in(model, tmp_path, batch=1)
    assert_comes_in(between([node("Reshape", ["maps", "s"], "flat")], {"s": whole(1, -1)}, batch="n"), tmp_path)


def test_several_faces_that_mix_are_refused(tmp_path):
    nodes = [node("Softmax", ["maps"], "odd", axis=0), node("Flatten", ["odd"], "flat")]
    with pytest.raises(ExportError, match="made for 4 faces in every run, and that cannot be changed: node odd"):
        brought_in(between(nodes, batch=4), tmp_path)
    with pytest.raises(ExportError, match="made for 64 faces in a run, edgeface runs 32 at most"):
        brought_in(between([node("Flatten", ["maps"], "flat")], batch=64), tmp_path)


SIZES = (2, 3, 4)


def image():
    return Image("x", 1, cast(Preprocessing, SimpleNamespace(sizes=SIZES)))


def run(model, faces):
    return original(model, {"x": faces})


@st.composite
def chains(draw):
    """Random steps on a small tensor whose first axis is one face."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    shape, nodes, stored = [1, *SIZES], [], {}
    for index in range(draw(st.integers(1, 7))):
        source, made = f"t{index}" if index else "x", f"t{index + 1}"
        kind = draw(
            st.sampled_from(["move", "turn", "add", "matmul", "reduce", "softmax", "concat", "slice", "expand"])
        )
        axis = draw(st.integers(0, len(shape) - 1))
        if kind == "move":
            total, shape = int(np.prod(shape)), []
            while total > 1 and len(shape) < 4:
                part = draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0]))
                shape, total = [*shape, part], total // part
            shape = [*shape, total]
            stored[f"c{index}"] = np.array(shape, np.int64)
            nodes.append(node("Reshape", [source, f"c{index}"], made))
        elif kind == "turn":
            order = draw(st.permutations(range(len(shape))))
            shape = [shape[place] for place in order]
            nodes.append(node("Transpose", [source], made, perm=list(order)))
        elif kind == "add":
            other = [size if draw(st.booleans()) else 1 for size in shape]
            stored[f"c{index}"] = rng.normal(size=other).astype(np.float32)
            nodes.append(node("Add", [source, f"c{index}"], made))
        elif kind == "matmul" and len(shape) > 1:
            stored[f"c{index}"] = rng.normal(size=(shape[-1], shape[-1])).astype(np.float32)
            nodes.append(node("MatMul", [source, f"c{index}"], made))
        elif kind == "reduce" and len(shape) > 1:
            keep = draw(st.booleans())
            nodes.append(node("ReduceMean", [source], made, axes=[axis], keepdims=int(keep)))
            shape = [1 if keep and i == axis else s for i, s in enumerate(shape) if keep or i != axis]
        elif kind == "softmax":
            nodes.append(node("Softmax", [source], made, axis=axis))
        elif kind == "concat":
            other = [2 if i == axis else size for i, size in enumerate(shape)]
            stored[f"c{index}"] = rng.normal(size=other).astype(np.float32)
            nodes.append(node("Concat", [source, f"c{index}"], made, axis=axis))
            shape[axis] += 2
        elif kind == "slice" and shape[axis] > 1:
            stored |= {f"c{index}": whole(1), f"d{index}": whole(1 << 40), f"e{index}": whole(axis)}
            nodes.append(node("Slice", [source, f"c{index}", f"d{index}", f"e{index}"], made))
            shape[axis] -= 1
        elif kind == "expand" and shape[axis] == 1:
            shape[axis] = draw(st.integers(1, 2))
            stored[f"c{index}"] = np.array(shape, np.int64)
            nodes.append(node("Expand", [source, f"c{index}"], made))
        else:
            nodes.append(node("Tanh", [source], made))
    width = int(np.prod(shape))
    stored["row"] = whole(1, width)
    nodes.append(node("Reshape", [f"t{len(nodes)}", "row"], "y"))
    arrays = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *SIZES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width])],
        arrays,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(max_examples=40)
@given(chains())
def test_a_freed_network_never_mixes_faces(model):
    """Either a chain of operators is refused, or every face comes out as it does alone: nothing is left to the proof
    by running."""
    faces = np.random.default_rng(0).normal(size=(3, *SIZES)).astype(np.float32)
    try:
        freed = free_batch(model, image(), "chain")
    except MixedError:
        return
    onnx.checker.check_model(freed)
    alone = np.concatenate([run(model, face[None]) for face in faces])
    np.testing.assert_allclose(run(freed, faces), alone, atol=1e-5)


def test_most_chains_that_keep_faces_apart_are_freed():
    """The property above would hold of a function that refuses everything, too."""
    freed = free_batch(FREED["a class token"](), Image("x", 1, PLAIN.fitted("x", (1, 3, 112, 112))), "theirs")
    assert freed.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "Expand" in {part.op_type for part in freed.graph.node}
    assert freed.graph.output[0].type.tensor_type.shape.dim[1].dim_value == DIMENSION
