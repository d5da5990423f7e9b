"""Well-known public models that `edgeface bundle fetch` can bring: what they are, whose, and where they lie.

Only data. SHA-256 and size are those of the Git LFS pointers in https://github.com/opencv/opencv_zoo. Addresses name a
commit, so that what lies there does not change; were it to, the hash would tell. Files of the zoo lie in Git LFS:
raw.githubusercontent.com gives the pointer to a file, media.githubusercontent.com the file.
"""

from dataclasses import dataclass
from typing import Final, Literal

from edgeface.errors import UnknownNameError

Kind = Literal["detector", "embedder"]


@dataclass(frozen=True, slots=True)
class Input:
    """What a network takes: (pixel - mean) * scale, with pixels in [0, 255].

    Attributes:
        layout: `nchw` or `nhwc`.
        channel_order: `rgb` or `bgr`.
        mean: subtracted from each pixel value.
        scale: multiplied after that.
        size_wh: width and height in pixels; None if any multiple of 32 will do.
    """

    layout: Literal["nchw", "nhwc"]
    channel_order: Literal["rgb", "bgr"]
    mean: float
    scale: float
    size_wh: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of a model.

    Attributes:
        name: SPDX identifier.
        notice: what has to go with the file when it is passed on.
        address: where the maker states it.
    """

    name: str
    notice: str
    address: str


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A model that somebody else published.

    Attributes:
        name: by which it is asked for.
        title: a few words for people.
        kind: what it does.
        file: its name where it comes from, kept here.
        sha256: 64 hexadecimal digits.
        size_bytes: of the file; never more is read.
        licence: of the weights.
        training_data: what is known of the data it learned from.
        origin: page of its maker.
        addresses: https addresses of the file, the best first.
        input: what it takes.
    """

    name: str
    title: str
    kind: Kind
    file: str
    sha256: str
    size_bytes: int
    licence: Licence
    training_data: str
    origin: str
    addresses: tuple[str, ...]
    input: Input


_MIT: Final = """\
MIT License

Copyright (c) 2020 Shiqi Yu <shiqi.yu@gmail.com>

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

_APACHE: Final = """\
Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
"""

_COMMIT: Final = "47534e27c9851bb1128ccc0102f1145e27f23f98"  # of opencv/opencv_zoo
_TEXTS: Final = f"https://github.com/opencv/opencv_zoo/blob/{_COMMIT}/models"
_PAGES: Final = f"https://github.com/opencv/opencv_zoo/tree/{_COMMIT}/models"
_FILES: Final = f"https://media.githubusercontent.com/media/opencv/opencv_zoo/{_COMMIT}/models"
_FILES_AGAIN: Final = f"https://github.com/opencv/opencv_zoo/raw/{_COMMIT}/models"  # leads to the same store
_COPIES: Final = "https://huggingface.co/opencv"  # OpenCV's own

_YUNET_LICENCE: Final = Licence("MIT", _MIT, f"{_TEXTS}/face_detection_yunet/LICENSE")
# OpenCV's FaceDetectorYN gives it pictures as they are: BGR, no mean, no scale (modules/objdetect/src/face_detect.cpp).
_YUNET_DATA: Final = "WIDER FACE"

_MODELS: Final = (
    PublicModel(
        name="yunet-2023mar",
        title="YuNet, face detector of the OpenCV Zoo, March 2023",
        kind="detector",
        file="face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size_bytes=232_589,
        licence=_YUNET_LICENCE,
        training_data=_YUNET_DATA,
        origin=f"{_PAGES}/face_detection_yunet",
        addresses=(
            f"{_FILES}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
            f"{_COPIES}/face_detection_yunet/resolve/3cc26e7f1014a5ee5d74a42acee58bafc9d0a310/"
            "face_detection_yunet_2023mar.onnx",
        ),
        input=Input("nchw", "bgr", 0.0, 1.0, (640, 640)),
    ),
    PublicModel(
        name="yunet-2026may",
        title="YuNet, face detector of the OpenCV Zoo, May 2026, pictures of any size",
        kind="detector",
        file="face_detection_yunet_2026may.onnx",
        sha256="ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
        size_bytes=229_738,
        licence=_YUNET_LICENCE,
        training_data=_YUNET_DATA,
        origin=f"{_PAGES}/face_detection_yunet",
        addresses=(
            f"{_FILES}/face_detection_yunet/face_detection_yunet_2026may.onnx",
            f"{_FILES_AGAIN}/face_detection_yunet/face_detection_yunet_2026may.onnx",
        ),
        input=Input("nchw", "bgr", 0.0, 1.0, None),
    ),
    PublicModel(
        name="sface-2021dec",
        title="SFace, face embedder of the OpenCV Zoo, December 2021, 128 numbers",
        kind="embedder",
        file="face_recognition_sface_2021dec.onnx",
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        size_bytes=38_696_353,
        licence=Licence("Apache-2.0", _APACHE, f"{_TEXTS}/face_recognition_sface/LICENSE"),
        # https://github.com/zhongyy/SFace lists CASIA-WebFace, VGGFace2 and MS1MV2, not which of them this file saw.
        training_data="not stated by its maker",
        origin=f"{_PAGES}/face_recognition_sface",
        addresses=(
            f"{_FILES}/face_recognition_sface/face_recognition_sface_2021dec.onnx",
            f"{_COPIES}/face_recognition_sface/resolve/3d7082438a6e4551e840c9b2bb60b71e8da4b524/"
            "face_recognition_sface_2021dec.onnx",
        ),
        # OpenCV's FaceRecognizerSF gives it RGB from 0 to 255 (blobFromImage with scale 1, mean 0 and swapRB on BGR,
        # modules/objdetect/src/face_recognize.cpp); (x - 127.5) / 128 is in the graph.
        input=Input("nchw", "rgb", 0.0, 1.0, (112, 112)),
    ),
)

MODELS: Final[dict[str, PublicModel]] = {model.name: model for model in _MODELS}


def public_model(name: str) -> PublicModel:
    """Return a model of the registry.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in MODELS:
        raise UnknownNameError("public model", name, MODELS)
    return MODELS[name]
