"""What the choices of the export cost and bring, side by side in one run.

usage: bench_export.py FACES [--onnx NET --input-layout L --channel-order O --mean M --scale S] [--model NAME]

Times one face on one thread, the networks taking turns, and compares their embeddings with the original's on faces
that were not used for calibration. Without --onnx, an untrained network of that name serves: then the times mean
something, the cosines little.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import torch

from edgeface.data import open_faces
from edgeface.export.calibration import draw_faces
from edgeface.export.cleaning import serialize
from edgeface.export.foreign import Preprocessing, adapt
from edgeface.export.graph import export_backbone
from edgeface.export.prelu import has_prelu, rewrite_prelu
from edgeface.export.quantize import Quantizer
from edgeface.export.ranges import METHODS
from edgeface.export.search import Plan
from edgeface.export.targets import resolve_target
from edgeface.metrics import cosine_scores
from edgeface.models import build_model
from edgeface.runtime.embedder import open_embedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces")
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--input-layout", default="nchw")
    parser.add_argument("--channel-order", default="rgb")
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 127.5)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--target", default="auto")
    parser.add_argument("--method", default="percentile", choices=METHODS)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()

    faces = draw_faces(open_faces(options.faces), 400).images
    calibration, test = faces[:200], faces[200:]
    if options.onnx:
        layout, order = options.input_layout, options.channel_order
        network = adapt(onnx.load(options.onnx), Preprocessing(layout, order, options.mean, options.scale))
    else:
        torch.manual_seed(0)
        backbone = build_model(options.model, 128).train()
        with torch.no_grad():
            for _ in range(20):
                backbone(torch.from_numpy(calibration[:64]).permute(0, 3, 1, 2).float() / 127.5 - 1)
        network = export_backbone(backbone.eval())
    target = resolve_target(options.target)
    variants = {"fp32": network}
    if has_prelu(network):
        variants["fp32, PReLU rewritten"] = rewrite_prelu(network)
    quantizer = Quantizer(rewrite_prelu(network), calibration, target, options.method)
    layers = quantizer.graph.layers
    variants["int8, everything"] = quantizer.write(Plan())
    variants["int8, depthwise in float"] = quantizer.write(Plan(tuple(x.name for x in layers if x.depthwise)))
    variants["int8 weights, float arithmetic"] = quantizer.write(Plan(tuple(layer.name for layer in layers)))

    files = {name: serialize(model) for name, model in variants.items()}
    embedders = {name: open_embedder(data, provider="cpu", threads=1) for name, data in files.items()}
    reference = embedders["fp32"].embed(test)
    times: dict[str, list[float]] = {name: [] for name in embedders}
    for round_ in range(options.rounds + 10):
        for name, embedder in embedders.items():
            start = perf_counter()
            embedder.embed(test[:1])
            if round_ >= 10:
                times[name].append(perf_counter() - start)
    base = np.median(times["fp32"])
    print(f"target {target.name}, {options.onnx or options.model}")
    print(f"{'':32} {'median ms':>9} {'min ms':>7} {'ratio':>6} {'min cos':>8} {'mean cos':>8} {'MB':>6}")
    for name, embedder in embedders.items():
        cosines = cosine_scores(reference, embedder.embed(test))
        median, least = np.median(times[name]), min(times[name])
        print(
            f"{name:32} {median * 1e3:9.2f} {least * 1e3:7.2f} {base / median:6.2f} {cosines.min():8.4f} "
            f"{cosines.mean():8.4f} {len(files[name]) / 1e6:6.2f}"
        )


if __name__ == "__main__":
    main()
