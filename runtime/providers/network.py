"""A network that onnxruntime has loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeface.errors import ProviderError
from edgeface.runtime.inspecting.inspection import Inspected
from edgeface.runtime.providers.assignment import Assignment
from edgeface.runtime.providers.binding import BoundRunner
from edgeface.runtime.providers.provider_errors import explain
from edgeface.telemetry import import_onnxruntime


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph: onnxruntime's type name, and a shape with names for dynamic sizes."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Engines:
    """What was compiled ahead for a network: the folder with it, and the seconds that took now, 0 if it was there."""

    folder: Path
    built_s: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """The free sizes of a network's inputs: least, usual, largest. A provider that compiles is told them.

    Attributes:
        batch: of the first axis.
        height: of the first other axis whose size is free.
        width: of the second.
    """

    batch: tuple[int, int, int] = (1, 1, 1)
    height: tuple[int, int, int] = (32, 480, 640)
    width: tuple[int, int, int] = (32, 640, 640)

    def shapes(self, shape: tuple[int | None, ...]) -> tuple[tuple[int, ...], ...]:
        """Return the least, usual and largest form of a shape that has None where a size is free."""
        others = iter((self.height, self.width))
        ranges = [
            (size, size, size) if size is not None else self.batch if axis == 0 else next(others, (1, 1, 1))
            for axis, size in enumerate(shape)
        ]
        return tuple(tuple(limits[which] for limits in ranges) for which in range(3))


class Session:
    """One loaded network. Make it with `open_session`."""

    def __init__(
        self,
        session: Any,
        inspected: Inspected,
        provider: str,
        why: str,
        *,
        max_batch: int | None = None,
        nodes: Assignment | None = None,
        runner: BoundRunner | None = None,
        engines: Engines | None = None,
    ) -> None:
        self._session = session
        self._inspected = inspected
        self._runner = runner
        self.provider = provider
        """Short name of the provider that runs the network."""
        self.why = why
        """How that provider came to be chosen."""
        self.max_batch = max_batch
        """Most that may be put into the first axis at once; None for no limit of the provider."""
        self.nodes = nodes
        """How many nodes each provider runs; None if onnxruntime does not tell."""
        self.engines = engines
        """What was compiled ahead for it, None for a provider that does not."""
        self.inputs = tuple(Tensor(t.name, t.type, tuple(t.shape)) for t in session.get_inputs())
        self.outputs = tuple(Tensor(t.name, t.type, tuple(t.shape)) for t in session.get_outputs())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the network once; returns its outputs in the order of `outputs`.

        Raises:
            BundleError: for inputs of these sizes the network would exceed a limit of
                `edgeface.runtime.inspecting.inspection`.
            ProviderError: the provider fails at it, for example because the memory of the GPU is full, or because this
                onnxruntime is older than the network needs.
        """
        self._inspected.check_sizes({name: array.shape for name, array in feeds.items()})
        try:
            if self._runner is not None:
                return self._runner.run(feeds)
            results: list[npt.NDArray[Any]] = self._session.run(None, dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            version = import_onnxruntime().__version__
            raise ProviderError(
                f"provider {self.provider} of onnxruntime {version} failed in a run: {explain([str(error)])}"
            ) from error
        return results
