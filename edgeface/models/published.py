"""What was published about each network of `MODELS`: where it comes from, and what it is said to cost."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Published:
    """A network as its source describes it.

    Attributes:
        embedding_size: D of the figures below.
        source: who described it, and where.
        parameters: in millions; None where no figure was found.
        multiply_adds: of one face, in millions; None where no figure was found. Papers say FLOPs.
    """

    embedding_size: int
    source: str
    parameters: float | None = None
    multiply_adds: float | None = None


_MOBILEFACENET: Final = "Chen et al., 2018, arXiv 1804.07573"
_IRESNET: Final = "Deng et al., 2019, arXiv 1801.07698; insightface arcface_torch"
_IR: Final = "Kim et al., 2022, arXiv 2204.00964; AdaFace net.py"
_MBF: Final = "insightface arcface_torch, after arXiv 1804.07573"
_GHOST: Final = "Alansari et al., IEEE Access 2023, doi 10.1109/ACCESS.2023.3266068"
_EDGEFACE: Final = "George et al., 2023, arXiv 2307.01838"
_OURS: Final = "edgeface, basic blocks of arXiv 1512.03385"

PUBLISHED: Final[dict[str, Published]] = {
    # The paper counts a multiply-add as two FLOPs: 306.12 and 154.00 million.
    "edgeface-s": Published(512, f"{_EDGEFACE}, gamma 0.5", 3.65, 153.06),
    "edgeface-xs": Published(512, f"{_EDGEFACE}, gamma 0.6", 1.77, 77.00),
    # As later papers cite it, norms and activations counted.
    "ghostfacenetv1-1.3-1": Published(512, _GHOST, 4.1, 216.0),
    "ghostfacenetv1-1.3-2": Published(512, _GHOST),
    "ir18": Published(512, _IR),
    "ir34": Published(512, _IR),
    "ir50": Published(512, _IR),
    "ir101": Published(512, _IR),
    "iresnet18": Published(512, _IRESNET, 24.0, 2600.0),
    "iresnet34": Published(512, _IRESNET, 34.1),
    "iresnet50": Published(512, _IRESNET, 43.6, 6300.0),
    "iresnet100": Published(512, _IRESNET, 65.2, 12100.0),
    "iresnet200": Published(512, "insightface arcface_torch, after arXiv 1801.07698"),
    # Known as "mobilefacenet-0.45G"; its layers alone have 438 million, with norms and slopes it is 471.
    "mbf": Published(512, _MBF, multiply_adds=450.0),
    "mbf-large": Published(512, _MBF),
    "mobilefacenet": Published(128, _MOBILEFACENET, 0.99, 221.0),
    "mobilefacenet-relu6": Published(128, f"{_MOBILEFACENET}, with ReLU6 for PReLU"),
    "resnet-edge": Published(128, _OURS),
    "resnet-edge-deep": Published(128, _OURS),
    "resnet-nano": Published(128, _OURS),
}
"""One entry for each key of `MODELS`."""
