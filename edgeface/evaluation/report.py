"""The folder of an evaluation: one HTML file to read, the pictures in it as PNG, the numbers as JSON and CSV."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeface import __version__
from edgeface.errors import ConfigError
from edgeface.evaluation import markup, summary
from edgeface.evaluation.assessment import Assessment
from edgeface.evaluation.comparison import ComparisonReport, flips_csv
from edgeface.evaluation.identification import IdentificationReport
from edgeface.evaluation.plots import Reports, cmc_picture, det_picture, roc_picture, score_picture
from edgeface.evaluation.sheets import FacePair, picture_sheet
from edgeface.files import PRIVATE, make_private_folder, write_bytes, write_text

WORST: Final = 16
"""Mistakes of each kind that are shown."""

SOMETIMES: Final = ("cmc.png", "strangers.png", "false_matches.png", "false_non_matches.png", "flipped.csv")
"""Files that not every report has; those of an earlier one are removed."""

FLIPS_SHOWN: Final = 20
"""Flipped decisions that the HTML lists; the CSV file has all."""


def make_folder(out: Path) -> None:
    """Make the folder of a report, so that one that cannot be made is known before anything is measured.

    Raises:
        ConfigError: it is a file, or cannot be made.
    """
    try:
        make_private_folder(out)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}; give --out a folder to write to") from error


def write_report(out: Path, assessment: Assessment, facts: Mapping[str, Any]) -> list[Path]:
    """Write `report.html`, `results.json`, PNG pictures and, with another model, `flipped.csv`.

    Files of these names are replaced, one by one and each atomically; other files stay. They show faces and who they
    are, so they are for their owner only.

    Args:
        out: the folder, from `make_folder`.
        assessment: what was measured.
        facts: the same as plain values, for the JSON file.

    Returns:
        The files, in the order in which they were written.

    Raises:
        ConfigError: it cannot be written to.
        ImageError, DataError: a face of a mistake cannot be read.
    """
    pictures = _pictures(assessment)
    texts = {
        "report.html": _page(assessment, pictures),
        "results.json": json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    if assessment.comparison:
        texts["flipped.csv"] = flips_csv(assessment.comparison.flips)
    try:
        for name, picture in pictures.items():
            write_bytes(out / name, picture, mode=PRIVATE)
        for name, text in texts.items():
            write_text(out / name, text, mode=PRIVATE)
        for name in SOMETIMES:
            if name not in pictures and name not in texts:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}; give --out a folder to write to") from error
    return [out / name for name in (*texts, *pictures)]


def _pictures(assessment: Assessment) -> dict[str, bytes]:
    reports = _named_reports(assessment)
    pictures = {
        "det.png": det_picture(reports),
        "roc.png": roc_picture(reports),
        "scores.png": score_picture(reports, assessment.point.threshold),
    }
    if found := assessment.identification:
        pictures["cmc.png"] = cmc_picture(found)
        if found.nearest:
            rows = [(nearest.probe, nearest.enrolled, nearest.score) for nearest in found.nearest]
            pictures["strangers.png"] = _sheet(assessment, rows)
    pairs = assessment.plan.pairs
    for name, same in (("false_matches.png", False), ("false_non_matches.png", True)):
        wrong = assessment.mistakes(same)[:WORST]
        if len(wrong):
            sides = [(int(pairs.first[pair]), int(pairs.second[pair])) for pair in wrong]
            scores = assessment.report.scores[wrong].tolist()
            pictures[name] = _sheet(assessment, [(*side, score) for side, score in zip(sides, scores, strict=True)])
    return pictures


def _named_reports(assessment: Assessment) -> Reports:
    """Name models in legends by what tells them apart: the file, the precision or the provider."""
    other = assessment.comparison
    if other is None:
        return {_plain(Path(assessment.model).name): assessment.report}
    facts = [
        (Path(assessment.model).name, assessment.precision, assessment.provider),
        (Path(other.name).name, other.precision, other.provider),
    ]
    telling = [model != against for model, against in zip(*facts, strict=True)]
    names = [" ".join(fact for fact, tells in zip(side, telling, strict=True) if tells) for side in facts]
    if not any(telling):
        names = ["the model", "the other"]
    return dict(zip(map(_plain, names), (assessment.report, other.report), strict=True))


def _plain(name: str) -> str:
    """Keep matplotlib from reading a name as a formula, or as one that the legend hides."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def _sheet(assessment: Assessment, rows: Sequence[tuple[int, int, float]]) -> bytes:
    """Draw pairs of items, given by their indices, with their scores."""
    items = assessment.plan.items

    def face(item: int) -> npt.NDArray[np.uint8]:
        return items.faces.read(int(items.shown[item]))

    return picture_sheet([FacePair(face(a), face(b), score, (items.names[a], items.names[b])) for a, b, score in rows])


def _page(assessment: Assessment, pictures: Mapping[str, bytes]) -> str:
    parts = [
        *_in_short(assessment),
        markup.heading("Verification: are two faces one person?"),
        markup.table(summary.HEADER, summary.verification_rows(assessment)),
        *map(markup.note, summary.verification_notes(assessment)),
        markup.picture(pictures["det.png"], "Detection error tradeoff"),
        markup.note(
            "False matches against false non-matches as the threshold moves, on normal-deviate axes; lower and further "
            "left is better. The curve ends where the pairs end."
        ),
        markup.picture(pictures["roc.png"], "Receiver operating characteristic"),
        markup.picture(pictures["scores.png"], "Histogram of the scores of both kinds of pairs"),
    ]
    if assessment.identification:
        parts += _identification(assessment, assessment.identification, pictures)
    if assessment.groups:
        parts += [
            markup.heading("Groups and conditions"),
            markup.table(summary.GROUP_HEADER, summary.group_rows(assessment.groups)),
            *map(markup.note, summary.group_notes(assessment)),
        ]
    if assessment.comparison:
        parts += _comparison(assessment, assessment.comparison)
    parts.append(markup.heading("Where it fails"))
    for same in (False, True):
        parts += _mistakes(assessment, same, pictures)
    parts.append(markup.note(f"Written by edgeface {__version__}. Numbers of this page: results.json beside it."))
    return markup.page(f"Evaluation of {Path(assessment.model).name}", parts)


def _in_short(assessment: Assessment) -> list[str]:
    report, point, fnmr = assessment.report, assessment.point, assessment.fnmr
    recognised = (1 - fnmr.interval[1], 1 - fnmr.interval[0])
    return [
        markup.paragraph(
            f"{assessment.model} ({assessment.precision} on {assessment.provider}) was shown {report.pairs:,} pairs of "
            f"{assessment.plan.items.kind} from {assessment.plan.items.faces.name} ({assessment.plan.protocol}): "
            f"{int(report.same.sum()):,} of one person, {point.pairs:,} of two people."
        ),
        markup.paragraph(
            f"The threshold of {point.threshold:.3f} was chosen on them so that one pair of two people in "
            f"{1 / point.fmr:,.0f} is taken for one person. The pairs allow a true rate of "
            f"{summary.percent_interval(assessment.fmr.interval)} (95 % confidence). Of the pairs of one person "
            f"{1 - fnmr.value:.2%} are recognised there ({summary.percent_interval(recognised)})."
        ),
        markup.note(
            "This holds for people, cameras and light like those of these pictures. Other groups, ages and cameras "
            "must be measured on their own."
        ),
    ]


def _identification(assessment: Assessment, found: IdentificationReport, pictures: Mapping[str, bytes]) -> list[str]:
    parts = [
        markup.heading("Identification: who is it, among many?"),
        markup.table(summary.HEADER, summary.identification_rows(found)),
        *map(markup.note, summary.identification_notes(found)),
        markup.note(
            "FPIR is the share of strangers who are taken for somebody; FNIR the share of enrolled people who are not "
            "found in the first place at that threshold."
        ),
        markup.picture(pictures["cmc.png"], "Cumulative match characteristic"),
    ]
    if found.nearest:
        names = assessment.plan.items.names
        rows = [[f"{n.score:.4f}", names[n.probe], names[n.enrolled]] for n in found.nearest]
        parts += [
            markup.paragraph(
                "The strangers who are most like somebody in the gallery. If they look like one person, the data may "
                "have that person under two names; such mistakes of the labels spoil FNIR at a small FPIR."
            ),
            markup.picture(pictures["strangers.png"], "Strangers and whom they are most like"),
            markup.table(("score", "stranger", "in the gallery"), rows),
        ]
    return parts


def _mistakes(assessment: Assessment, same: bool, pictures: Mapping[str, bytes]) -> list[str]:
    wrong = assessment.mistakes(same)
    words = "false non-matches: one person, refused" if same else "false matches: two people, taken for one"
    if not len(wrong):
        return [markup.paragraph(f"No {words}.")]
    picture = pictures["false_non_matches.png" if same else "false_matches.png"]
    rows = [[f"{assessment.report.scores[p]:.4f}", *assessment.names(int(p))] for p in wrong[:WORST]]
    shown = f"; the worst {WORST}" if len(wrong) > WORST else ""
    return [
        markup.paragraph(f"{len(wrong)} {words}{shown}."),
        markup.picture(picture, words),
        markup.table(("score", "first", "second"), rows),
    ]


def _comparison(assessment: Assessment, comparison: ComparisonReport) -> list[str]:
    parts = [
        markup.heading("Against the other model"),
        markup.table(summary.COMPARISON_HEADER, summary.comparison_rows(assessment, comparison)),
        *map(markup.note, summary.comparison_notes(assessment, comparison)),
    ]
    rows = [
        [
            flip.first,
            flip.second,
            "one person" if flip.same else "two people",
            f"{flip.score:.4f}",
            f"{flip.against_score:.4f}",
            "the model" if flip.mended else "the other",
        ]
        for flip in comparison.flips[:FLIPS_SHOWN]
    ]
    if rows:
        parts.append(markup.table(("first", "second", "truth", "model", "other", "right is"), rows))
    if len(comparison.flips) > FLIPS_SHOWN:
        parts.append(markup.note(f"{FLIPS_SHOWN} of {len(comparison.flips)} flips; flipped.csv has all."))
    return parts
