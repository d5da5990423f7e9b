"""What is compared: losses, each as its file states it or with options that are named.

A contender is written `NAME`, `NAME:MINING` or `NAME:OPTION=VALUE`, and several options are joined by colons:
`arcface`, `triplet:semi-hard`, `combined:m2=0.4:m3=0.1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.losses import LOSSES, MINING, NPair, PairHead, build_loss, loss_class
from edgeface.plugins import Kind, installed, is_reference
from edgeface.training.config import TrainConfig, load_config

STORY: Final = (
    "contrastive",
    "triplet:easy-positive",
    "triplet:all",
    "triplet:semi-hard",
    "triplet:hard",
    "n-pair",
    "multi-similarity",
    "supcon",
    "softmax",
    "center",
    "norm-softmax",
    "sphereface",
    "cosface",
    "arcface",
    "combined",
    "subcenter-arcface",
    "curricularface",
    "adaface",
    "magface",
    "elasticface",
)
"""Every loss in the order in which they were thought of: pairs, triplets, many pairs at once, classes, margins."""

RECIPE: Final = "compare"
"""The budget that all share."""

RESERVED: Final = ("loss.name", "run.seed", "run.sampler", "run.faces_per_identity", "data.path")
"""Keys that the comparison sets itself."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A loss with its options.

    Attributes:
        label: as it was written, such as `triplet:semi-hard`.
        name: key of `edgeface.losses.LOSSES`.
        options: such as `mining=semi-hard`.
    """

    label: str
    name: str
    options: tuple[str, ...] = ()

    @property
    def pairs(self) -> bool:
        """Whether it compares the faces of a batch with one another."""
        return issubclass(loss_class(self.name), PairHead)

    def config(self, overrides: Sequence[str] = (), seed: int = 0) -> TrainConfig:
        """Return the configuration of one of its runs: the shared budget, then `overrides`, then what is its own.

        Losses over pairs get several faces of a person in each batch. N-pair looks at two of each and no more, so
        it gets two of twice as many people.

        Raises:
            ConfigError: an override cannot be used, or an option means nothing to the loss.
        """
        for override in overrides:
            key = override.partition("=")[0].strip()
            if key in RESERVED:
                raise ConfigError(f"{key} is set by the comparison itself; leave out {override!r}")
        own = [f"loss.name={self.name}", f"run.seed={seed}", *(f"loss.{option}" for option in self.options)]
        if self.pairs:
            each = 2 if issubclass(loss_class(self.name), NPair) else 4
            own += ["run.sampler=pk", f"run.faces_per_identity={each}"]
        config = load_config(overrides=[*overrides, *own], recipe=RECIPE)
        build_loss(self.name, 2, 2, **config.loss.given())  # refuses what the loss does not take
        return config


def contender(text: str) -> Contender:
    """Read a contender as it is written.

    Raises:
        UnknownNameError: there is no such loss or mining.
        ConfigError: an option cannot be read.
    """
    name, *parts = (part.strip() for part in text.split(":"))
    if name not in LOSSES and parts and is_reference(f"{name}:{parts[0]}"):
        name = f"{name}:{parts.pop(0)}"
    elif name not in LOSSES and name not in installed(Kind.loss):
        raise UnknownNameError("loss", name, (*LOSSES, *(label for label in STORY if ":" in label)))
    options = []
    for part in parts:
        if "=" in part:
            options.append(part)
        elif "mining" not in loss_class(name).options():
            raise ConfigError(f"{part!r} in {text!r} is not an option; write it as {name}:OPTION=VALUE")
        elif part not in MINING:
            raise UnknownNameError(f"mining of {name}", part, MINING)
        else:
            options.append(f"mining={part}")
    return Contender(":".join((name, *parts)), name, tuple(options))


def contenders(texts: Sequence[str] = ()) -> tuple[Contender, ...]:
    """Return the contenders that are asked, in that order and each once; all of `STORY` if none is.

    Raises:
        UnknownNameError, ConfigError: as `contender`.
    """
    return tuple({each.label: each for each in map(contender, texts or STORY)}.values())
