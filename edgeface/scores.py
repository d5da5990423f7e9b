"""The score tables of a bundle as a file: JSON that any language reads, checked before it is believed."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeface.errors import BundleError
from edgeface.operating_points import MIN_COMPARISONS, Ranking, ScoreTable

SCORES_NAME: Final = "scores.json"
MAX_SCORES_BYTES: Final = 1 << 22
"""A table takes about 15 kB, and there is one for each pair of precisions."""

_MAX_COUNT: Final = 1 << 53
_Score = Annotated[float, Field(ge=-1.001, le=1.001)]
_Count = Annotated[int, Field(ge=1, le=_MAX_COUNT)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Ranking(_Record):
    """A `Ranking`: the ranks up to `dense` have all their scores, those in `sparse` follow."""

    count: _Count
    dense: int = Field(ge=1)
    sparse: tuple[_Count, ...]
    scores: tuple[_Score, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> "_Ranking":
        ranks = (self.dense - 1, *self.sparse)
        if len(self.scores) != self.dense + len(self.sparse):
            raise ValueError("there is not one score for each rank")
        if np.any(np.diff(ranks) <= 0) or ranks[-1] != self.count - 1:
            raise ValueError("the ranks do not rise to the last one")
        if np.any(np.diff(self.scores) > 0):
            raise ValueError("the scores do not fall")
        return self


class _Table(_Record):
    gallery: str
    probe: str
    independent: int = Field(ge=MIN_COMPARISONS, le=_MAX_COUNT)
    impostor: _Ranking
    genuine: _Ranking

    @model_validator(mode="after")
    def _counts_fit(self) -> "_Table":
        if self.independent > self.impostor.count:
            raise ValueError("more comparisons are independent than there are")
        return self


class _File(_Record):
    format: Literal["edgeface scores 1"] = "edgeface scores 1"
    tables: tuple[_Table, ...]


def write_scores(tables: Iterable[ScoreTable]) -> bytes:
    """Return score tables as JSON, a line for each."""
    lines = [json.dumps(_table_facts(table), separators=(",", ":")) for table in tables]
    return ('{"format": "edgeface scores 1", "tables": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def read_scores(data: bytes, name: str = SCORES_NAME) -> tuple[ScoreTable, ...]:
    """Read score tables from JSON.

    Raises:
        BundleError: it is not what `write_scores` writes.
    """
    try:
        file = _File.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{name} is not a valid score table: {place}: {first['msg']}; export it again") from None
    return tuple(
        ScoreTable(t.gallery, t.probe, t.independent, _ranking(t.impostor), _ranking(t.genuine)) for t in file.tables
    )


def _table_facts(table: ScoreTable) -> dict[str, Any]:
    return {
        "gallery": table.gallery,
        "probe": table.probe,
        "independent": table.independent,
        "impostor": _ranking_facts(table.impostor),
        "genuine": _ranking_facts(table.genuine),
    }


def _ranking_facts(ranking: Ranking) -> dict[str, Any]:
    dense = int((ranking.ranks == np.arange(len(ranking.ranks))).sum())
    return {
        "count": ranking.count,
        "dense": dense,
        "sparse": ranking.ranks[dense:].tolist(),
        "scores": [float(f"{score:.9g}") for score in ranking.scores.tolist()],  # nine digits tell float32s apart
    }


def _ranking(facts: _Ranking) -> Ranking:
    ranks = np.concatenate([np.arange(facts.dense), np.array(facts.sparse, np.int64)]).astype(np.int64)
    return Ranking(facts.count, ranks, np.array(facts.scores, np.float32))
