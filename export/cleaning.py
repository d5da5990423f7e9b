"""Making ONNX files small, reproducible and free of traces of the machine that wrote them."""

from collections.abc import Mapping

import onnx

from edgeface.errors import ExportError


def clean_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without doc strings, tool names and per-node metadata.

    torch's exporter writes a stack trace with absolute source paths into each node: a privacy leak, and the
    reason why the same network exported from two folders gives two files.

    Raises:
        ExportError: the model keeps weights in external files, which a bundle never does.
    """
    model = _copy(model)
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
            graphs.extend(attribute.g for attribute in node.attribute if attribute.HasField("g"))
        if isinstance(graph, onnx.GraphProto):
            for value in [*graph.input, *graph.output, *graph.value_info]:
                value.doc_string = ""
                del value.metadata_props[:]
            for tensor in graph.initializer:
                tensor.doc_string = ""
                del tensor.metadata_props[:]
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    raise ExportError(f"weight {tensor.name} lies in an external file; store the network in one file")
    model.doc_string = ""
    model.producer_name, model.producer_version = "edgeface", ""
    del model.metadata_props[:]
    model.graph.name = "edgeface"
    return model


def set_metadata(model: onnx.ModelProto, values: Mapping[str, str]) -> None:
    """Set metadata of a model in place, keeping the other keys, in sorted order."""
    merged = {entry.key: entry.value for entry in model.metadata_props} | dict(values)
    del model.metadata_props[:]
    for key in sorted(merged):
        model.metadata_props.add(key=key, value=merged[key])


def serialize(model: onnx.ModelProto) -> bytes:
    """Check a model and turn it into bytes; equal models give equal bytes.

    Raises:
        ExportError: the model is not valid ONNX.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported network is not valid ONNX: {str(error).splitlines()[0]}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
