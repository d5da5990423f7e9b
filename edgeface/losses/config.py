"""Which loss, and its options, as a configuration names them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from edgeface.errors import ConfigError
from edgeface.losses import LOSSES
from edgeface.plugins import Kind, is_plugin

SCALE: Final = 30.0
OWN_DEFAULT: Final = -1.0
"""A margin that stands for the loss's own default."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Which loss of `edgeface.losses.LOSSES` the identities are taught with.

    Options that are None are left to the loss. One that is set and means nothing to the loss is an error; what each
    does stands with the losses that take it.

    Attributes:
        name: a key of `LOSSES`, `module:Class`, or the name of an installed plug-in (`edgeface.plugins`).
        scale: factor s before the softmax.
        margin: in the unit of that loss; below zero takes the loss's own default.
        weight: factor of this loss; 0 leaves it out.
        label_smoothing: softmax heads.
        interclass_filtering: cosine heads.
        sample_rate: cosine heads.
        m1: combined, factor of the angle.
        m2: combined, radians added to the angle.
        m3: combined, taken off the cosine.
        subcenters: subcenter-arcface, directions for each class.
        momentum: curricularface, adaface; of their running means.
        concentration: adaface, the paper's h.
        margin_high: magface, radians at `length_high`.
        length_low: magface.
        length_high: magface.
        length_weight: magface, the paper's lambda_g.
        margin_sd: elasticface.
        form: elasticface (`arc`, `cos`), contrastive (`distance`, `squared-distance`).
        mining: triplet, contrastive; a key of `edgeface.losses.MINING`.
        distance: triplet; a key of `edgeface.losses.DISTANCES`.
        soft_margin: triplet.
        memory: pair losses, embeddings of former batches to compare with.
        positive_scale: multi-similarity, the paper's alpha.
        negative_scale: multi-similarity, the paper's beta.
        base: multi-similarity, the paper's lambda.
        epsilon: multi-similarity.
        temperature: supcon.
        center_weight: center, the paper's lambda.
        center_rate: center, the paper's alpha.
        options: of a plug-in, what its constructor takes; in a file and on the command line they are keys of `loss`.
    """

    BESIDE_PLUGIN = frozenset({"name", "weight", "options"})
    """Keys that hold for every loss; all others are for the constructor of a plug-in, if that is the loss."""

    name: str = "arcface"
    scale: float = SCALE
    margin: float = OWN_DEFAULT
    weight: float = 1.0
    label_smoothing: float | None = None
    interclass_filtering: float | None = None
    sample_rate: float | None = None
    m1: float | None = None
    m2: float | None = None
    m3: float | None = None
    subcenters: int | None = None
    momentum: float | None = None
    concentration: float | None = None
    margin_high: float | None = None
    length_low: float | None = None
    length_high: float | None = None
    length_weight: float | None = None
    margin_sd: float | None = None
    form: str | None = None
    mining: str | None = None
    distance: str | None = None
    soft_margin: bool | None = None
    memory: int | None = None
    positive_scale: float | None = None
    negative_scale: float | None = None
    base: float | None = None
    epsilon: float | None = None
    temperature: float | None = None
    center_weight: float | None = None
    center_rate: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        extra = [f.name for f in fields(self)[4:-1] if getattr(self, f.name) is not None] + list(self.options)
        if not self.weight and extra:
            raise ConfigError(f"loss.{extra[0]} has no effect where loss.weight is 0; leave one of them out")

    @staticmethod
    def names_plugin(name: object) -> bool:
        """Tell whether a loss of this name is a plug-in."""
        return isinstance(name, str) and name not in LOSSES and is_plugin(Kind.loss, name)

    def given(self) -> dict[str, Any]:
        """Return the options that were set, for `edgeface.losses.build_loss`."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "weight", "options")}
        if self.margin < 0:
            del given["margin"]
        if self.scale == SCALE:
            del given["scale"]
        return {name: value for name, value in given.items() if value is not None} | dict(self.options)
