"""onnxruntime sessions that run where they were asked to run, or say why they cannot."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from edgeface.errors import ProviderError
from edgeface.runtime.inspecting.inspection import inspect_model
from edgeface.runtime.providers.choice import ProviderChoice, ProviderLike, as_choice
from edgeface.runtime.providers.network import Session, Sizes, Tensor
from edgeface.runtime.providers.opening import Announce, Opening, absent, installed
from edgeface.runtime.providers.provider_errors import TWO_WHEELS, installed_wheels
from edgeface.runtime.providers.table import PROVIDERS
from edgeface.telemetry import import_onnxruntime

__all__ = [
    "Announce",
    "ProviderChoice",
    "ProviderLike",
    "ProviderStatus",
    "Session",
    "Sizes",
    "Tensor",
    "absent",
    "first_that_works",
    "open_session",
    "provider_status",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Whether a provider can be used here, and if not, why and what to do."""

    name: str
    works: bool
    why: str | None


T = TypeVar("T")


def open_session(
    model: bytes,
    *,
    provider: ProviderLike = "auto",
    threads: int = 1,
    name: str = "model",
    sizes: Sizes | None = None,
    precision: str = "",
    announce: Announce = logger.warning,
    why: str = "as asked",
) -> Session:
    """Load a network onto exactly the asked provider.

    onnxruntime itself falls back to the CPU without an error when a provider is missing or does not load;
    here that is an error for a provider asked by name, and a logged reason for `auto`. A provider that runs only few
    of the nodes is warned of, and one that runs none counts as one that does not work.

    Args:
        model: the ONNX file's bytes, already verified. They are inspected before onnxruntime sees them.
        provider: `auto`, a key of `PROVIDERS`, or a `ProviderChoice`.
        threads: number of CPU threads, 0 for one a core. They sleep while there is nothing to do.
        name: what to call the network in an error.
        sizes: what its free sizes may be, for providers that compile.
        precision: `fp16` or `int8` if it is of that; only then may TensorRT compute in it.
        announce: is told before something takes minutes.
        why: how the provider came to be chosen.

    Raises:
        UnknownNameError: no provider has that name.
        ProviderError: the provider cannot run here; the message says why and what to do.
        BundleError: the bytes are not a network that onnxruntime can load, or one that inspection refuses.
        MissingPackageError: onnxruntime is not installed.
    """
    choice = as_choice(provider)
    if choice.name in PROVIDERS and choice.name not in (library.name for library in choice.libraries):
        # First, as reading the network takes longer, and `auto` may come here with one provider after another.
        installed(import_onnxruntime(), choice.name)
    inspected = inspect_model(model, name)
    opening = Opening(model, inspected, choice, threads, name, sizes or Sizes(), precision, announce)
    if choice.name != "auto":
        return opening.open(choice.name, why)
    return first_that_works(choice, opening.open, name)


def first_that_works(choice: ProviderChoice, attempt: Callable[[str, str], T], name: str) -> T:
    """Try the providers, the best first; say of each better one why it did not do.

    Args:
        choice: names libraries, which come first.
        attempt: is given the name of a provider and how it came to be chosen; raises ProviderError if it does not do.
        name: what to call the network.

    Raises:
        ProviderError: none does.
    """
    reasons: dict[str, list[str]] = {}
    failed = []
    for candidate in _candidates(choice):
        passed_over = [f"not {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        try:
            found = attempt(candidate, "; ".join(["best that works", *passed_over]))
        except ProviderError as error:
            missing = absent(candidate)
            reasons.setdefault(missing or str(error), []).append(candidate)
            if missing is None:
                failed.append(f"not {candidate}: {error}")
            continue
        if candidate == "cpu" and len(wheels := installed_wheels()) > 1:
            failed.append(f"although {' and '.join(wheels)} are installed: {TWO_WHEELS}")
        if failed:  # what is not installed was not expected to run
            logger.warning("%s runs on %s, %s", name, candidate, "; ".join(failed))
        return found
    told = "; ".join(f"not {', '.join(names)}: {reason}" for reason, names in reasons.items())
    raise ProviderError(f"no provider works here: {told}")


def provider_status(provider: ProviderLike = "auto") -> tuple[ProviderStatus, ...]:
    """Try each provider on a network of one node and report which ones truly run."""
    choice = as_choice(provider)
    inspected = inspect_model(_IDENTITY_NETWORK, "probe")
    opening = Opening(_IDENTITY_NETWORK, inspected, choice, 1, "probe", Sizes(), "", logger.info, keep=False)
    statuses = []
    for candidate in (*(library.name for library in choice.libraries), *PROVIDERS):
        try:
            opening.open(candidate, "probe")
        except ProviderError as error:
            statuses.append(ProviderStatus(candidate, False, str(error)))
        else:
            statuses.append(ProviderStatus(candidate, True, None))
    return tuple(statuses)


def _candidates(choice: ProviderChoice) -> Iterator[str]:
    """Yield what `auto` tries: what the user brought along first."""
    yield from (library.name for library in choice.libraries)
    yield from (row.name for row in PROVIDERS.values() if row.automatic)


# One Identity node, x (1,) float32 -> y, IR version 8, opset 17: onnx itself is not installed on a device.
_IDENTITY_NETWORK: Final = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201705a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a001011"
)
