"""Providers in libraries of their own. Loading one runs its code, so only what the user names is loaded."""

import logging
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeface.errors import ProviderError
from edgeface.ownership import writable_by_others
from edgeface.runtime.providers.choice import PluginLibrary
from edgeface.runtime.providers.provider_errors import explain, overheard

logger = logging.getLogger(__name__)

_registered: dict[tuple[str, str], tuple[str, ...]] = {}
"""Libraries that this process loaded, and onnxruntime's names of their providers: it loads each once."""


def register(onnxruntime: Any, library: PluginLibrary) -> tuple[str, ...]:
    """Load a library, if that was not done yet; returns onnxruntime's names of the providers in it.

    Raises:
        ProviderError: this onnxruntime takes no libraries, the file is missing or others can write to it, or it does
            not load.
    """
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise ProviderError(
            f"onnxruntime {onnxruntime.__version__} takes no provider libraries; install 1.23 or later for "
            f"--provider-library {library.name}"
        )
    path = _checked(library)
    key = (library.name, str(path))
    if key in _registered:
        return _registered[key]
    before = {device.ep_name for device in onnxruntime.get_ep_devices()}
    logger.info("loading the provider library %s", path)
    with overheard(onnxruntime) as heard:
        try:
            onnxruntime.register_execution_provider_library(library.name, str(path))
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            reason = explain([*heard, str(error)])
            raise ProviderError(f"provider library {path} does not load: {reason}") from error
    names = tuple(sorted({device.ep_name for device in onnxruntime.get_ep_devices()} - before))
    if not names:
        raise ProviderError(
            f"provider library {path} found no device of its kind here; check that the device and its driver are there"
        )
    _registered[key] = names
    return names


def pick_device(devices: Sequence[Any], number: int | None, name: str) -> Any:
    """Return the device of that number among those of a provider, the first by default.

    Raises:
        ProviderError: there is none of that number.
    """
    if (number or 0) >= len(devices):
        raise ProviderError(f"provider {name} has {len(devices)} devices here, no number {number}; see edgeface doctor")
    return devices[number or 0]


def _checked(library: PluginLibrary) -> Path:
    path = library.path.resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise ProviderError(f"provider library {library.path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ProviderError(f"provider library {library.path} is not a file; name the library itself")
    if reason := writable_by_others(library.path):
        raise ProviderError(f"provider library {library.path} is refused, others could run what they like: {reason}")
    return path
