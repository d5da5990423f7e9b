"""Facts of an NVIDIA GPU and its libraries, asked of the libraries themselves: no package is needed for it."""

import contextlib
import ctypes
import io
import re
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, Final

from edgeface.errors import ProviderError
from edgeface.runtime.providers.elf import needed_libraries
from edgeface.runtime.providers.provider_errors import explain

_DRIVER_NAMES: Final = ("libcuda.so.1", "nvcuda.dll")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
_DRIVER_FILES: Final = (Path("/proc/driver/nvidia/version"), Path("/etc/nv_tegra_release"))
_TENSORRT: Final = re.compile(r"libnvinfer\.so\.[\d.]+|nvinfer_\d+\.dll")
_TENSORRT_PARTS: Final = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        name: such as `Orin` or `NVIDIA GeForce RTX 4090`.
        capability: compute capability, such as `8.7`.
        driver: its version, and that of CUDA that it knows.
    """

    name: str
    capability: str
    driver: str


def find_gpu(device: int = 0) -> Gpu | None:
    """Return the facts of a GPU as CUDA numbers them, None where there is none or no driver."""
    driver = _first_library(_DRIVER_NAMES)
    if driver is None:
        return None
    handle, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    try:
        answers = (
            driver.cuInit(0),
            driver.cuDeviceGet(ctypes.byref(handle), device),
            driver.cuDeviceGetName(name, len(name), handle),
            driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle),
            driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle),
            driver.cuDriverGetVersion(ctypes.byref(version)),
        )
    except AttributeError:  # a library of that name that is none
        return None
    if any(answers):
        return None
    known = [line for path in _DRIVER_FILES if (line := _first_line(path))]
    return Gpu(
        name.value.decode(errors="replace"),
        f"{major.value}.{minor.value}",
        "; ".join([f"CUDA {version.value // 1000}.{version.value % 1000 // 10}", *known]),
    )


def tensorrt_version(provider_library: Path) -> str:
    """Return the version of the TensorRT that onnxruntime's provider will load, as TensorRT numbers it.

    Args:
        provider_library: the provider, which says which TensorRT it was linked with.

    Raises:
        ProviderError: there is no such library, or none of TensorRT.
    """
    names = [name for name in needed_libraries(provider_library) if _TENSORRT.fullmatch(name)]
    if not names:
        raise ProviderError(
            f"provider tensorrt: {provider_library} is missing or needs no TensorRT; install the wheel again"
        )
    try:
        return str(int(ctypes.CDLL(names[0]).getInferLibVersion()))
    except (OSError, AttributeError) as error:
        raise ProviderError(f"provider tensorrt does not load: {explain([str(error)])}") from error


def preload(onnxruntime: Any) -> None:
    """Load the CUDA, cuDNN and TensorRT libraries that were installed with pip, which nothing else would find."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; loading will say it better
            onnxruntime.preload_dlls()
    spec = util.find_spec("tensorrt_libs")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        for part in _TENSORRT_PARTS:
            for path in sorted(Path(folder).glob(f"lib{part}.so.*")):
                with contextlib.suppress(OSError):
                    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _first_library(names: tuple[str, ...]) -> Any:
    for name in names:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return " ".join(file.readline().split())
    except OSError:
        return ""
