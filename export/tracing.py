"""torch's ONNX exporter, with its traps closed."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import onnx
import torch
from torch import Tensor, nn

from edgeface.errors import ExportError
from edgeface.export.cleaning import clean_model

DEFAULT_OPSET: Final = 18
"""Written by torch's exporter without a converter, and read by TensorRT 8.6 and onnxruntime 1.16 upwards."""


def to_onnx(
    module: nn.Module,
    example: Tensor,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Mapping[int, Any],
    opset: int = DEFAULT_OPSET,
) -> onnx.ModelProto:
    """Export a module of one input to a single clean file.

    Args:
        module: on the CPU; every part in eval mode but for `module` itself, which is switched to it.
        example: an input of the right type and rank.
        inputs: the input's name, as a list.
        outputs: the outputs' names.
        dynamic: for each axis of the input that is free, its name or `torch.export.Dim`.
        opset: ONNX operator set, 17 to 20.

    Raises:
        ExportError: a part is in train mode, a weight is not finite, or the file came out with another opset.
    """
    training = [name for name, part in module.named_modules() if name and part.training]
    if training:
        raise ExportError(
            f"{training[0]} is in train mode ({len(training)} parts are): batch statistics would be frozen into the "
            "file; call .eval() first"
        )
    for name, weight in module.state_dict().items():
        if not torch.isfinite(weight).all():
            raise ExportError(
                f"weight {name} has values that are not finite; training diverged, use another checkpoint"
            )
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(dict(dynamic),),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch's exporter returned nothing; report this with the versions of torch and onnxscript")
    model = clean_model(program.model_proto)
    assert_opset(model, opset)
    return model


def assert_opset(model: onnx.ModelProto, opset: int) -> None:
    """Check the opset that is in the graph: exporters may write another than asked and only log it.

    Raises:
        ExportError: it differs.
    """
    written = {entry.domain: entry.version for entry in model.opset_import}
    if written.get("") != opset:
        raise ExportError(f"opset {opset} was asked, the file has {written.get('')}; use 17 to 20")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from printing its progress and from warning about its own internals."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
