"""The conditions of a door as a table, a picture and a page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeface.errors import ConfigError
from edgeface.evaluation import markup
from edgeface.evaluation.conditions import ConditionReport, Rates
from edgeface.evaluation.plots import png
from edgeface.files import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER: Final = ("condition", "refused", "no template", "both: TAR %", "both: FMR %", "probe: TAR %", "probe: FMR %")

_LEAST: Final = 1e-5
"""Where the axis of the picture ends; rates of 0 are drawn there."""


def condition_rows(report: ConditionReport) -> list[list[str]]:
    """Return the table of a report."""
    return [
        [row.title, f"{row.refused:.1%}", f"{row.no_template:.1%}", *_shown(row.both), *_shown(row.probe)]
        for row in report.rows
    ]


def condition_note(report: ConditionReport, name: str, precision: str) -> str:
    """Say what the figures of a report are."""
    promised = "as given" if report.fmr is None else f"which promises a false match rate of {report.fmr:g}"
    gate = (
        "Faces that the gate refuses are not compared; rates are of the others, and templates under `probe` are the "
        "ones that it lets become templates."
        if report.gated
        else "The bundle has no quality network, so no face is refused."
    )
    return (
        f"{report.people} people with two pictures each, everybody compared with everybody, {name} {precision} at the "
        f"threshold {report.threshold:.4f}, {promised}. `both`: template and probe under the condition, `probe`: the "
        f"probe alone. {gate} In brackets 95 % intervals, people drawn again."
    )


def write_conditions(
    out: Path, report: ConditionReport, name: str, precision: str, facts: Mapping[str, Any]
) -> list[Path]:
    """Write `report.html`, `conditions.png`, `conditions.csv` and `results.json` into a folder; each atomically.

    Raises:
        ConfigError: it cannot be written to.
    """
    title = f"{name} {precision} at a door"
    picture = conditions_picture(report)
    words = "False match rate of each condition on a logarithmic axis, beside the one that is promised."
    parts = [
        markup.paragraph(condition_note(report, name, precision)),
        markup.picture(picture, words),
        markup.table(HEADER, condition_rows(report)),
    ]
    files = {
        "report.html": markup.page(title, parts),
        "conditions.csv": report.to_csv(),
        "results.json": json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    try:
        for file, text in files.items():
            write_text(out / file, text)
        write_bytes(out / "conditions.png", picture)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}; give --out a folder to write to") from error
    return [out / file for file in (*files, "conditions.png")]


def conditions_picture(report: ConditionReport) -> bytes:
    """Draw the false match rates with both sides under each condition, and the true ones beside them; returns a PNG."""

    def draw(figure: "Figure") -> None:
        false, true = figure.subplots(1, 2, sharey=True)
        places = range(len(report.rows))
        for place, row in zip(places, report.rows, strict=True):
            if row.both.fmr is not None:
                low, high = row.both.fmr_interval or (row.both.fmr, row.both.fmr)
                false.plot([max(low, _LEAST), max(high, _LEAST)], [place, place], color="tab:blue", linewidth=1)
                false.plot(max(row.both.fmr, _LEAST), place, "o", color="tab:blue", markersize=4)
            for rates, mark in ((row.both, "o"), (row.probe, "x")):
                if rates.tar is not None:
                    true.plot(
                        100 * rates.tar, place, mark, color="tab:orange" if mark == "x" else "tab:blue", markersize=4
                    )
        if report.fmr is not None:
            false.axvline(report.fmr, color="black", linewidth=1, linestyle="--")
        false.set(xscale="log", xlim=(_LEAST / 1.3, 1), xlabel="false match rate, both sides (dashed: promised)")
        false.set_yticks(list(places), [row.title for row in report.rows])
        false.invert_yaxis()
        true.set(xlim=(-2, 102), xlabel="true accept rate in % (o both sides, x the probe alone)")

    return png(draw, (11, 1.2 + 0.26 * max(len(report.rows), 3)))


def _shown(rates: Rates) -> tuple[str, str]:
    return _said(rates.tar, rates.tar_interval, 1), _said(rates.fmr, rates.fmr_interval, 3)


def _said(rate: float | None, interval: tuple[float, float] | None, digits: int) -> str:
    if rate is None:
        return "-"
    around = "" if interval is None else f" [{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"
    return f"{100 * rate:.{digits}f}{around}"
