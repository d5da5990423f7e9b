"""What a node of an operator may look like: its inputs, its outputs, its attributes with the range of each.

onnxruntime checks the number of inputs and the types. It does not check that an input which an operator needs has a
name, nor the range of most attributes, and computes with whatever it finds: a missing bias ends the process, a count of
2^31 takes its memory. So what is not said here of an operator is refused, whatever the sizes are.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from edgeface.runtime.inspecting.onnx_reader import MAX_RANK, Attribute, Node, StoredTensor
from edgeface.runtime.inspecting.shapes import BrokenNodeError, Call, Effort, Extent, Rule, pointwise

MANY: Final = 1 << 20
"""More than any size, stride, count of groups or of outputs of a face network."""


class Kind(Protocol):
    """What an attribute may be."""

    def complaint(self, value: Attribute) -> str | None:
        """Say what is wrong with a value, None if nothing is."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`, or one of `choices`."""

    least: int = -(1 << 63)
    most: int = (1 << 63) - 1
    choices: tuple[int, ...] = ()

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        if not isinstance(value, int):
            return "is no whole number"
        if self.choices and value not in self.choices:
            return f"is {value}; it may be {', '.join(map(str, self.choices))}"
        return None if self.least <= value <= self.most else f"is {value}; {self.least} to {self.most} are allowed"


@dataclass(frozen=True, slots=True)
class Wholes:
    """A row of whole numbers, each from `least` to `most`."""

    least: int = -(1 << 63)
    most: int = (1 << 63) - 1

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            return "is no row of whole numbers"
        if len(value) > 2 * MAX_RANK:
            return f"has {len(value)} numbers"
        wrong = [item for item in value if not self.least <= item <= self.most]
        return f"holds {wrong[0]}; {self.least} to {self.most} are allowed" if wrong else None


@dataclass(frozen=True, slots=True)
class Real:
    """A number, which may be infinite if that is said."""

    infinite: bool = False

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        if not isinstance(value, float):
            return "is no floating-point number"
        return f"is {value}" if math.isnan(value) or (math.isinf(value) and not self.infinite) else None


@dataclass(frozen=True, slots=True)
class Reals:
    """A row of finite numbers."""

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        if not isinstance(value, tuple) or not all(isinstance(item, float) for item in value):
            return "is no row of floating-point numbers"
        return None if all(map(math.isfinite, value)) else "holds a number that is not finite"


@dataclass(frozen=True, slots=True)
class Text:
    """One of several words."""

    words: tuple[str, ...]

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        return None if value in self.words else f"is {str(value)[:40]!r}; it may be {', '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text of a certain form, a regular expression."""

    form: str

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        fits = isinstance(value, str) and re.fullmatch(self.form, value)
        return None if fits else f"is {str(value)[:40]!r}, which is not of the form that is known"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor; with `one`, of a single number."""

    one: bool = False

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        if not isinstance(value, StoredTensor):
            return "is no tensor"
        return f"has the shape {list(value.shape)}" if self.one and math.prod(value.shape) != 1 else None


@dataclass(frozen=True, slots=True)
class Needed:
    """An attribute that must be there."""

    kind: Kind

    def complaint(self, value: Attribute) -> str | None:
        """See `Kind`."""
        return self.kind.complaint(value)


AXIS: Final = Whole(-MAX_RANK, MAX_RANK - 1)
AXES: Final = Wholes(-MAX_RANK, MAX_RANK - 1)
COUNT: Final = Whole(1, MANY)
COUNTS: Final = Wholes(1, MANY)
FLAG: Final = Whole(0, 1)
MARGINS: Final = Wholes(0, MANY)
ANY: Final = Whole()
ANYS: Final = Wholes()
REAL: Final = Real()


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that is admitted.

    Attributes:
        rule: gives the sizes of its results.
        inputs: their names, those that must be there first; see `_Input` for the marks behind them.
        attributes: what each may be; others are refused.
        outputs: how many it has at most.
        work: gives its multiply-adds, or what takes as long.
        lays_out: gives the numbers that it lays out in memory while it runs, beside its results.
        makes: type of its results, where it is not that of the first input.
        empty: it may take and make tensors without a number.
        steady: numbers of the inputs that must not depend on what is fed: onnxruntime does not look whether they do.
    """

    rule: Rule
    inputs: str = "X"
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    outputs: int = 1
    work: Effort = pointwise
    lays_out: Effort = field(default=lambda call, results: 0)
    makes: Callable[[Call], int] | int = field(default=lambda call: call.kind(0))
    empty: bool = False
    steady: tuple[int, ...] = ()

    def __call__(self, call: Call) -> list[Extent]:
        """Return the sizes of the results; see `edgeface.runtime.inspecting.shapes`."""
        return self.rule(call)

    def check(self, node: Node) -> None:
        """Check a node without knowing any sizes.

        Raises:
            BrokenNodeError: its inputs, outputs or attributes are not those of the operator.
        """
        self._check_inputs(node)
        if not 1 <= len(node.outputs) <= self.outputs or not all(node.outputs):
            raise BrokenNodeError(f"its outputs are {list(node.outputs)[:8]}, it has 1 to {self.outputs}, with names")
        for name, value in node.attributes.items():
            if name not in self.attributes:
                raise BrokenNodeError(f"attribute {name} is not one that is known")
            if complaint := self.attributes[name].complaint(value):
                raise BrokenNodeError(f"attribute {name} {complaint}")
        for name, kind in self.attributes.items():
            if isinstance(kind, Needed) and name not in node.attributes:
                raise BrokenNodeError(f"attribute {name} is missing")

    def _check_inputs(self, node: Node) -> None:
        """Names end in `?` if the input may be left out or empty, in `-` if it may be left out at the end, in `*` if it
        may be repeated.
        """
        names = self.inputs.split()
        most = MANY if names and names[-1].endswith("*") else len(names)
        least = sum(not name.endswith(("?", "-")) for name in names)
        if not least <= len(node.inputs) <= most:
            raise BrokenNodeError(f"it has {len(node.inputs)} inputs; {least} to {most} are allowed")
        for index, used in enumerate(node.inputs):
            if not used and not names[min(index, len(names) - 1)].endswith("?"):
                raise BrokenNodeError(f"input {index} ({names[min(index, len(names) - 1)].rstrip('*-')}) has no name")
