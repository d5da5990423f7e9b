"""Running on a device with inputs and outputs that stay there, in the same place for each shape of the inputs."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MOST_SHAPES: Final = 16
"""Buffers are kept for so many shapes; those that were not used for longest go first."""
MOST_GRAPHS: Final = 8
"""Recordings, each for one shape, are made of so many; other shapes run without."""
_GRAPH: Final = "gpu_graph_id"
_NO_GRAPH: Final = "-1"


@dataclass(slots=True)
class _Slot:
    binding: Any
    inputs: Mapping[str, Any]
    outputs: Sequence[Any]
    graph: str


class BoundRunner:
    """Runs a session through IO binding: one copy in, one copy out, and no memory asked for in between.

    Args:
        onnxruntime: the module.
        session: of onnxruntime.
        names: of all its outputs.
        device_type: where the buffers lie, as onnxruntime calls it.
        device: number of the device.
        graphs: the session was opened with `enable_cuda_graph`. A graph replays on the addresses it was recorded on,
            so each shape gets one of its own, by the run option `gpu_graph_id`.
    """

    def __init__(
        self, onnxruntime: Any, session: Any, names: Sequence[str], device_type: str, device: int, graphs: bool
    ) -> None:
        self._onnxruntime = onnxruntime
        self._session = session
        self._names = tuple(names)
        self._where = (device_type, device)
        self.graphs = graphs
        self._slots: OrderedDict[tuple[Any, ...], _Slot] = OrderedDict()
        self._recorded = 0
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the network once; returns copies of its outputs in memory of the CPU."""
        key = tuple((name, array.shape, array.dtype.str) for name, array in sorted(feeds.items()))
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return self._first_run(key, feeds)
            self._slots.move_to_end(key)
            for name, value in slot.inputs.items():
                value.update_inplace(np.ascontiguousarray(feeds[name]))
            self._session.run_with_iobinding(slot.binding, self._options(slot.graph))
            return [np.array(value.numpy()) for value in slot.outputs]

    def _first_run(self, key: tuple[Any, ...], feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run with outputs where onnxruntime puts them, which tells their sizes; from then on they stay there."""
        device_type, device = self._where
        inputs = {
            name: self._onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device_type, device)
            for name, array in feeds.items()
        }
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._names:
            binding.bind_output(name, device_type, device)
        self._session.run_with_iobinding(binding, self._options(_NO_GRAPH))
        outputs = binding.get_outputs()
        for name, value in zip(self._names, outputs, strict=True):
            binding.bind_ortvalue_output(name, value)
        graph = _NO_GRAPH
        if self.graphs and self._recorded < MOST_GRAPHS:
            self._recorded += 1
            graph = str(self._recorded)
        if len(self._slots) >= MOST_SHAPES:
            # What was recorded reads from its buffers for ever, so they are never given back.
            unused = next((old for old, slot in self._slots.items() if slot.graph == _NO_GRAPH), None)
            if unused is not None:
                del self._slots[unused]
        self._slots[key] = _Slot(binding, inputs, outputs, graph)
        return [np.array(value.numpy()) for value in outputs]

    def _options(self, graph: str) -> Any:
        if not self.graphs:
            return None
        options = self._onnxruntime.RunOptions()
        options.add_run_config_entry(_GRAPH, graph)
        return options
