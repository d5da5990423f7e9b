"""Half precision for GPUs, and for half the size."""

import onnx
from onnx import helper

from edgeface.errors import ExportError
from edgeface.export.cleaning import clean_model, set_metadata
from edgeface.telemetry import import_onnxruntime


def convert_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the embedder with its backbone in float16, by onnxruntime's own converter.

    Everything after the last product stays in float32: the squared length of an embedding can exceed 65504, the
    largest float16.

    Raises:
        ExportError: there is no product in it.
    """
    nodes = list(model.graph.node)
    last = max((index for index, node in enumerate(nodes) if node.op_type in ("Conv", "Gemm", "MatMul")), default=None)
    if last is None:
        raise ExportError("the network has no convolution or matrix product; leave out fp16")
    after = [node.name for node in nodes[last + 1 :]]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted = import_onnxruntime("transformers.float16").convert_float_to_float16(
        copy, keep_io_types=True, node_block_list=after
    )
    _skip_detours(converted)
    # The converter appends its casts at the end.
    import_onnxruntime("transformers.onnx_model").OnnxModel(converted).topological_sort()
    cleaned = clean_model(converted)
    set_metadata(cleaned, {entry.key: entry.value for entry in model.metadata_props})
    return cleaned


def _skip_detours(model: onnx.ModelProto) -> None:
    """Connect float32 nodes directly where the converter casts to float16 and back between them."""
    nodes = list(model.graph.node)
    to_half = {node.output[0]: node.input[0] for node in nodes if _casts_to(node, onnx.TensorProto.FLOAT16)}
    direct = {
        node.output[0]: to_half[node.input[0]]
        for node in nodes
        if _casts_to(node, onnx.TensorProto.FLOAT) and node.input[0] in to_half
    }
    outputs = {value.name for value in model.graph.output}
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in direct:
                node.input[index] = direct[name]
        if node.output[0] in direct and node.output[0] in outputs:
            node.CopyFrom(helper.make_node("Identity", [direct[node.output[0]]], list(node.output), name=node.name))
    del model.graph.value_info[:]  # the types of what was rewired
    used = outputs | {name for node in nodes for name in node.input}
    while unused := [node for node in model.graph.node if not used.intersection(node.output)]:
        for node in unused:
            model.graph.node.remove(node)
        used = outputs | {name for node in model.graph.node for name in node.input}


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind
