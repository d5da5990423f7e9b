"""The messages of an ONNX file that the reader knows, field by field, and reading one of them.

Field numbers are those of onnx.proto. What a schema does not list is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface.runtime.inspecting.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    WireError,
    WireReader,
    count_varints,
    signed,
)

MAX_TEXT_BYTES: Final = 4096

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Schema:
    """A kind of message.

    Attributes:
        what: in an error.
        fields: by field number: name, wire type, and whether it may occur several times.
        refused: by field number, what to say of fields that are known and not wanted.
    """

    what: str
    fields: Mapping[int, tuple[str, int, bool]]
    refused: Mapping[int, str] = field(default_factory=dict)


MODEL: Final = Schema(
    "the model",
    {
        1: ("ir_version", VARINT, False),
        2: ("producer_name", LENGTH, False),
        3: ("producer_version", LENGTH, False),
        4: ("domain", LENGTH, False),
        5: ("model_version", VARINT, False),
        6: ("doc_string", LENGTH, False),
        7: ("graph", LENGTH, False),
        8: ("opset_import", LENGTH, True),
        14: ("metadata_props", LENGTH, True),
    },
    {20: "it has a training graph", 25: "it defines functions of its own"},
)
OPSET: Final = Schema(
    "an opset import",
    {1: ("domain", LENGTH, False), 2: ("version", VARINT, False)},
)
GRAPH: Final = Schema(
    "the graph",
    {
        1: ("node", LENGTH, True),
        2: ("name", LENGTH, False),
        5: ("initializer", LENGTH, True),
        10: ("doc_string", LENGTH, False),
        11: ("input", LENGTH, True),
        12: ("output", LENGTH, True),
        13: ("value_info", LENGTH, True),
        16: ("metadata_props", LENGTH, True),
    },
    {15: "it has sparse weights"},
)
NODE: Final = Schema(
    "a node",
    {
        1: ("input", LENGTH, True),
        2: ("output", LENGTH, True),
        3: ("name", LENGTH, False),
        4: ("op_type", LENGTH, False),
        5: ("attribute", LENGTH, True),
        6: ("doc_string", LENGTH, False),
        7: ("domain", LENGTH, False),
        9: ("metadata_props", LENGTH, True),
    },
)
ATTRIBUTE: Final = Schema(
    "an attribute",
    {
        1: ("name", LENGTH, False),
        2: ("f", FIXED32, False),
        3: ("i", VARINT, False),
        4: ("s", LENGTH, False),
        5: ("t", LENGTH, False),
        7: ("floats", FIXED32, True),
        8: ("ints", VARINT, True),
        13: ("doc_string", LENGTH, False),
        20: ("type", VARINT, False),
    },
    {6: "it has a subgraph (If, Loop or Scan)", 11: "it has subgraphs (If, Loop or Scan)"},
)
TENSOR: Final = Schema(
    "a tensor",
    {
        1: ("dims", VARINT, True),
        2: ("data_type", VARINT, False),
        4: ("float_data", FIXED32, True),
        5: ("int32_data", VARINT, True),
        7: ("int64_data", VARINT, True),
        8: ("name", LENGTH, False),
        9: ("raw_data", LENGTH, False),
        10: ("double_data", FIXED64, True),
        11: ("uint64_data", VARINT, True),
        12: ("doc_string", LENGTH, False),
        13: ("external_data", LENGTH, True),
        14: ("data_location", VARINT, False),
        16: ("metadata_props", LENGTH, True),
    },
    {6: "it has text for a weight"},
)
VALUE: Final = Schema(
    "an input or output",
    {
        1: ("name", LENGTH, False),
        2: ("type", LENGTH, False),
        3: ("doc_string", LENGTH, False),
        4: ("metadata_props", LENGTH, True),
    },
)
TYPE: Final = Schema(
    "a type",
    {1: ("tensor_type", LENGTH, False), 6: ("denotation", LENGTH, False)},
)
TENSOR_TYPE: Final = Schema(
    "a tensor type",
    {1: ("elem_type", VARINT, False), 2: ("shape", LENGTH, False)},
)
SHAPE: Final = Schema(
    "a shape",
    {1: ("dim", LENGTH, True)},
)
DIMENSION: Final = Schema(
    "a dimension",
    {
        1: ("dim_value", VARINT, False),
        2: ("dim_param", LENGTH, False),
        3: ("denotation", LENGTH, False),
    },
)


@dataclass(slots=True)
class Message:
    """The fields of one message, by name."""

    reader: WireReader
    fields: dict[str, list[int | memoryview]] = field(default_factory=dict)

    def views(self, name: str) -> list[memoryview]:
        """Return the bytes of each occurrence of a field."""
        return [value for value in self.fields.get(name, []) if isinstance(value, memoryview)]

    def view(self, name: str) -> memoryview | None:
        """Return the bytes of a field, None if it is missing."""
        return next(iter(self.views(name)), None)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return each occurrence of a field as text, which names and the like are; they are short."""
        if any(len(view) > MAX_TEXT_BYTES for view in self.views(name)):
            raise WireError(f"{name} is longer than {MAX_TEXT_BYTES} bytes")
        try:
            return tuple(str(view, "utf-8") for view in self.views(name))
        except UnicodeDecodeError:
            raise WireError(f"{name} is not text") from None

    def text(self, name: str) -> str:
        """Return a field as text, empty if it is missing."""
        return next(iter(self.texts(name)), "")

    def number(self, name: str, least: int = 0, most: int = (1 << 31) - 1) -> int:
        """Return a number, 0 if it is missing; one that is out of range is refused, protobuf would cut it."""
        value = signed(next((value for value in self.fields.get(name, []) if isinstance(value, int)), 0))
        if not least <= value <= most:
            raise WireError(f"{name} is {value}, outside {least} to {most}")
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return the signed 64-bit numbers of a field, packed or not."""
        found: list[int] = []
        for value in self.fields.get(name, []):
            found.extend([value] if isinstance(value, int) else self.reader.packed_varints(value))
        return tuple(map(signed, found))

    def floats(self, name: str, dtype: str) -> Values:
        """Return the floating-point numbers of a field, packed or not; `dtype` is `<f4` or `<f8`."""
        views = self.views(name)
        if any(len(view) % np.dtype(dtype).itemsize for view in views):
            raise WireError(f"{name} does not hold whole numbers of type {dtype}")
        return np.frombuffer(b"".join(views), dtype)

    def holds(self, name: str) -> bool:
        """Say whether a field is there and not empty."""
        return any(isinstance(value, int) or len(value) for value in self.fields.get(name, []))

    def count(self, name: str) -> int:
        """Return how many integers a field holds, without reading packed ones."""
        values = self.fields.get(name, [])
        return sum(1 if isinstance(value, int) else count_varints(value) for value in values)


def read_message(reader: WireReader, view: memoryview, schema: Schema) -> Message:
    """Read one message.

    Raises:
        WireError: it is malformed, or has a field that is not in the schema or occurs too often.
    """
    message = Message(reader)
    for number, wire, value in reader.fields(view):
        if number not in schema.fields:
            raise WireError(schema.refused.get(number, f"field {number} of {schema.what} is not known"))
        name, expected, repeated = schema.fields[number]
        packed = repeated and wire == LENGTH and expected != LENGTH
        if wire != expected and not packed:
            raise WireError(f"field {name} of {schema.what} has the wire type {wire}")
        values = message.fields.setdefault(name, [])
        if values and not repeated:
            raise WireError(f"field {name} of {schema.what} occurs twice")
        values.append(value)
    return message
