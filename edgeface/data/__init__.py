"""Faces to train, calibrate and measure on."""

from edgeface.data.bin import open_bin
from edgeface.data.catalog import open_faces
from edgeface.data.faceset import UNKNOWN, FaceSet, InMemoryFaces, Sample, Skipped, StoredFaces
from edgeface.data.pairs import Pairs, make_pairs, read_lfw_pairs

__all__ = [
    "UNKNOWN",
    "FaceSet",
    "InMemoryFaces",
    "Pairs",
    "Sample",
    "Skipped",
    "StoredFaces",
    "make_pairs",
    "open_bin",
    "open_faces",
    "read_lfw_pairs",
]
