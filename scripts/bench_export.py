"""What the choices of the export cost and bring, side by side in one run.

usage: bench_export.py FACES [--onnx NET --input-layout L --channel-order O --mean M --scale S] [--model NAME]

Times one face on one thread, the networks taking turns, and compares their embeddings with the original's on faces
that were not used for calibration. Without --onnx, an untrained network of that name serves: then the times mean
something, the cosines little.
"""

from functools import partial

import numpy as np
from networks import network_options, open_subject

from edgeface.export.cleaning import serialize
from edgeface.export.prelu import has_prelu, rewrite_prelu
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.ranges import METHODS
from edgeface.export.quantization.search import Plan
from edgeface.export.quantization.targets import resolve_target
from edgeface.metrics import cosine_scores
from edgeface.runtime.embedder import open_embedder
from edgeface.runtime.timing import take_turns


def main() -> None:
    parser = network_options(__doc__.splitlines()[0])
    parser.add_argument("--method", default="minmax", choices=METHODS)
    options = parser.parse_args()
    subject = open_subject(options)
    network, calibration, test = subject.model, subject.calibration, subject.test
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
    works = [partial(embedder.embed, test[:1]) for embedder in embedders.values()]
    times = dict(zip(embedders, take_turns(works, options.rounds, 10), strict=True))
    base = np.median(times["fp32"])
    print(f"target {target.name}, {subject.name}")
    print(f"{'':32} {'median ms':>9} {'min ms':>7} {'ratio':>6} {'min cos':>8} {'mean cos':>8} {'MB':>6}")
    for name, embedder in embedders.items():
        cosines = cosine_scores(reference, embedder.embed(test))
        median, least = np.median(times[name]), min(times[name])
        print(
            f"{name:32} {median:9.2f} {least:7.2f} {base / median:6.2f} {cosines.min():8.4f} "
            f"{cosines.mean():8.4f} {len(files[name]) / 1e6:6.2f}"
        )


if __name__ == "__main__":
    main()
