"""Synthetic people: faces painted from numbers, with exact landmarks, boxes and names.

They need no download and no consent, and they are nobody: for demonstrations, tests and smoke training.
A network trained on them knows drawings, not people.
"""

from edgeface.data.synthetic.crops import aligned_crop, crops
from edgeface.data.synthetic.identity import Identity, nth_identity, sample_identity
from edgeface.data.synthetic.nuisance import Nuisance, sample_nuisance
from edgeface.data.synthetic.rendering import RenderedFace, render_face
from edgeface.data.synthetic.scenes import Scene, SceneFace, scene
from edgeface.data.synthetic.sensor import photograph
from edgeface.data.synthetic.streams import Stream, StreamFace, StreamFrame, Visit, demo_plan

__all__ = [
    "Identity",
    "Nuisance",
    "RenderedFace",
    "Scene",
    "SceneFace",
    "Stream",
    "StreamFace",
    "StreamFrame",
    "Visit",
    "aligned_crop",
    "crops",
    "demo_plan",
    "nth_identity",
    "photograph",
    "render_face",
    "sample_identity",
    "sample_nuisance",
    "scene",
]
