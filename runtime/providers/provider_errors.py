"""Why a provider did not load: what onnxruntime said, in one line that names what is missing."""

import ctypes
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edgeface.runtime.providers.elf import needed_libraries
from edgeface.runtime.providers.table import Provider

_MISSING: Final = (
    re.compile(r"([\w.+-]+\.so(?:\.\d+)*): cannot open shared object file"),
    re.compile(r'"([\w.+-]+\.dll)" which is missing', re.IGNORECASE),
    re.compile(r"Library not loaded: \S*?([\w.+-]+\.dylib)"),
)
_OWNERS: Final = (
    ("cudnn", "cuDNN", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ("nvinfer", "TensorRT", "pip install tensorrt"),
    ("nvonnxparser", "TensorRT", "pip install tensorrt"),
    ("nvcuda", "the NVIDIA driver", "install the driver"),
    ("cublas", "CUDA", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ("cudart", "CUDA", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ("cufft", "CUDA", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ("curand", "CUDA", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ("nvrtc", "CUDA", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ("cuda", "the NVIDIA driver", "install the driver"),
    ("openvino", "OpenVINO", "pip install onnxruntime-openvino again"),
    ("qnn", "Qualcomm's QNN SDK", "install it"),
    ("onnxruntime", "onnxruntime itself", "install the same wheel again"),
)
"""Part of a library's name, whose it is, and what brings it; the first that fits."""

_FAILURES: Final = (
    (
        re.compile(r"no CUDA-capable device|CUDA failure 100\b|cudaErrorNoDevice", re.IGNORECASE),
        "there is no NVIDIA GPU that this process may use (see nvidia-smi and CUDA_VISIBLE_DEVICES)",
    ),
    (
        re.compile(r"driver version is insufficient|CUDA failure 35\b", re.IGNORECASE),
        "the NVIDIA driver is older than the CUDA libraries need; update it",
    ),
    (
        re.compile(r"invalid device ordinal|CUDA failure 101\b|Invalid device ID", re.IGNORECASE),
        "there is no GPU of that number; choose another one with --device",
    ),
    (
        re.compile(r"out of memory|CUDA failure 2\b|Failed to allocate memory", re.IGNORECASE),
        "the GPU has too little free memory; end what else uses it, or set --memory-limit",
    ),
    (
        re.compile(r"no kernel image is available|CUDA failure 209\b", re.IGNORECASE),
        "this build of onnxruntime has no code for this GPU; install one that has",
    ),
    (
        re.compile(r"undefined symbol|version `[^']+' not found|symbol lookup error", re.IGNORECASE),
        "a library has another version than this onnxruntime was built for",
    ),
)
"""What onnxruntime and CUDA say of common failures, and what it means."""

_WHEELS: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-directml",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-training",
)


TWO_WHEELS: Final = "they overwrite each other; uninstall them all, then install one"


def installed_wheels() -> tuple[str, ...]:
    """Return the installed wheels that bring the folder `onnxruntime`: more than one overwrite each other."""
    found = []
    for wheel in _WHEELS:
        try:
            record = metadata.distribution(wheel).read_text("RECORD")
        except metadata.PackageNotFoundError:
            continue
        # A plugin may be called onnxruntime-qnn and leave the folder alone.
        if record is None or "onnxruntime/__init__.py" in (line.split(",")[0] for line in record.splitlines()):
            found.append(wheel)
    return tuple(found)


def not_installed(provider: Provider, version: str, wheels: Sequence[str]) -> str:
    """Say why a provider is not among those of the installed onnxruntime, and what to do."""
    if len(wheels) > 1:
        return (
            f"provider {provider.name} is not available, and {' and '.join(wheels)} are installed: {TWO_WHEELS} "
            f"({provider.name} comes with {provider.wheel})"
        )
    if provider.name == "cpu":
        return f"this build of onnxruntime {version} has no CPU provider; {provider.install}"
    return f"provider {provider.name} is not in the installed {''.join(wheels) or 'onnxruntime'} {version}; " + (
        provider.install
    )


def explain(texts: Sequence[str]) -> str:
    """Return the most telling of what was said, with missing libraries and what brings them by name; '' for nothing."""
    said = [" ".join(text.split()) for text in texts if text.strip()]
    missing = dict.fromkeys(match[1] for text in said for pattern in _MISSING for match in pattern.finditer(text))
    if missing:
        return _missing_libraries(tuple(missing))
    for text in said:
        for pattern, meaning in _FAILURES:
            if pattern.search(text):
                return f"{meaning} ({_shortened(text)})"
    return _shortened(said[0]) if said else ""


def _missing_libraries(libraries: Sequence[str]) -> str:
    """Name libraries by what they belong to, and what brings them."""
    owners: dict[str, list[str]] = {}
    remedies: dict[str, None] = {}
    for library in libraries:
        owner, remedy = next(
            ((owner, remedy) for part, owner, remedy in _OWNERS if part in library.lower()),
            ("", "install what it belongs to"),
        )
        owners.setdefault(owner, []).append(library)
        remedies[remedy] = None
    named = " and ".join(", ".join(names) + (f" of {owner}" if owner else "") for owner, names in owners.items())
    what = "libraries" if len(libraries) > 1 else "library"
    verb = "are" if len(libraries) > 1 else "is"
    return f"the {what} {named} {verb} missing; {', '.join(remedies)}, or put the folder on the library path"


def _shortened(text: str, most: int = 300) -> str:
    text = re.sub(r"^.*?\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return text if len(text) <= most else f"{text[:most]}..."


@contextmanager
def overheard(onnxruntime: Any) -> Iterator[list[str]]:
    """Collect what onnxruntime logs as a warning or worse, which is the only place where it says why it fell back.

    Versions without such a hook log to stderr, and the list stays empty.
    """
    heard: list[str] = []
    hook = getattr(onnxruntime, "set_default_logger_callback", None)
    if hook is None:
        yield heard
        return

    def listen(severity: int, category: str, log_id: str, place: str, message: str) -> None:
        heard.append(message)

    hook(listen, 2)
    try:
        yield heard
    finally:
        hook(None)


def library_path(onnxruntime: Any, stem: str) -> Path:
    """Return where onnxruntime looks for one of its own libraries."""
    pattern = {"win32": "{}.dll", "darwin": "lib{}.dylib"}.get(sys.platform, "lib{}.so")
    return Path(str(onnxruntime.__file__)).parent / "capi" / pattern.format(stem)


def load_errors(onnxruntime: Any, provider: Provider) -> tuple[str, ...]:
    """Return what the system says of each library that a provider's own one needs and that does not load.

    The provider's library itself is left alone: it reaches for onnxruntime while it is loaded, and must find it ready.
    """
    if not provider.library:
        return ()
    library = library_path(onnxruntime, provider.library)
    if not library.is_file():
        return (f"{library.name} is not in the folder of onnxruntime",)
    said = []
    for name in needed_libraries(library):
        if any(part in name for part, _, _ in _OWNERS):  # the others come with the system, or onnxruntime finds them
            try:
                ctypes.CDLL(name)
            except OSError as error:
                said.append(str(error))
    return tuple(said)
