"""Many names of tensors as few words: whole parts of a network, and parts that are numbered on."""

import re
from collections.abc import Collection, Iterable
from typing import Final

MAX_LENGTH: Final = 100
"""Characters of a name that are shown."""

_NUMBER: Final = re.compile(r"(?<![^.])\d{1,9}(?![^.])")
"""A part of a name that is a number."""


def in_groups(names: Iterable[str], universe: Collection[str]) -> tuple[str, ...]:
    """Return names such that each stands for itself or in a group, in a shorter form and in the same order.

    A part of which all names are there is `layer3.5.*`; parts that differ in one number alone are `layer3.{5-9}.*`.

    Args:
        names: to shorten.
        universe: all names of which they are some.
    """
    names = list(dict.fromkeys(names))
    chosen = set(names)
    broken = {part for name in universe if name not in chosen for part in _parts(name)}
    whole = dict.fromkeys(next((f"{part}.*" for part in _parts(name) if part not in broken), name) for name in names)
    return tuple(text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..." for text in _merged(whole))


def _parts(name: str) -> list[str]:
    """Return what a name is part of, the largest first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _merged(names: Iterable[str]) -> list[str]:
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        places = list(_NUMBER.finditer(name))
        if places:
            last = places[-1]
            groups.setdefault((name[: last.start()], name[last.end() :]), []).append(int(last.group()))
        else:
            groups[name, ""] = []
    return [f"{head}{_ranges(numbers)}{tail}" if numbers else head for (head, tail), numbers in groups.items()]


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return texts[0] if len(numbers) == 1 else "{" + ",".join(texts) + "}"
