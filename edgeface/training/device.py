"""Where to train and in which precision."""

import torch

from edgeface.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names; `auto` is the first GPU, if there is
    one.

    Raises:
        ConfigError: it is not a device, or not one of this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"run.device = {name!r} is not a device; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"run.device = {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"run.device = {name!r}, but torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; "
            "use cpu, or install a torch built for your driver"
        )
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type that convolutions compute in.

    `auto` is float32 on a CPU, since few have fast bfloat16 arithmetic; on a GPU bfloat16 where it has that,
    and float16, with scaled losses, where not.

    Raises:
        ConfigError: float16 was asked on a CPU.
    """
    if name == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name == "float16" and device.type == "cpu":
        raise ConfigError("run.precision = 'float16' trains on GPUs only; use float32 or bfloat16 on a CPU")
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)
