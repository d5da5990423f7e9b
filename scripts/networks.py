"""What the benchmark scripts share: which network to measure, and the faces for it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeface.data import open_faces
from edgeface.export.foreign import adapt
from edgeface.export.graph import export_backbone
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.quantization.calibration import draw_faces, held_out
from edgeface.models import build_model


def network_options(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that say which network and which faces."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("faces", help="aligned faces: a folder, shards, ...")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--onnx", type=Path, help="a foreign embedder; without it, an untrained network of --model")
    parser.add_argument("--input-layout", default="nchw")
    parser.add_argument("--channel-order", default="rgb")
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 127.5)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--target", default="auto")
    parser.add_argument("--rounds", type=int, default=200)
    return parser


@dataclass(frozen=True, slots=True)
class Subject:
    """A float32 embedder that meets the contract, and (N, 112, 112, 3) uint8 faces to fix ranges and to measure on."""

    name: str
    model: onnx.ModelProto
    calibration: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]


def open_subject(options: argparse.Namespace) -> Subject:
    """Open or build the network, and draw the faces."""
    faces = draw_faces(open_faces(options.faces), options.images).images
    ranges, tried, _ = held_out(len(faces))
    if options.onnx:
        layout, order = options.input_layout, options.channel_order
        model = adapt(onnx.load(options.onnx), Preprocessing(layout, order, options.mean, options.scale))
    else:
        torch.manual_seed(0)
        backbone = build_model(options.model, 128).train()
        with torch.no_grad():
            for _ in range(20):
                backbone(torch.from_numpy(faces[:64]).permute(0, 3, 1, 2).float() / 127.5 - 1)
        model = export_backbone(backbone.eval())
    return Subject(str(options.onnx or options.model), model, faces[ranges], faces[tried])
