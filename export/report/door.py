"""The section of a bundle's report that tells what happens in poor light, in motion, behind a mask."""

import math
import re
from typing import Final

from edgeface.door import DoorRates, DoorRow
from edgeface.evaluation import markup
from edgeface.export.report.svg import segment, text
from edgeface.export.report.wording import count, interval, one_in, percentage, unbroken

HEADER: Final = ("condition", "refused", "strangers let in", "recognised, both pictures", "recognised, good template")

TITLE: Final = "At a door"

_SECTION: Final = re.compile(re.escape(markup.heading(TITLE)) + r".*?(?=<h2>)", re.S)
_LEFT, _RIGHT, _TOP, _STEP, _WIDTH = 250, 15, 24, 19, 680
_LEAST: Final = 1e-5
"""Where the axis begins; no false match at all is drawn there."""


def door_section(rates: DoorRates | None) -> list[str]:
    """Say what happens under each condition, with a picture; or that it was not measured."""
    if rates is not None:
        return [markup.heading(TITLE), *_told(rates)]
    return [
        markup.heading(TITLE),
        markup.paragraph(
            "Not measured. Faces at a door are dark, moving, small or covered, and two such faces resemble each "
            "other. `edgeface eval BUNDLE --data FOLDER --conditions all --out door` measures it."
        ),
    ]


def restate_door(report: str, rates: DoorRates | None) -> str:
    """Return a report with another section of this kind; one without any stays as it is."""
    section = unbroken("\n".join(door_section(rates)) + "\n")
    return _SECTION.sub(lambda _: section, report, count=1)


def cells(row: DoorRow) -> tuple[str, str, str, str]:
    """Return what a table says of a condition: refused, strangers let in, recognised on both ways."""
    if not row.counts or row.fmr is None:
        return percentage(row.refused), "too few are left", "", ""
    around = "" if row.fmr_interval is None else f" ({interval(*row.fmr_interval)})"
    own, probe = ("" if share is None else percentage(share) for share in (row.tar, row.probe_tar))
    return percentage(row.refused), f"{percentage(row.fmr)}{around}", own, probe


def _told(rates: DoorRates) -> list[str]:
    worst = rates.worst
    summary = (
        f"{count(rates.people)} people with two pictures ({rates.data}), everybody compared with everybody, at the "
        f"threshold that promises {one_in(rates.promised_fmr)}. Both pictures are put under each condition. The gate "
        "refuses faces that tell too little; what is said of the others is how often two people count as one."
    )
    if worst is not None and worst.fmr is not None:
        summary += f" Worst: {worst.title}, {percentage(worst.fmr)} of the pairs of strangers."
    return [
        markup.paragraph(summary),
        _chart(rates),
        markup.table(HEADER, [[row.title, *cells(row)] for row in rates.rows]),
        markup.note(
            "In brackets 95 % intervals, people drawn again. Recognised: share of the pairs of one person that count "
            "as one, with both pictures under the condition, or with the template as it was."
        ),
    ]


def _chart(rates: DoorRates) -> str:
    """Draw the false match rate of each condition on a logarithmic axis, beside the promised one."""
    rows = [row for row in rates.rows if row.counts]
    height = _TOP + _STEP * len(rows) + 40
    bottom = _TOP + _STEP * len(rows)

    def at(rate: float) -> float:
        share = math.log(min(max(rate, _LEAST), 1.0) / _LEAST) / math.log(1 / _LEAST)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    parts = []
    for power in range(-5, 1):
        x = at(10.0**power)
        parts.append(segment((x, _TOP), (x, bottom), "grid"))
        parts.append(text((x, bottom + 17), "0" if power == -5 else f"{100 * 10.0**power:g} %", "middle", small=True))
    promised = at(rates.promised_fmr)
    parts.append(segment((promised, _TOP - 6), (promised, bottom), "line dash ink"))
    parts.append(text((promised + 4, _TOP - 8), f"promised: {one_in(rates.promised_fmr)}", small=True))
    for place, row in enumerate(rows):
        y = _TOP + _STEP * (place + 0.5)
        parts.append(text((_LEFT - 8, y + 4), row.title, "end", small=True))
        if row.fmr_interval is not None:
            parts.append(segment((at(row.fmr_interval[0]), y), (at(row.fmr_interval[1]), y), "line one"))
        parts.append(f'<circle class="fill one" cx="{at(row.fmr or 0):.1f}" cy="{y:.1f}" r="4"/>')
    words = "False match rate of each condition with both pictures under it, beside the promised one"
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{words}">\n' + "\n".join(parts) + "\n</svg>"
