"""What each loss makes of a few people in two dimensions, where it can be seen.

Every loss goes on from the same network, which triplets have taught to tell the people apart, and a head over classes
first learns its directions for that network. From random weights, ArcFace (150 to 600 steps), CosFace and the softmax
over cosines (150) left several of eight people on one spot, semi-hard triplets (300) hardly any; hence this start. Why
was not looked into. It makes the panels pictures of what a loss does to a given arrangement, not of what it finds.
"""

from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeface.data import FaceSet
from edgeface.data.samplers import PKBatches
from edgeface.errors import TrainingError
from edgeface.evaluation.backbone import BackboneEmbedder, to_input
from edgeface.evaluation.verification import embed_faces
from edgeface.losses import Head, build_loss
from edgeface.models import build_model
from edgeface.training.config import TrainConfig
from edgeface.training.device import pick_device

PEOPLE: Final = 8
FACES_PER_IDENTITY: Final = 2
"""Of every person, in every batch, for every loss."""
FIRST_STEPS: Final = 250
HEAD_STEPS: Final = 200
STEPS: Final = 100
"""With triplets, of the head alone, and with the loss."""


def embedded_in_two(config: TrainConfig, faces: FaceSet) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Train on the people with the most faces, with two numbers for an embedding, and embed the same faces.

    Returns:
        (N, 2) float32 of unit length, and the people as (N,) int64 from 0.

    Raises:
        TrainingError: an embedding is not finite.
    """
    chosen = np.argsort(-np.bincount(faces.labels), kind="stable")[:PEOPLE]
    few = faces.select(np.flatnonzero(np.isin(faces.labels, chosen)).tolist())
    people = len(few.identities)
    device = pick_device(config.run.device)
    pictures, labels = torch.from_numpy(few.read_many(range(len(few)))), torch.from_numpy(few.labels).to(device)
    torch.manual_seed(config.run.seed)
    backbone = build_model(config.model.name, 2).to(device)
    triplets = build_loss("triplet", people, 2).to(device)
    options = config.loss.given()
    options.pop("sample_rate", None)  # of so few people, all
    head = build_loss(config.loss.name, people, 2, **options).to(device)
    order = PKBatches(
        few.labels,
        FACES_PER_IDENTITY * people,
        FIRST_STEPS + STEPS,  # epochs, so there are more batches than are asked for
        config.run.seed,
        faces_per_identity=FACES_PER_IDENTITY,
    )
    batches = ([index for _, index in places] for places in order)
    lr = config.optimizer.lr

    def learn(loss: Head, steps: int) -> None:
        backbone.train()
        optimizer = torch.optim.AdamW([*backbone.parameters(), *loss.parameters()], lr=lr)
        for chosen in islice(batches, steps):
            _step(optimizer, loss(backbone(to_input(pictures[chosen], device)), labels[chosen]))

    learn(triplets, FIRST_STEPS)
    if list(head.parameters()):
        with torch.no_grad():
            fixed = backbone.eval()(to_input(pictures, device))
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
        for _ in range(HEAD_STEPS):
            _step(optimizer, head(fixed, labels))
    learn(head, STEPS)
    embeddings = embed_faces(BackboneEmbedder(backbone, device), few, np.arange(len(few)))
    if not np.isfinite(embeddings).all():
        raise TrainingError("the embeddings of two numbers are not finite; lower optimizer.lr")
    return embeddings, few.labels


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
