"""Losses that teach a network to tell identities apart.

A new one is a file here and a line in `LOSSES`, or a class elsewhere that derives from `Head`: see `edgeface.plugins`.
"""

from typing import Any, Final, Protocol, cast

from edgeface import plugins
from edgeface.errors import ConfigError
from edgeface.losses.adaface import AdaFace
from edgeface.losses.arcface import ArcFace
from edgeface.losses.center import CenterLoss
from edgeface.losses.combined import CombinedMargin
from edgeface.losses.contrastive import Contrastive
from edgeface.losses.cosface import CosFace
from edgeface.losses.cross_entropy import IGNORED
from edgeface.losses.curricularface import CurricularFace
from edgeface.losses.distances import DISTANCES
from edgeface.losses.distillation import Distillation
from edgeface.losses.elasticface import ElasticFace
from edgeface.losses.head import CosineHead, Head
from edgeface.losses.magface import MagFace
from edgeface.losses.mining import MINING
from edgeface.losses.multi_similarity import MultiSimilarity
from edgeface.losses.npair import NPair
from edgeface.losses.pairs import PairHead
from edgeface.losses.ranks import ALONE, Ranks
from edgeface.losses.softmax import NormSoftmax, Softmax
from edgeface.losses.sphereface import SphereFace
from edgeface.losses.subcenter import SubCenterArcFace
from edgeface.losses.supcon import SupervisedContrastive
from edgeface.losses.triplet import Triplet

__all__ = [
    "DISTANCES",
    "IGNORED",
    "LOSSES",
    "MINING",
    "AdaFace",
    "ArcFace",
    "CenterLoss",
    "CombinedMargin",
    "Contrastive",
    "CosFace",
    "CosineHead",
    "CurricularFace",
    "Distillation",
    "ElasticFace",
    "Head",
    "MagFace",
    "MultiSimilarity",
    "NPair",
    "NormSoftmax",
    "Option",
    "PairHead",
    "Softmax",
    "SphereFace",
    "SubCenterArcFace",
    "SupervisedContrastive",
    "Triplet",
    "build_loss",
    "loss_class",
]

Option = float | bool | str | None
"""Value of an option of a loss; None takes the loss's default."""

LOSSES: Final[dict[str, type[Head]]] = {
    "adaface": AdaFace,
    "arcface": ArcFace,
    "center": CenterLoss,
    "combined": CombinedMargin,
    "contrastive": Contrastive,
    "cosface": CosFace,
    "curricularface": CurricularFace,
    "elasticface": ElasticFace,
    "magface": MagFace,
    "multi-similarity": MultiSimilarity,
    "n-pair": NPair,
    "norm-softmax": NormSoftmax,
    "softmax": Softmax,
    "sphereface": SphereFace,
    "subcenter-arcface": SubCenterArcFace,
    "supcon": SupervisedContrastive,
    "triplet": Triplet,
}
"""Name of each loss, and what builds it."""


class HeadBuilder(Protocol):
    """How a head is made; which options it takes is `Head.options`."""

    def __call__(self, classes: int, embedding_size: int, **options: Option | Ranks) -> Head:
        """Build a head for that many identities."""


def loss_class(name: str) -> type[Head]:
    """Return the class of a loss; that of a plug-in is loaded, which runs its code.

    Args:
        name: a key of `LOSSES`, `module:Class`, or the name of an installed plug-in.

    Raises:
        UnknownNameError: there is no such loss.
        PluginError: as `edgeface.plugins.load`.
    """
    return LOSSES[name] if name in LOSSES else plugins.load(plugins.Kind.loss, name, Head, LOSSES)


def build_loss(name: str, classes: int, embedding_size: int, ranks: Ranks = ALONE, /, **options: Any) -> Head:
    """Build a loss with freshly drawn parameters (torch's global generator).

    Args:
        name: as `loss_class`.
        classes: number of identities.
        embedding_size: D.
        ranks: the processes that share the classes of a `CosineHead`; other heads are whole in each.
        options: arguments of that loss, such as `scale`, `margin` or `mining`; None takes its default.

    Raises:
        UnknownNameError, PluginError: as `loss_class`.
        ConfigError: the loss has no such option, or its value is out of range.
    """
    kind: Any = loss_class(name)
    ours = {"ranks": ranks} if issubclass(kind, CosineHead) else {}
    given = {key: value for key, value in options.items() if value is not None}
    if name not in LOSSES:
        return cast(Head, plugins.build(plugins.Kind.loss, name, Head, (classes, embedding_size), given, ours))
    taken = kind.options()
    for key, value in given.items():
        if key not in taken:
            raise ConfigError(
                f"loss.{key} = {value!r} has no effect on the loss {name}; leave it out, its options are: "
                f"{', '.join(sorted(taken))}"
            )
    return cast(HeadBuilder, kind)(classes, embedding_size, **given, **ours)
