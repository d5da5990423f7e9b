"""Parts of the manifest that follow from one thing each."""

import platform
from importlib import metadata
from typing import Final

from edgeface.evaluation.verification import VerificationReport
from edgeface.manifest import Accuracy, DetectorEntry, QualityEntry
from edgeface.runtime.deciding.fitness import open_fitness_network
from edgeface.runtime.detection.detector import YuNetDetector, open_detector

_TOOLS: Final = ("edgeface", "torch", "onnx", "onnxscript", "onnxruntime")


def accuracy_entry(report: VerificationReport, protocol: str) -> Accuracy:
    """Write down what a network scored; `protocol` says on which pairs."""
    return Accuracy(
        protocol=protocol,
        pairs=report.pairs,
        accuracy=report.accuracy,
        accuracy_se=report.accuracy_se,
        eer=report.eer,
        tar=report.tar,
        scoring=report.scoring,
    )


def detector_entry(detector: bytes | None) -> DetectorEntry | None:
    """Open a face detector (ONNX) and write down its format; None for none."""
    if detector is None:
        return None
    opened = open_detector(detector, provider="cpu")
    kind = "yunet" if isinstance(opened, YuNetDetector) else "detector/1"
    return DetectorEntry(file="detector.onnx", format=kind, min_score=opened.settings.min_score)


def quality_entry(network: bytes | None) -> QualityEntry | None:
    """Open a quality network (ONNX) and write down what it advises; None for none."""
    if network is None:
        return None
    limits = open_fitness_network(network, provider="cpu").limits
    return QualityEntry(file="quality.onnx", min_fitness=limits.compare, enrol_fitness=limits.enrol)


def tool_versions() -> dict[str, str]:
    """Say with which versions, and on what machine, a bundle is made."""
    return {name: _version(name) for name in _TOOLS} | {"machine": platform.machine()}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
