"""Which layers to leave in float so that a bound holds: the fewest, and those that cost the least time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

TRIMS: Final = 16
"""Layers that are tried back in int8 at the end, those with the most work first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of a network computes in float.

    Attributes:
        float_layers: names of the layers that do.
        float_weights: their weights are in float32 in the file too, not in int8.
    """

    float_layers: tuple[str, ...] = ()
    float_weights: bool = False


def find_plan(
    start: Sequence[str], ranking: Sequence[str], price: Callable[[str], float], holds: Callable[[Plan], bool]
) -> Plan | None:
    """Search the plan with the least in float for which a bound holds.

    Layers that are no slower in float are left there in any case. Others are, from the front of the ranking on, as many
    as it takes: found by bisection, since more float is more exact. Then the costliest of them are tried back in int8.
    If even all of them in float do not do, their weights are stored in float32 too. Nothing here depends on measured
    time, so that the same network and faces give the same bytes on every day.

    Args:
        start: names of the layers that are no slower in float.
        ranking: names of the others, the one to leave in float first in front.
        price: what a layer costs in float.
        holds: whether the network of a plan keeps the bound; asked about 6 + 16 times for 60 layers.

    Returns:
        The plan, None if the bound holds for none.
    """
    for float_weights in (False, True):

        def plan(count: int, weights: bool = float_weights) -> Plan:
            return Plan((*start, *ranking[:count]), weights)

        if not float_weights and holds(plan(0)):
            return plan(0)
        if not holds(plan(len(ranking))):
            continue
        too_few, enough = 0, len(ranking)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if holds(plan(middle)):
                enough = middle
            else:
                too_few = middle
        return _trimmed(plan(enough), ranking[: enough - 1], price, holds)
    return None


def _trimmed(plan: Plan, added: Sequence[str], price: Callable[[str], float], holds: Callable[[Plan], bool]) -> Plan:
    """Put back into int8 what the bound does not need in float."""
    for name in sorted(added, key=price, reverse=True)[:TRIMS]:
        fewer = Plan(tuple(kept for kept in plan.float_layers if kept != name), plan.float_weights)
        if holds(fewer):
            plan = fewer
    return plan


def ladder(plan: Plan, ranking: Sequence[str], steps: int = 4) -> tuple[Plan, ...]:
    """Give plans with more and more in float, from one that holds to all layers: for a budget of time.

    Where integers are slow, float is the faster one.
    """
    rest = [name for name in ranking if name not in plan.float_layers]
    counts = dict.fromkeys(len(rest) * step // steps for step in range(steps + 1))
    return tuple(Plan((*plan.float_layers, *rest[:count]), plan.float_weights) for count in counts)
