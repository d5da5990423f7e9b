"""What is compared: single faces, or templates of several."""

import unicodedata
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.data.pairs import Indices
from edgeface.errors import DataError
from edgeface.evaluation.verification import BATCH, FaceEmbedder, Progress, embed_faces
from edgeface.runtime.deciding.gate import FitnessJudge, fitness_scores


@dataclass(frozen=True, slots=True)
class Membership:
    """Which faces belong to which template, M of them.

    Attributes:
        template: (M,) int64, rising.
        face: (M,) int64, index into the set.
        medium: (M,) int64: faces with the same number are frames of one video, or crops of one photograph, and
            belong to one template.
    """

    template: Indices
    face: Indices
    medium: Indices


@dataclass(frozen=True, slots=True)
class Items:
    """N things that can be compared with each other.

    Attributes:
        faces: where the pictures are.
        names: N keys of faces, or names of templates.
        labels: (N,) int64, who each is; `UNKNOWN` where that is not known.
        shown: (N,) int64, the face that stands for each in pictures.
        membership: of templates; None where each item is the face with its own index.
    """

    faces: FaceSet
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    shown: Indices
    membership: Membership | None = None

    @property
    def kind(self) -> str:
        """What the items are, in the plural."""
        return "faces" if self.membership is None else "templates"

    def members(self, indices: Indices) -> Indices:
        """Return the faces of which items consist, sorted and each once."""
        if self.membership is None:
            return np.unique(indices)
        return np.unique(self.membership.face[np.isin(self.membership.template, indices)])

    def without(self, faces: Indices) -> tuple["Items", Indices]:
        """Return the same items without some faces, and the indices of those of which nothing is left."""
        if self.membership is None:
            return self, faces
        member = self.membership
        kept = ~np.isin(member.face, faces)
        left = Membership(member.template[kept], member.face[kept], member.medium[kept])
        shown = self.shown.copy()
        for template in np.unique(left.template):
            if shown[template] in faces:
                shown[template] = left.face[left.template == template][0]
        return replace(self, membership=left, shown=shown), np.setdiff1d(member.template, left.template)

    def places(self) -> dict[str, int]:
        """Map each name to its index; for faces also the last part of the key, where only one key ends so."""
        names = [unicodedata.normalize("NFC", name) for name in self.names]
        whole = {name: index for index, name in enumerate(names)}
        if self.membership is not None:
            return whole
        ends: dict[str, int] = {}
        repeated = set[str]()
        for index, name in enumerate(names):
            end = name.rpartition("/")[2]
            if end in ends:
                repeated.add(end)
            ends[end] = index
        return {end: index for end, index in ends.items() if end not in repeated} | whole

    def fitness(self, judge: FitnessJudge, indices: Indices) -> npt.NDArray[np.float32]:
        """Judge the items with the given indices, sorted and each once; returns (len(indices),) float32 in [0, 1].

        That of a template is the mean of its faces'.

        Raises:
            DataError: a picture cannot be read.
        """
        used = self.members(indices)
        starts = range(0, len(used), BATCH)
        single = np.concatenate([fitness_scores(judge, self.faces.read_many(used[at : at + BATCH])) for at in starts])
        if self.membership is None:
            return single
        chosen = np.isin(self.membership.template, indices)
        template = np.searchsorted(indices, self.membership.template[chosen])
        place = np.searchsorted(used, self.membership.face[chosen])
        return _mean(single[place][:, None], template, len(indices))[:, 0]

    def embed(
        self, embedder: FaceEmbedder, indices: Indices, progress: Progress | None = None
    ) -> npt.NDArray[np.float32]:
        """Embed the items with the given indices, sorted and each once; returns (len(indices), D) float32, unit.

        A template is the mean of the unit embeddings of its media, each medium the mean of those of its faces, so
        that a long video does not outweigh a photograph (IJB-B: Whitelam et al., CVPRW 2017; IJB-C: Maze et al., ICB
        2018).

        Raises:
            DataError: a picture cannot be read, an embedding is zero or not finite, or the faces of a template cancel.
        """
        if self.membership is None:
            return _unit(embed_faces(embedder, self.faces, indices, progress), [self.names[i] for i in indices])
        chosen = np.isin(self.membership.template, indices)
        template = np.searchsorted(indices, self.membership.template[chosen])
        used, place = np.unique(self.membership.face[chosen], return_inverse=True)
        single = _unit(embed_faces(embedder, self.faces, used, progress), [self.faces.samples[i].key for i in used])
        media, medium = np.unique(self.membership.medium[chosen], return_inverse=True)
        template_of_medium = np.zeros(len(media), np.int64)
        template_of_medium[medium] = template
        pooled = _mean(_mean(single[place], medium, len(media)), template_of_medium, len(indices))
        return _unit(pooled, [self.names[i] for i in indices])


def face_items(faces: FaceSet) -> Items:
    """Make an item of each face."""
    names = tuple(sample.key for sample in faces.samples)
    return Items(faces, names, faces.labels, np.arange(len(faces)))


def common_label(labels: npt.NDArray[np.int64]) -> int:
    """Return the label that all faces have, `UNKNOWN` if they have different ones."""
    return int(labels[0]) if np.all(labels == labels[0]) else UNKNOWN


def _mean(rows: npt.NDArray[np.float32], group: npt.NDArray[np.integer], groups: int) -> npt.NDArray[np.float32]:
    """Return the mean of the rows of each group, (groups, D)."""
    sums = np.zeros((groups, rows.shape[1]), np.float64)
    np.add.at(sums, group, rows)
    means: npt.NDArray[np.float32] = (sums / np.bincount(group, minlength=groups)[:, None]).astype(np.float32)
    return means


def _unit(rows: npt.NDArray[np.float32], names: list[str]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms < 1e-6))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(rows)} embeddings are zero or not finite, so they have no direction; the first is "
            f"that of {names[bad[0]]}; is the network broken, or its preprocessing another?"
        )
    unit: npt.NDArray[np.float32] = rows / norms[:, None].astype(np.float32)
    return unit
