"""The end of every bundle: score tables and thresholds, model card, report, and the list of files with their hashes."""

from collections.abc import Mapping, Sequence
from typing import Final

from edgeface.export.card import CARD_NAME, REPORT_NAME, model_card
from edgeface.export.report.page import bundle_report
from edgeface.export.thresholds import Scored, choose_thresholds
from edgeface.files import sha256
from edgeface.manifest import SCHEMA_VERSION, FileEntry, Manifest
from edgeface.scores import SCORES_NAME, write_scores

WRITTEN_LAST: Final = (CARD_NAME, REPORT_NAME)
"""Files that tell about the others, so they are made from a manifest that lists those."""


def list_files(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Return the size and hash of files, by name."""
    return {name: FileEntry(sha256=sha256(data), bytes=len(data)) for name, data in files.items()}


def assemble(manifest: Manifest, scored: Scored | None, rates: Sequence[float]) -> tuple[Manifest, dict[str, bytes]]:
    """Complete a bundle whose networks are in its manifest; the same facts give the same bytes.

    Args:
        manifest: with its networks listed. What it says of thresholds gives way to what was scored.
        scored: labelled faces to choose thresholds on; without them it has the thresholds that `manifest` has.
        rates: false match rates to choose them for.

    Returns:
        The manifest of the bundle, and the files that this adds or replaces: `MODEL_CARD.md`, `report.html` and, with
        scores, `scores.json`.
    """
    files: dict[str, bytes] = {}
    if scored is not None:
        files[SCORES_NAME] = write_scores(scored.tables)
        manifest = manifest.model_copy(
            update={
                "schema_version": SCHEMA_VERSION,
                "thresholds": choose_thresholds(scored, rates),
                "threshold_data": scored.data,
                "scores": SCORES_NAME,
                "door": None,  # it was measured at other thresholds
                "files": manifest.files | list_files(files),
            }
        )
    listed = {name: entry for name, entry in manifest.files.items() if name not in WRITTEN_LAST}
    manifest = manifest.model_copy(update={"files": listed})
    last = {CARD_NAME: model_card(manifest).encode(), REPORT_NAME: bundle_report(manifest, scored).encode()}
    return manifest.model_copy(update={"files": listed | list_files(last)}), files | last
