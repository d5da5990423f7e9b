"""An onnxruntime with providers that this machine has not: it computes on the CPU, and fails as the real one does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as real

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
NO_CUDNN = (
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: "
    "libcudnn.so.9: cannot open shared object file: No such file or directory"
)


class FakeOnnxruntime:
    """Put it into `sys.modules` as onnxruntime.

    Args:
        folder: where its own libraries lie.
        works: providers that load, by onnxruntime's name.
        broken: providers that are built in but do not load, with what onnxruntime logs then.
        raises: providers whose session raises, with the message.
        shares: of a provider, how many of ten nodes it runs; all by default.
    """

    __version__ = "1.99.0"
    SessionOptions = real.SessionOptions
    GraphOptimizationLevel = real.GraphOptimizationLevel

    def __init__(
        self,
        folder: Path,
        works: tuple[str, ...] = (),
        broken: dict[str, str] | None = None,
        raises: dict[str, str] | None = None,
        shares: dict[str, int] | None = None,
    ) -> None:
        self.__file__ = str(folder / "__init__.py")
        (folder / "capi").mkdir(parents=True, exist_ok=True)
        self.works = {*works, CPU}
        self.broken = broken or {}
        self.raises = raises or {}
        self.shares = shares or {}
        self.opened: list[list[tuple[str, dict[str, str]]]] = []
        self.preloaded = 0
        self.engines_built: list[str] = []
        self.runs: list[str] = []
        self.registered: dict[str, str] = {}
        self.devices = [SimpleNamespace(ep_name=CPU)]
        self.brings: dict[str, list[Any]] = {}
        self.refuses_graphs = False
        self.graph_says_otherwise = False
        self._callback: Any = None
        fake = self

        class InferenceSession(FakeSession):
            def __init__(self, model: bytes, options: Any, providers: Any = None, enable_fallback: int = 1) -> None:
                super().__init__(fake, model, options, providers, enable_fallback)

        self.InferenceSession: Any = InferenceSession
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=self._value)
        self.picked: tuple[list[Any], dict[str, str]] | None = None

        class Options(real.SessionOptions):  # type: ignore[misc]
            overrides: dict[str, int]

            def add_provider_for_devices(self, devices: Any, options: Any) -> None:
                fake.picked = (devices, options)

            def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
                super().add_free_dimension_override_by_name(name, size)
                fake.overrides[name] = size

        self.overrides: dict[str, int] = {}
        self.SessionOptions = Options

    class RunOptions:
        def __init__(self) -> None:
            self.entries: dict[str, str] = {}

        def add_run_config_entry(self, key: str, value: str) -> None:
            self.entries[key] = value

    def _value(self, array: Any, device_type: str, device: int) -> Any:
        return FakeValue(real.OrtValue.ortvalue_from_numpy(array, "cpu", 0), (device_type, device))

    def get_available_providers(self) -> list[str]:
        return [name for name in (TENSORRT, CUDA, *sorted(self.works | set(self.broken))) if self.known(name)]

    def known(self, name: str) -> bool:
        return (name in self.works or name in self.broken or name in self.raises) and name not in self.registered

    def set_default_logger_callback(self, callback: Any, severity: int = 2) -> None:
        self._callback = callback

    def log(self, message: str) -> None:
        if self._callback is not None:
            self._callback(3, "onnxruntime", "", "provider_bridge_ort.cc:1 Get", message)

    def preload_dlls(self) -> None:
        self.preloaded += 1
        print("noise that must not reach stdout")

    def get_ep_devices(self) -> list[Any]:
        return self.devices

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if name not in self.brings:
            raise RuntimeError(f"{path}: undefined symbol: CreateEpFactories")
        self.registered[name] = path
        self.devices = [*self.devices, *self.brings[name]]


class FakeValue:
    """An OrtValue that says it lies on a device."""

    def __init__(self, value: Any, where: tuple[str, int]) -> None:
        self.value = value
        self.where = where
        self.writes = 0

    def update_inplace(self, array: Any) -> None:
        self.writes += 1
        self.value.update_inplace(array)

    def numpy(self) -> Any:
        return self.value.numpy()


class FakeBinding:
    def __init__(self, session: Any) -> None:
        self.inputs: dict[str, FakeValue] = {}
        self.outputs: dict[str, FakeValue | tuple[str, int]] = {}
        self.session = session

    def bind_ortvalue_input(self, name: str, value: FakeValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: FakeValue) -> None:
        self.outputs[name] = value

    def bind_output(self, name: str, device_type: str, device: int) -> None:
        self.outputs[name] = (device_type, device)

    def get_outputs(self) -> list[Any]:
        return list(self.outputs.values())


class FakeSession:
    """A session of the real onnxruntime on the CPU that says it is on another provider."""

    def __init__(self, fake: FakeOnnxruntime, model: bytes, options: Any, providers: Any, enable_fallback: int) -> None:
        self._fake = fake
        asked = [p if isinstance(p, tuple) else (p, {}) for p in providers or ()]
        if not asked and fake.picked is not None:
            asked = [(fake.picked[0][0].ep_name, fake.picked[1])]
        fake.opened.append(asked)
        name, self._own = asked[0]
        if name in fake.raises:
            assert enable_fallback == 0, "the real one would print and fall back"
            raise RuntimeError(fake.raises[name])
        if name in fake.broken:
            fake.log(fake.broken[name])
            fake.log(f"Failed to create {name}. Please reference the documentation")
        self._graph = self._own.get("enable_cuda_graph") == "1"
        if self._graph and fake.refuses_graphs:
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        self._session = real.InferenceSession(model, options, providers=[CPU])
        loaded = name in fake.works or any(device.ep_name == name for device in fake.devices)
        self._providers = [name, CPU] if loaded and name != CPU else [CPU]
        if self._own.get("trt_engine_cache_enable") == "1":
            self._build(Path(self._own["trt_engine_cache_path"]))

    def _build(self, folder: Path) -> None:
        if not list(folder.glob("*.engine")):
            (folder / "TensorrtExecutionProvider_1.engine").write_bytes(b"engine")
            (folder / "TensorrtExecutionProvider_cache_sm87.timing").write_bytes(b"timing")
            self._fake.engines_built.append(str(folder))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        name = self._providers[0]
        share = self._fake.shares.get(name, 10)
        counts = {CPU: 10} if name == CPU else {name: share, CPU: 10 - share}
        return [
            SimpleNamespace(ep_name=ep, get_nodes=lambda count=count: [None] * count)
            for ep, count in counts.items()
            if count
        ]

    def run(self, names: Any, feeds: Any) -> Any:
        self._fake.runs.append("plain")
        return self._session.run(names, feeds)

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self._session)

    def run_with_iobinding(self, binding: FakeBinding, options: Any = None) -> None:
        graph = "" if options is None else options.entries["gpu_graph_id"]
        self._fake.runs.append(f"bound {graph}".strip())
        results = self._session.run(list(binding.outputs), {n: v.numpy() for n, v in binding.inputs.items()})
        for (name, value), result in zip(list(binding.outputs.items()), results, strict=True):
            if graph not in ("", "-1") and self._fake.graph_says_otherwise:
                result = result + 1
            if isinstance(value, FakeValue):
                value.value.update_inplace(np.ascontiguousarray(result))
            else:
                binding.outputs[name] = FakeValue(real.OrtValue.ortvalue_from_numpy(result, "cpu", 0), value)
