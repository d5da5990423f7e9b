"""A slot for a passive anti-spoofing network: a crop around the face in, how live it looks out.

edgeface has no such network of its own. One is an ONNX file with a JSON file of the same name beside it that says how
it is used, its contract:

    {"format": "edgeface liveness 1",
     "sha256": "...",            of the ONNX file
     "crop_scale": 2.7,          side of the square crop around the middle of the box, in longer sides of the box
     "size_wh": [80, 80],        to which the crop is resized, in pixels
     "colour": "bgr",            or "rgb"
     "layout": "nchw",           or "nhwc"
     "mean": [0, 0, 0],          of each channel in that order: (pixel - mean) * scale, pixels 0 to 255
     "scale": [1, 1, 1],
     "output": "logits",         name of the output, (1, K) or (1, 1)
     "activation": "softmax",    or "sigmoid" or "none": how it becomes a probability
     "live": 1,                  which of the K says "live"
     "threshold": 0.5}           live from this probability on, as `edgeface liveness test` found it
"""

from pathlib import Path
from typing import Annotated, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeface.errors import BundleError, ImageError
from edgeface.files import sha256
from edgeface.runtime.providers.choice import ProviderLike
from edgeface.runtime.providers.session import Session, open_session

MAX_CONTRACT_BYTES: Final = 1 << 16
_Side = Annotated[int, Field(ge=8, le=1024)]
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]


class SpoofContract(BaseModel):
    """How a network is used; see the module."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["edgeface liveness 1"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    crop_scale: float = Field(ge=0.5, le=10)
    size_wh: tuple[_Side, _Side]
    colour: Literal["rgb", "bgr"]
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: tuple[_Number, _Number, _Number] = (0.0, 0.0, 0.0)
    scale: tuple[_Number, _Number, _Number] = (1.0, 1.0, 1.0)
    output: str
    activation: Literal["softmax", "sigmoid", "none"]
    live: int = Field(ge=0, le=1000)
    threshold: float = Field(ge=0, le=1)


class SpoofDetector:
    """Says how live faces look. Make it with `open_spoof_detector`."""

    def __init__(self, session: Session, contract: SpoofContract) -> None:
        self.session = session
        self.contract = contract
        self._output = [tensor.name for tensor in session.outputs].index(contract.output)

    @property
    def threshold(self) -> float:
        """A face is live from this probability on."""
        return self.contract.threshold

    def live(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating]) -> float:
        """Return how probably a face is live, in [0, 1].

        Args:
            image: (H, W, 3) uint8 RGB, the whole frame: what is around the face counts.
            box: (4,) x, y, width, height in pixels.

        Raises:
            ImageError: the box is empty, or what the network says is not a number.
        """
        crop = spoof_crop(image, box, self.contract).astype(np.float32)
        pixels = crop if self.contract.colour == "rgb" else crop[:, :, ::-1]
        pixels = (pixels - np.array(self.contract.mean, np.float32)) * np.array(self.contract.scale, np.float32)
        tensor = pixels.transpose(2, 0, 1) if self.contract.layout == "nchw" else pixels
        feeds = {self.session.inputs[0].name: np.ascontiguousarray(tensor[None])}
        values = np.asarray(self.session.run(feeds)[self._output], np.float64).reshape(-1)
        if self.contract.live >= len(values) or not np.isfinite(values).all():
            raise ImageError(
                f"the anti-spoofing network gave {len(values)} values, number {self.contract.live} should be finite "
                "and say 'live'; check its contract"
            )
        if self.contract.activation == "softmax":
            values = np.exp(values - values.max())
            values /= values.sum()
        elif self.contract.activation == "sigmoid":
            values = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
        return float(np.clip(values[self.contract.live], 0.0, 1.0))


def spoof_crop(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating], contract: SpoofContract
) -> npt.NDArray[np.uint8]:
    """Return the square around a face, resized to `contract.size_wh`; beyond the picture its edge is repeated.

    Raises:
        ImageError: the box is empty or not finite.
    """
    x, y, width, height = (float(value) for value in box)
    side = contract.crop_scale * max(width, height)
    if not np.isfinite([x, y, side]).all() or min(width, height) <= 0:
        raise ImageError(f"a face to be checked has a box with sides above 0, got {[x, y, width, height]}")
    columns, rows = contract.size_wh
    ratio_x, ratio_y = side / columns, side / rows
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    # Pixel centres lie at integers; the inverse map takes a pixel of the crop to one of the picture.
    inverse = np.array([[ratio_x, 0, left + ratio_x / 2 - 0.5], [0, ratio_y, top + ratio_y / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(image, inverse, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, np.uint8)


def open_spoof_detector(path: Path, *, provider: ProviderLike = "auto", threads: int = 1) -> SpoofDetector:
    """Load an anti-spoofing network and the contract beside it.

    Raises:
        BundleError: one of the two files is missing, they do not belong together, or the network is refused.
        ProviderError: as `edgeface.runtime.providers.session.open_session`.
    """
    beside = path.with_suffix(".json")
    for file in (path, beside):
        if not file.is_file():
            raise BundleError(f"anti-spoofing needs a network and its contract, {file} is missing")
    if beside.stat().st_size > MAX_CONTRACT_BYTES:
        raise BundleError(f"{beside} is larger than the {MAX_CONTRACT_BYTES} bytes a contract may have")
    try:
        contract = SpoofContract.model_validate_json(beside.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{beside} is not a valid contract: {place}: {first['msg']}") from None
    model = path.read_bytes()
    if sha256(model) != contract.sha256:
        raise BundleError(f"{beside} is the contract of another network than {path}: the hashes differ")
    session = open_session(model, provider=provider, threads=threads, name=str(path))
    frame = session.inputs[0]
    columns, rows = contract.size_wh
    asked = (3, rows, columns) if contract.layout == "nchw" else (rows, columns, 3)
    fits = len(frame.shape) == 4 and all(
        not isinstance(seen, int) or seen == side for seen, side in zip(frame.shape, (1, *asked), strict=True)
    )
    if len(session.inputs) != 1 or frame.dtype != "tensor(float)" or not fits:
        raise BundleError(
            f"{path} takes {frame.shape} {frame.dtype}, its contract says one input (1, {asked}) of float"
        )
    outputs = [tensor.name for tensor in session.outputs]
    if contract.output not in outputs:
        raise BundleError(f"{path} has no output {contract.output!r}; it has: {', '.join(outputs[:12])}")
    return SpoofDetector(session, contract)
