"""Numbers in words that a product owner uses."""

import math
from collections.abc import Sequence

from edgeface.manifest import Threshold

SPACE = "\u00a0"
"""Groups digits without a line break between them."""


def unbroken(text: str) -> str:
    """Let no line end between a number and its sign."""
    return text.replace(" %", f"{SPACE}%")


def count(number: float) -> str:
    """Write a whole number in groups of three digits: `29 600 000`."""
    return f"{round(number):,}".replace(",", SPACE)


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Write how many of a thing: `1 layer`, `7 layers`."""
    return f"{count(number)} {thing if number == 1 else things or thing + 's'}"


def one_in(rate: float) -> str:
    """Write a rate above 0 as chances: `1 in 1 000`; from 1 in 7 on `15 in 100`, where rounding would show.

    Rare ones are rounded to three digits.
    """
    if rate > 1 / 7:
        hundredths = 100 * rate
        return f"{'more than 99' if hundredths > 99.5 else f'{hundredths:.0f}'} in 100"
    odds = 1 / rate
    unit = 10 ** max(0, math.floor(math.log10(odds)) - 2)
    return f"1 in {count(round(odds / unit) * unit)}"


def percentage(share: float) -> str:
    """Write a share with two decimals, a small one with two digits that are not 0."""
    decimals = 2 if share == 0 else max(2, 1 - math.floor(math.log10(100 * abs(share))))
    return f"{100 * share:.{decimals}f}{SPACE}%"


def interval(low: float, high: float) -> str:
    """Write an interval of shares."""
    return f"{percentage(low)} to {percentage(high)}"


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points, with its sign."""
    return "none" if abs(difference) < 5e-6 else f"{100 * difference:+.2f} points"


def megabytes(size: int) -> str:
    """Write a size in bytes."""
    return f"{size / 1e6:.2f}{SPACE}MB" if size >= 1e5 else f"{size / 1e3:.1f}{SPACE}kB"


def listed(texts: Sequence[str]) -> str:
    """Join texts as in a sentence: `a, b and c`."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def strangers(threshold: Threshold) -> str:
    """Say how many strangers a threshold lets through, and where it was asked to let fewer."""
    asked = "" if threshold.fmr == threshold.asked_fmr else f" (asked: {one_in(threshold.asked_fmr)}; too few pairs)"
    return f"{one_in(threshold.fmr)} strangers{asked}"
