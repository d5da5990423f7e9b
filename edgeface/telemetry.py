"""Nothing leaves the device unasked: what dependencies would send home is switched off before they are imported.

The wheels of onnxruntime send events to their makers from version 1.29 on: they begin with the import, some seconds
later with connections, and leave a lasting device number under the user's cache. Only a variable in the environment
stops all of that, and only if it is set before the import. So `import edgeface` sets it, and all of edgeface imports
onnxruntime through `import_onnxruntime`. Whoever sets the variable himself, to any value, has his way.
"""

import importlib
import os
from collections.abc import MutableMapping
from typing import Any, Final

from edgeface.errors import MissingPackageError

ONNXRUNTIME: Final = "ORT_DISABLE_TELEMETRY"
"""`1`, `true`, `yes`, `y` and `on` switch onnxruntime's telemetry off; anything else, also nothing, leaves it on."""

SWITCHES: Final = {ONNXRUNTIME: "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Variables of dependencies, and what switches off what they send. The second is that of timm's downloads."""


def switch_off(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables that are not set; processes that this one starts have them from it."""
    for name, value in SWITCHES.items():
        environment.setdefault(name, value)


def import_onnxruntime(part: str = "") -> Any:
    """Import onnxruntime, or say how to install it.

    Args:
        part: one of its modules, such as `quantization`.

    Raises:
        MissingPackageError: neither onnxruntime wheel is installed.
    """
    switch_off()
    try:
        return importlib.import_module(f"onnxruntime.{part}" if part else "onnxruntime")
    except ImportError as error:
        if (error.name or "onnxruntime").split(".")[0] != "onnxruntime":
            raise
        raise MissingPackageError("onnxruntime", "cpu") from None
