"""What a bundle's threshold does under the conditions of a door, as its manifest states it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeface.errors import DataError

LEAST_IMPOSTORS: Final = 3000
"""Fewer pairs of two people say nothing about a rate of one in a thousand (rule of three)."""

_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DoorRow(_Record):
    """One condition, of the comparisons whose faces the gate lets through.

    `refused` is the share of the faces that the gate does not let through, `impostors` how many pairs of two people are
    left with both faces under the condition. `fmr` and `tar` are the shares of these, and of the pairs of one person,
    that are accepted; `probe_tar` that of the pairs of one person with the probe alone under it. None where there is
    nothing to count.
    """

    title: str = Field(max_length=200)
    refused: _Share
    impostors: int = Field(ge=0)
    fmr: _Share | None
    fmr_interval: tuple[_Share, _Share] | None
    tar: _Share | None
    probe_tar: _Share | None

    @property
    def counts(self) -> bool:
        """Whether enough pairs are left to speak of a rate."""
        return self.fmr is not None and self.impostors >= LEAST_IMPOSTORS


class DoorRates(_Record):
    """All conditions that were measured: on which faces, of how many people, at which threshold."""

    data: str = Field(max_length=200)
    people: int = Field(ge=2)
    threshold: float = Field(ge=-1.001, le=1.001)
    promised_fmr: float = Field(gt=0, lt=1)
    rows: tuple[DoorRow, ...] = Field(min_length=1, max_length=200)

    @classmethod
    def of(cls, results: Mapping[str, Any]) -> "DoorRates":
        """Take them from what `edgeface eval --conditions` writes.

        Raises:
            DataError: it is something else, or was measured at a threshold of which nothing is promised.
        """
        try:
            rows = [
                {
                    "title": row["title"],
                    "refused": row["refused"],
                    **{key: row["both"][key] for key in ("impostors", "fmr", "fmr_interval", "tar")},
                    "probe_tar": row["probe"]["tar"],
                }
                for row in results["conditions"]
            ]
            facts = {key: results[key] for key in ("people", "threshold", "promised_fmr")}
            facts["data"] = Path(results["data"]).name  # where it lies is nobody's business
            return cls.model_validate({**facts, "rows": rows})
        except (KeyError, TypeError, ValidationError) as error:
            raise DataError(
                f"these are no results of `edgeface eval --conditions` at a threshold of the bundle: {str(error)[:200]}"
            ) from None

    @property
    def worst(self) -> DoorRow | None:
        """The condition with the highest false match rate of those that leave enough pairs; None if none does."""
        return max((row for row in self.rows if row.counts), key=lambda row: row.fmr or 0.0, default=None)
