"""The pieces of work that a comparison is made of; each depends on its configuration and the people only."""

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from edgeface.comparison.angles import centre_angles, histogram
from edgeface.comparison.circles import embedded_in_two
from edgeface.comparison.contenders import Contender
from edgeface.comparison.cost import Cost, step_cost
from edgeface.comparison.people import People
from edgeface.data import FaceSet
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.evaluation.verification import embed_faces, score_embeddings
from edgeface.training.checkpoint import load_backbone
from edgeface.training.config import TrainConfig
from edgeface.training.device import pick_device
from edgeface.training.loop import train

RESULT_VERSION: Final = 1
"""To be raised when a job comes to mean something else, so that old results are not taken for new ones."""

Kind = Literal["run", "circle", "cost"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a trained network scored on people never trained on.

    Attributes:
        accuracy: ten-fold, in [0, 1].
        eer: equal error rate, in [0, 1].
        tar: true accept rate at each false accept rate that the pairs support.
        own_deg: faces by the angle to their own centre, as `edgeface.comparison.angles.histogram`.
        other_deg: the same to the nearest other centre.
        steps: of training.
        seconds: of training, beside whatever else ran.
    """

    accuracy: float
    eer: float
    tar: dict[str, float]
    own_deg: list[int]
    other_deg: list[int]
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Circle:
    """Where `edgeface.comparison.circles` puts the faces that it trains on.

    Attributes:
        angles_deg: of each face.
        labels: the person of each, from 0.
    """

    angles_deg: list[float]
    labels: list[int]


Value = Measurement | Circle | Cost
VALUES: Final[dict[Kind, type[Value]]] = {"run": Measurement, "circle": Circle, "cost": Cost}
"""What each kind of job brings."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work.

    Attributes:
        kind: what to do.
        label: of the contender.
        config: of the run.
    """

    kind: Kind
    label: str
    config: TrainConfig

    def key(self, fingerprint: str) -> str:
        """Return a name of the result on people of that fingerprint, the same if and only if all that decides it is."""
        decides = [RESULT_VERSION, self.kind, self.config.to_dict(), fingerprint]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:24]

    def work(self, people: People) -> Value:
        """Do it.

        Raises:
            EdgefaceError: the configuration does not fit the people, or the training diverges.
        """
        if self.kind == "cost":
            return step_cost(self.config, people)
        if self.kind == "circle":
            return _circle(self.config, people.training)
        return _measure(self.config, people)


def job(kind: Kind, contender: Contender, overrides: tuple[str, ...], seed: int) -> Job:
    """Return a job of a contender; raises as `Contender.config`."""
    config = contender.config(overrides, seed)
    # The last weights are measured, none is chosen by its score: nothing is validated on the way.
    quiet = replace(config.run, val_pairs=0, eval_epochs=config.run.epochs, checkpoint_epochs=config.run.epochs)
    return Job(kind, contender.label, replace(config, data=replace(config.data, val_identities=0.0), run=quiet))


def _measure(config: TrainConfig, people: People) -> Measurement:
    with tempfile.TemporaryDirectory() as folder:
        info = train(config, Path(folder) / "run", faces=people.training)
        backbone, _ = load_backbone(Path(folder) / "run")
    device = pick_device(config.run.device)
    used = people.pairs.used
    embeddings = embed_faces(BackboneEmbedder(backbone.to(device), device), people.test, used)
    report = score_embeddings(embeddings, used, people.pairs)
    own, other = centre_angles(embeddings, people.test.labels[used])
    return Measurement(
        report.accuracy, report.eer, report.tar, histogram(own), histogram(other), info.step, info.seconds
    )


def _circle(config: TrainConfig, faces: FaceSet) -> Circle:
    embeddings, labels = embedded_in_two(config, faces)
    angles = np.degrees(np.arctan2(embeddings[:, 1], embeddings[:, 0]))
    return Circle([round(float(angle), 2) for angle in angles], labels.tolist())
