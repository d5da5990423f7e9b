"""Time and memory of collecting activation ranges, by the number of faces.

usage: bench_calibration.py FACES [--images N] [--model NAME]

An untrained network of that name serves: neither figure depends on its weights.
"""

import argparse
import resource
from time import perf_counter

import numpy as np
import torch

from edgeface.data import open_faces
from edgeface.export.graph import export_backbone
from edgeface.export.prelu import rewrite_prelu
from edgeface.export.quantization.layers import find_layers
from edgeface.export.quantization.ranges import METHODS, collect_activations
from edgeface.models import build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--model", default="mobilefacenet")
    options = parser.parse_args()

    torch.manual_seed(0)
    graph = find_layers(rewrite_prelu(export_backbone(build_model(options.model, 128).eval())))
    faces = open_faces(options.faces)
    drawn = faces.read_many(np.random.default_rng(0).permutation(len(faces))[: options.images])
    before = _peak_mb()
    start = perf_counter()
    activations = collect_activations(graph.model, graph.tensors, drawn)
    collected = perf_counter()
    for method in METHODS:
        begin = perf_counter()
        activations.ranges(method)
        print(f"{method:10} {perf_counter() - begin:6.2f} s more")
    print(f"{len(drawn)} faces, {len(graph.tensors)} tensors: {collected - start:.1f} s")
    print(f"peak memory {_peak_mb():.0f} MB, before the first face {before:.0f} MB")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
