"""Opening a network on one provider: with its options, its engines and its first runs behind it."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from edgeface.errors import BundleError, ProviderError
from edgeface.runtime.inspecting.inspection import Inspected
from edgeface.runtime.inspecting.onnx_reader import read_model
from edgeface.runtime.providers import assignment, engines, gpu, plugins
from edgeface.runtime.providers.binding import BoundRunner
from edgeface.runtime.providers.choice import ProviderChoice, plugin_row
from edgeface.runtime.providers.network import Engines, Session, Sizes
from edgeface.runtime.providers.provider_errors import (
    explain,
    installed_wheels,
    library_path,
    load_errors,
    not_installed,
    overheard,
)
from edgeface.runtime.providers.rehearsal import rehearse, run_range
from edgeface.runtime.providers.table import CPU, PROVIDERS, Provider, Setup
from edgeface.telemetry import import_onnxruntime

logger = logging.getLogger(__name__)

Announce = Callable[[str], None]
"""Takes a sentence for people about something that takes long."""

_LOADING: Final = re.compile(r"Please install|load library|LoadLibrary", re.IGNORECASE)


class FellBackError(ProviderError):
    """onnxruntime left a provider out and said nothing."""


def absent(provider: str) -> str | None:
    """Return a short reason if the installed onnxruntime was built without a provider."""
    row = PROVIDERS.get(provider)
    onnxruntime = import_onnxruntime()
    if row is None or row.ort_name in onnxruntime.get_available_providers():
        return None
    return f"not in the installed onnxruntime {onnxruntime.__version__}"


def installed(onnxruntime: Any, provider: str) -> tuple[Provider, tuple[Any, ...]]:
    """Return the row of a provider that onnxruntime brings, with its devices where it is a library of its own.

    Raises:
        ProviderError: onnxruntime does not bring it.
    """
    row = PROVIDERS[provider]
    if row.ort_name in onnxruntime.get_available_providers():
        return row, ()
    found: tuple[Any, ...] = tuple(getattr(onnxruntime, "get_ep_devices", tuple)())
    devices = tuple(device for device in found if device.ep_name == row.ort_name)
    if not devices:  # a wheel may bring its provider as a library and load that itself
        raise ProviderError(not_installed(row, onnxruntime.__version__, installed_wheels()))
    return row, devices


@dataclass(frozen=True, slots=True)
class Opening:
    """One network on its way to a provider; `keep` says whether engines that are built are kept."""

    model: bytes
    inspected: Inspected
    choice: ProviderChoice
    threads: int
    name: str
    sizes: Sizes
    precision: str
    announce: Announce
    keep: bool = True

    def open(self, provider: str, why: str) -> Session:
        """Open the network on a provider; see `edgeface.runtime.providers.session.open_session`."""
        onnxruntime = import_onnxruntime()
        row, devices = self._row(onnxruntime, provider)
        if row.device_type == "cuda":
            gpu.preload(onnxruntime)
        setup = self._setup(row)
        if row.keeps_engines and self.keep:
            return self._with_engines(onnxruntime, row, setup, why)
        if row.name == "cuda" and self.choice.cuda_graph and self.keep:
            try:
                return self._create(onnxruntime, row, devices, replace(setup, cuda_graph=True), why)
            except FellBackError:  # it would again
                raise
            except ProviderError as error:
                logger.info("%s runs on cuda without recorded launches: %s", self.name, error)
        return self._create(onnxruntime, row, devices, setup, why)

    def _row(self, onnxruntime: Any, provider: str) -> tuple[Provider, tuple[Any, ...]]:
        """Return the row of a provider, with its devices where it is in a library of its own.

        Raises:
            ProviderError: as `installed`.
        """
        library = next((entry for entry in self.choice.libraries if entry.name == provider), None)
        if library is not None:
            names = plugins.register(onnxruntime, library)
            devices = tuple(device for device in onnxruntime.get_ep_devices() if device.ep_name == names[0])
            return plugin_row(library, names[0]), devices
        return installed(onnxruntime, provider)

    def _setup(self, row: Provider) -> Setup:
        if not row.device_type:
            return Setup(device=self.choice.device, threads=self.threads, precision=self.precision)
        inputs = read_model(self.model, self.name).inputs
        profile = {}
        if row.keeps_engines and any(None in entry.shape for entry in inputs):
            for which, key in enumerate(("min", "opt", "max")):
                parts = [
                    f"{entry.name}:{'x'.join(map(str, self.sizes.shapes(entry.shape)[which]))}" for entry in inputs
                ]
                profile[f"trt_profile_{key}_shapes"] = ",".join(parts)
        return Setup(
            device=self.choice.device,
            memory_limit=self.choice.memory_limit,
            threads=self.threads,
            precision=self.precision,
            fixed=all(None not in entry.shape for entry in inputs),
            profile=profile,
        )

    def _with_engines(self, onnxruntime: Any, row: Provider, setup: Setup, why: str) -> Session:
        """Open with the engines that were built for exactly this, or build them if that was asked for."""
        facts = engines.engine_facts(
            self.model,
            version=str(onnxruntime.__version__),
            library=library_path(onnxruntime, row.library),
            device=self.choice.device or 0,
            precision=self.precision,
            shapes=setup.profile,
            limit=setup.memory_limit,
        )
        store = engines.EngineStore()
        folder, built_s = store.find(facts), 0.0
        if folder is None:
            if not self.choice.build_engines:
                raise ProviderError(
                    f"TensorRT has no engine for {self.name} on this machine yet, and building one takes minutes; "
                    "build it ahead with: edgeface bundle warm BUNDLE, or start edgeface run with --build-engines"
                )
            self.announce(f"building the TensorRT engine for {self.name}; this takes minutes, once")
            started = time.monotonic()
            with store.building(facts) as fresh:
                if fresh is not None:
                    session = self._create(onnxruntime, row, (), replace(setup, engines=fresh), why)
                    run_range(session, self.sizes)
                    del session
            store.prune(facts)
            built_s = time.monotonic() - started
            self.announce(f"the TensorRT engine for {self.name} is ready after {built_s:.0f} s")
            folder = store.folder(facts)
        before = engines.contents(folder)
        session = self._create(onnxruntime, row, (), replace(setup, engines=folder), why)
        if engines.contents(folder) != before:
            logger.warning("TensorRT did not take the engine kept for %s and built another one", self.name)
        session.engines = Engines(folder, built_s)
        return session

    def _create(self, onnxruntime: Any, row: Provider, devices: tuple[Any, ...], setup: Setup, why: str) -> Session:
        with TemporaryDirectory(prefix="edgeface-") as folder:
            options = self._options(onnxruntime, row)
            # Versions that cannot be asked which provider runs what can at least be watched at it.
            watch = row.name != "cpu" and not hasattr(
                onnxruntime.InferenceSession, "get_provider_graph_assignment_info"
            )
            if watch:
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder) / "profile")
            raw = self._load(onnxruntime, row, devices, setup, options)
            names_of = {row.ort_name: row.name}
            names = [tensor.name for tensor in raw.get_outputs()]
            runner = (
                BoundRunner(onnxruntime, raw, names, row.device_type, self.choice.device or 0, setup.cuda_graph)
                if row.device_type
                else None
            )
            limit = 1 if row.fixed_sizes else row.max_batch
            session = Session(
                raw,
                self.inspected,
                row.name,
                why,
                max_batch=limit,
                nodes=assignment.recorded(raw, names_of),
                runner=runner,
            )
            if row.name != "cpu":
                rehearse(session, self.sizes)
            if watch:
                session.nodes = assignment.profiled(Path(raw.end_profiling()), names_of)
        self._judge(session, row)
        logger.info("%s runs on %s (%s)", self.name, row.name, why)
        return session

    def _options(self, onnxruntime: Any, row: Provider) -> Any:
        options = onnxruntime.SessionOptions()
        # XNNPACK has threads of its own, which onnxruntime's would only disturb.
        options.intra_op_num_threads = 1 if row.name == "xnnpack" else self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; what we need to know is asked for elsewhere
        # A camera loop waits for frames most of the time; spinning threads would burn a core meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")  # what was inspected; it would guess
        options.add_session_config_entry(assignment.RECORD, "1")
        if row.fixed_sizes:
            plain = self._load(onnxruntime, PROVIDERS["cpu"], (), Setup(), options)
            for tensor in plain.get_inputs():
                if tensor.shape and isinstance(tensor.shape[0], str):
                    options.add_free_dimension_override_by_name(tensor.shape[0], 1)
        return options

    def _load(self, onnxruntime: Any, row: Provider, devices: tuple[Any, ...], setup: Setup, options: Any) -> Any:
        """Make onnxruntime's session, and make sure that it is on the provider."""
        with _overheard(onnxruntime, row) as heard:
            try:
                if devices:
                    device = plugins.pick_device(devices, self.choice.device, row.name)
                    told = {key: value for key, value in row.options(setup).items() if key != "device_id"}
                    options.add_provider_for_devices([device], told)
                    raw = onnxruntime.InferenceSession(self.model, options, enable_fallback=0)
                else:
                    wanted: list[Any] = [(row.ort_name, row.options(setup))]
                    for backup in row.backups:
                        if backup in onnxruntime.get_available_providers():
                            wanted.append((backup, {"device_id": str(setup.device or 0)}))
                    wanted += [] if row.ort_name == CPU else [CPU]
                    raw = onnxruntime.InferenceSession(self.model, options, providers=wanted, enable_fallback=0)
            except ProviderError:
                raise
            except Exception as error:  # onnxruntime's exceptions share no base class but this
                text = str(error)
                loading = load_errors(onnxruntime, row) if _LOADING.search(text) else ()
                reason = explain([*loading, *heard, text]) or type(error).__name__
                if row.name != "cpu":
                    raise ProviderError(f"provider {row.name} failed to load {self.name}: {reason}") from error
                raise BundleError(f"{self.name} is not a network that onnxruntime can load: {reason}") from error
        got = raw.get_providers()[0]
        if got != row.ort_name:
            reason = explain([*load_errors(onnxruntime, row), *heard])
            if not reason and row.device_type == "cuda" and gpu.find_gpu(self.choice.device or 0) is None:
                reason = f"there is no NVIDIA GPU {self.choice.device or 0} that this process may use; see nvidia-smi"
            if not reason:
                reason = "check that the libraries it was built for are on the library path"
            raise FellBackError(
                f"provider {row.name} is installed but did not load, onnxruntime fell back to {got}: {reason}"
            )
        return raw

    def _judge(self, session: Session, row: Provider) -> None:
        if row.name == "cpu" or session.nodes is None or not session.nodes.nodes:
            return
        if not session.nodes.share(row.name):
            raise ProviderError(
                f"provider {row.name} runs none of the {sum(session.nodes.nodes.values())} nodes of {self.name}; all "
                "would run on the CPU: use --provider cpu, or a precision that it can run"
            )
        if self.keep and (warning := session.nodes.warning(row.name, self.name)):
            logger.warning(warning)


@contextmanager
def _overheard(onnxruntime: Any, row: Provider) -> Iterator[list[str]]:
    """Listen to what onnxruntime says of a provider; the CPU's is left to go where it goes."""
    if row.name == "cpu":
        yield []
        return
    with overheard(onnxruntime) as heard:
        yield heard
