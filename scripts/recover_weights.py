"""Make a checkpoint of the network in a bundle, so that a run can go on with it: `model.start = OUT`.

    scripts/recover_weights.py runtime/bundles/default-edge OUT --model resnet-edge-deep --data faces/ \
        --teacher teacher.npz [--transform transform.npz]

An int8 file holds each weight as a whole number and a scale, which is near enough to train on, and no batch norms: they
are part of the convolutions. They are put back as what they do on these faces, so that the network answers the same.
The linear map at the end is new: the one that comes nearest to what the teacher says, by least squares.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from edgeface import __version__
from edgeface.data import open_faces
from edgeface.data.teacher import read_targets
from edgeface.models import build_model
from edgeface.training.checkpoint import CheckpointInfo, save_checkpoint
from edgeface.training.config import TrainConfig

BATCH = 64


def stored_layers(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight and bias of each convolution of an int8 network, in the order of the graph, as float32."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            whole, scale = stored[node.input[0]].astype(np.float32), stored[node.input[1]].astype(np.float32)
            values[node.output[0]] = whole * scale.reshape(-1, *[1] * (whole.ndim - 1))
    return [(values[n.input[1]], values[n.input[2]]) for n in graph.node if n.op_type == "Conv"]


def pairs_of(model: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return convolutions with the norms behind them, in the order in which the network computes them."""
    pairs = [(model.stem[0], model.stem[1])]
    for stage in model.stages:
        for block in stage:
            pairs += [(block.conv1, block.norm1), (block.conv2, block.norm2)]
            if not isinstance(block.shortcut, nn.Identity):
                pairs.append((block.shortcut[0], block.shortcut[1]))
    return pairs


def batches(faces, places):
    for start in range(0, len(places), BATCH):
        pictures = torch.from_numpy(faces.read_many(places[start : start + BATCH]))
        yield ((pictures.float() - 127.5) / 127.5).permute(0, 3, 1, 2).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--transform", type=Path)
    parser.add_argument("--faces", type=int, default=12000)
    args = parser.parse_args()
    faces = open_faces(args.data)
    faces = faces.split("train") if faces.splits else faces
    targets = read_targets(args.teacher, faces, args.transform)
    model = build_model(args.model, targets.shape[1]).eval()
    places = np.random.default_rng(0).permutation(np.flatnonzero(targets.any(axis=1)))[: args.faces].tolist()
    with torch.no_grad():
        for (conv, norm), (weight, bias) in zip(
            pairs_of(model), stored_layers(args.bundle / "embedder.int8.onnx"), strict=True
        ):
            conv.weight.copy_(torch.from_numpy(weight))
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.copy_(torch.from_numpy(bias))
        # What each norm sees on real faces; with it the norm does the same in training and afterwards.
        seen: dict[nn.Module, list[torch.Tensor]] = {norm: [] for _, norm in pairs_of(model)}
        hooks = [
            norm.register_forward_pre_hook(
                lambda module, x: seen[module].append(torch.stack([x[0].mean((0, 2, 3)), (x[0] ** 2).mean((0, 2, 3))]))
            )
            for norm in seen
        ]
        features = [model.stages(model.stem(batch)).flatten(1) for batch in batches(faces, places)]
        for hook in hooks:
            hook.remove()
        for norm, moments in seen.items():
            mean, square = torch.stack(moments).mean(0)
            spread = (square - mean**2).clamp_min(1e-6)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(spread)
            norm.weight.copy_((spread + norm.eps).sqrt())
            norm.bias.add_(mean)
        x = torch.cat(features).double()
        y = torch.from_numpy(targets[places]).double()
        held = len(x) // 10
        centre = x[held:].mean(0)
        inner = (x[held:] - centre).T @ (x[held:] - centre)
        inner += torch.eye(len(inner)).double() * inner.diagonal().mean() * 0.3
        linear = torch.linalg.solve(inner, (x[held:] - centre).T @ (y[held:] - y[held:].mean(0)))
        answer = (x - centre) @ linear + y[held:].mean(0)
        near = nn.functional.cosine_similarity(answer[:held], y[:held]).mean()
        print(f"mean cosine to the teacher on {held} faces left out of the fit: {near:.4f}")
        head, norm = model.head[1], model.head[2]
        head.weight.copy_(linear.T)
        raw = x @ linear
        norm.running_mean.copy_(raw.mean(0))
        norm.running_var.copy_(raw.var(0))
        norm.weight.copy_((raw.var(0) + norm.eps).sqrt())
        norm.bias.copy_(raw.mean(0) - centre @ linear + y[held:].mean(0))
        check = nn.functional.cosine_similarity(model(next(batches(faces, places[:BATCH]))), answer[:BATCH].float())
        print(f"smallest cosine of the network to the fit: {check.min():.6f}")
    config = TrainConfig.from_dict({"model": {"name": args.model, "embedding_size": targets.shape[1]}}).to_dict()
    info = CheckpointInfo(
        args.model,
        targets.shape[1],
        0,
        len(faces),
        "arcface",
        str(args.data),
        0,
        0,
        0.0,
        None,
        None,
        config,
        __version__,
    )
    save_checkpoint(args.out, info, model, {})


if __name__ == "__main__":
    main()
