"""onnxruntime sessions that run where they were asked to run, or say why they cannot."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import numpy.typing as npt

from edgeface.errors import BundleError, MissingPackageError, ProviderError, UnknownNameError
from edgeface.runtime.inspection import Inspected, inspect_model

logger = logging.getLogger(__name__)

PROVIDERS: Final[dict[str, str]] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Short name to onnxruntime's name, the fastest first: the order in which `auto` tries them."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph: onnxruntime's type name, and a shape with names for dynamic sizes."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Whether a provider can be used here, and if not, why and what to do."""

    name: str
    works: bool
    why: str | None


class Session:
    """One loaded network. Make it with `open_session`."""

    def __init__(self, session: Any, inspected: Inspected, provider: str, why: str) -> None:
        self._session = session
        self._inspected = inspected
        self.provider = provider
        """Short name of the provider that runs the network."""
        self.why = why
        """How that provider came to be chosen."""
        self.inputs = tuple(Tensor(t.name, t.type, tuple(t.shape)) for t in session.get_inputs())
        self.outputs = tuple(Tensor(t.name, t.type, tuple(t.shape)) for t in session.get_outputs())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the network once; returns its outputs in the order of `outputs`.

        Raises:
            BundleError: for inputs of these sizes the network would exceed a limit of `edgeface.runtime.inspection`.
        """
        self._inspected.check_sizes({name: array.shape for name, array in feeds.items()})
        results: list[npt.NDArray[Any]] = self._session.run(None, dict(feeds))
        return results


def import_onnxruntime() -> Any:
    """Import onnxruntime, or say how to install it.

    Raises:
        MissingPackageError: neither onnxruntime wheel is installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError("onnxruntime", "cpu") from None
    return onnxruntime


def open_session(model: bytes, *, provider: str = "auto", threads: int = 1, name: str = "model") -> Session:
    """Load a network onto exactly the asked provider.

    onnxruntime itself falls back to the CPU without an error when a provider is missing or does not load;
    here that is an error for a provider asked by name, and a logged reason for `auto`.

    Args:
        model: the ONNX file's bytes, already verified. They are inspected before onnxruntime sees them.
        provider: `auto` or a key of `PROVIDERS`.
        threads: number of CPU threads, 0 for one a core. They sleep while there is nothing to do.
        name: what to call the network in an error.

    Raises:
        UnknownNameError: no provider has that name.
        ProviderError: the provider cannot run here; the message says why and what to do.
        BundleError: the bytes are not a network that onnxruntime can load, or one that inspection refuses.
        MissingPackageError: onnxruntime is not installed.
    """
    if provider not in ("auto", *PROVIDERS):
        raise UnknownNameError("provider", provider, ["auto", *PROVIDERS])
    inspected = inspect_model(model, name)
    if provider != "auto":
        return _create(model, inspected, provider, threads, name, "as asked")
    passed_over: list[str] = []
    for candidate in PROVIDERS:
        try:
            return _create(model, inspected, candidate, threads, name, "; ".join(["best that works", *passed_over]))
        except ProviderError as error:
            passed_over.append(f"not {candidate}: {error}")
    raise ProviderError(f"no provider works here: {'; '.join(passed_over)}")


def provider_status() -> tuple[ProviderStatus, ...]:
    """Try each provider on a network of one node and report which ones truly run."""
    inspected = inspect_model(_IDENTITY_NETWORK, "probe")
    statuses = []
    for provider in PROVIDERS:
        try:
            _create(_IDENTITY_NETWORK, inspected, provider, 1, "probe", "probe")
        except ProviderError as error:
            statuses.append(ProviderStatus(provider, False, str(error)))
        else:
            statuses.append(ProviderStatus(provider, True, None))
    return tuple(statuses)


def _create(model: bytes, inspected: Inspected, provider: str, threads: int, name: str, why: str) -> Session:
    onnxruntime = import_onnxruntime()
    wanted = PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise ProviderError(_missing(provider, onnxruntime.__version__))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; what we need to know is asked for below
    # A camera loop waits for frames most of the time; spinning threads would burn a core meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was inspected; it would guess
    providers = [wanted] if provider == "cpu" else [wanted, PROVIDERS["cpu"]]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if provider != "cpu":
            raise ProviderError(f"provider {provider} failed to load {name}: {reason}") from error
        raise BundleError(f"{name} is not a network that onnxruntime can load: {reason}") from error
    got = session.get_providers()[0]
    if got != wanted:
        raise ProviderError(
            f"provider {provider} is installed but did not load, onnxruntime fell back to {got}; "
            "check that the CUDA, cuDNN and TensorRT libraries it was built for are on the library path"
        )
    logger.info("%s runs on %s (%s)", name, provider, why)
    return Session(session, inspected, provider, why)


def _missing(provider: str, version: str) -> str:
    installed = [wheel for wheel in ("onnxruntime", "onnxruntime-gpu") if _is_installed(wheel)]
    if len(installed) == 2:
        return (
            f"provider {provider} is not available: onnxruntime and onnxruntime-gpu are both installed and overwrite "
            "each other; uninstall both, then: pip install 'edgeface[cuda]'"
        )
    if provider == "cpu":
        return f"this build of onnxruntime {version} has no CPU provider; pip install 'edgeface[cpu]'"
    return (
        f"provider {provider} is not in the installed {' '.join(installed) or 'onnxruntime'} {version}; "
        "uninstall it, then: pip install 'edgeface[cuda]' (on a Jetson: NVIDIA's own onnxruntime wheel)"
    )


def _is_installed(wheel: str) -> bool:
    try:
        metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return False
    return True


# One Identity node, x (1,) float32 -> y, IR version 8, opset 17: onnx itself is not installed on a device.
_IDENTITY_NETWORK: Final = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201705a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a001011"
)
