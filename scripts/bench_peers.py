"""The networks of the project beside those that others publish, on LFW, in one table of one run.

usage: bench_peers.py DATA [--edge BUNDLE] [--y1 BUNDLE] [--rounds N]

DATA holds lfw/ and peers/. Every network gets the same aligned crops, by the functions behind `edgeface eval`. Times
are of one face on one thread, the networks taking turns, the fastest of all rounds: of a bundle from uint8 crop to unit
embedding, of a foreign network its published graph alone on its own input, so what prepares that is not in its time.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.commands.labelled import open_named, open_pairs
from edgeface.evaluation.verification import FaceEmbedder, verify_pairs
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.quantization.layers import PRODUCTS, find_layers
from edgeface.export.resampling import Affine
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.providers.session import Session, open_session
from edgeface.runtime.timing import take_turns

_DEFAULT = "CC0 network, output transform fitted on research data"
_EDGE = "trained on data for non-commercial research"
_Y1 = "non-commercial research only"
_TRAINED = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1), "PRelu": (1,), "BatchNormalization": (1, 2)}
"""Which inputs of an operator are trained; running statistics are not, as in `edgeface.models.counting`."""


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """A network of the table: what embeds, its file, and how to run that on one face."""

    name: str
    licence: str
    embedder: FaceEmbedder
    file: bytes
    session: Session
    face: npt.NDArray[np.generic]

    def run(self) -> None:
        self.session.run({self.session.inputs[0].name: self.face})


def count(data: bytes) -> tuple[int, int, int]:
    """Return a network's parameters, its multiply-adds at batch 1, and those before its first convolution: resampling.

    Only Conv, Gemm and MatMul count as work, in float or between QuantizeLinear and DequantizeLinear.
    """
    model = onnx.load_from_string(data)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph, shapes = _inferred(model)
    if any(not math.prod(shapes.get(node.output[0], (0,))) for node in graph.node if node.op_type in PRODUCTS):
        graph, shapes = _inferred(find_layers(model).model)  # with the sizes that the network computes folded
    stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    stored |= {n.output[0]: tuple(n.attribute[0].t.dims) for n in graph.node if n.op_type == "Constant"}
    held = {name: name for name in stored}  # from a tensor to the stored one that it is made of
    for node in graph.node:
        parts = [held.get(name, "") for name in node.input if name]
        if parts and all(parts):
            held |= dict.fromkeys(node.output, max(parts, key=lambda name: math.prod(stored[name])))
    first = next(index for index, node in enumerate(graph.node) if node.op_type == "Conv")
    trained = (node.input[place] for node in graph.node[first:] for place in _places(node))
    weights = {held[name] for name in trained if name in held}
    shapes |= {name: stored[source] for name, source in held.items()}
    work = {index: _work(node, shapes) for index, node in enumerate(graph.node) if node.op_type in PRODUCTS}
    resampling = sum(done for index, done in work.items() if index < first)
    return (sum(math.prod(stored[name]) for name in weights), sum(work.values()) - resampling, resampling)


def _inferred(model: onnx.ModelProto) -> tuple[onnx.GraphProto, dict[str, tuple[int, ...]]]:
    """Return the graph and the shape of each tensor that is known; a size in it that is not known is 0."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return graph, {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}


def _places(node: onnx.NodeProto) -> list[int]:
    return [place for place in _TRAINED.get(node.op_type, ()) if place < len(node.input)]


def _work(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    left, right = (shapes[name] for name in node.input[:2])
    made = math.prod(shapes.get(node.output[0], (0,)))
    assert made, f"shape inference does not tell the size of {node.output[0]}"
    if node.op_type == "Conv":
        return made * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return made * left[-2 if transposed else -1]


def open_ours(name: str, licence: str, path: Path, face: npt.NDArray[np.uint8]) -> Peer:
    """Open the int8 network of a bundle."""
    data = open_bundle(path).embedder("int8")
    embedder = open_named(path, None, precision="int8", provider="cpu", threads=1).embedder
    return Peer(name, licence, embedder, data, open_session(data, provider="cpu", threads=1, name=name), face)


def open_foreign(name: str, licence: str, path: Path, affine: Path | None, face: npt.NDArray[np.uint8]) -> Peer:
    """Open a published network that takes RGB pixels from 0 to 255, channels first."""
    preprocessing = Preprocessing("nchw", "rgb", 0.0, 1.0, Affine.read(affine) if affine else None)
    embedder = open_named(path, preprocessing, precision="auto", provider="cpu", threads=1).embedder
    data = path.read_bytes()
    session = open_session(data, provider="cpu", threads=1, name=name)
    size_wh = preprocessing.size_wh(session.inputs[0].name, session.inputs[0].shape)
    return Peer(name, licence, embedder, data, session, preprocessing.apply(face, size_wh))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of lfw/ and peers/")
    parser.add_argument("--edge", type=Path, default=Path("default-edge"), help="bundle of the small network")
    parser.add_argument("--y1", type=Path, help="bundle of the published MobileFaceNet, exported by edgeface")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    faces, pairs, _ = open_pairs(str(options.data / "lfw"), None, None)
    face, peers = faces.read_many(pairs.used[:1]), options.data / "peers"
    y1 = open_foreign("mobilefacenet-y1, fp32 as published", _Y1, peers / "mobilefacenet-y1.onnx", None, face)
    networks = [
        open_ours("`default`, int8", _DEFAULT, Path("default"), face),
        open_ours("`default-edge`, int8", _EDGE, options.edge, face),
        open_foreign("dlib-resnet, fp32", "CC0", peers / "dlib-resnet.onnx", peers / "dlib-affine-112-150.npy", face),
        y1,
    ]
    if options.y1:
        networks.append(open_ours("mobilefacenet-y1, int8 by edgeface", _Y1, options.y1, face))
    sizes = [count(peer.file) for peer in networks]
    fastest = [min(times) for times in take_turns([peer.run for peer in networks], options.rounds, 10)]
    print("| network | licence | parameters | multiply-adds | MB | LFW | TAR at FAR 1e-3 | ms a face | y1's ms / its |")
    print(f"{'|---' * 9}|")
    for peer, (parameters, work, _), ms in zip(networks, sizes, fastest, strict=True):
        found = verify_pairs(peer.embedder, faces, pairs)
        print(
            f"| {peer.name} | {peer.licence} | {parameters:,} | {work / 1e6:.0f} M | {len(peer.file) / 1e6:.2f} | "
            f"{100 * found.accuracy:.2f} ± {100 * found.accuracy_se:.2f} % | {100 * found.tar['1e-3']:.1f} % | "
            f"{ms:.2f} | {fastest[networks.index(y1)] / ms:.2f} |"
        )
    for peer, (_, _, resampling) in zip(networks, sizes, strict=True):
        if resampling:
            print(f"\n{peer.name}: {resampling / 1e6:.1f} M more multiply-adds resample the crop.")


if __name__ == "__main__":
    main()
