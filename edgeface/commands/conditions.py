"""`edgeface eval --conditions`: what the thresholds that ship are worth under the conditions of a door."""

from pathlib import Path
from typing import Final

from edgeface.commands import console

OPTIONS: Final = frozenset(
    {
        *("task", "model", "data", "split", "conditions", "fmr", "precision", "provider", "threads", "cosine"),
        *("bootstrap", "seed", "out", "as_json", "quiet"),
    }
)
"""Parameters of `edgeface eval` that count with `--conditions`."""


def evaluate(
    model: Path,
    data: str | None,
    split: str | None,
    conditions: str,
    *,
    fmr: float | None,
    precision: str,
    provider: str,
    threads: int,
    cosine: bool,
    bootstrap: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure a bundle under conditions, and print, or write, what came out."""
    from edgeface.data import open_faces
    from edgeface.errors import ConfigError
    from edgeface.evaluation.condition_report import HEADER, condition_note, condition_rows, write_conditions
    from edgeface.evaluation.conditions import assess_conditions, check_conditions
    from edgeface.evaluation.report import make_folder
    from edgeface.files import readable_name
    from edgeface.runtime.bundle import open_bundle
    from edgeface.runtime.deciding.gate import bundle_gate
    from edgeface.runtime.deciding.limits import bundle_limits
    from edgeface.runtime.embedder import bundle_embedder
    from edgeface.scoring import COSINE

    if data is None:
        raise ConfigError("eval --conditions needs labelled faces: give --data FOLDER")
    names = check_conditions(console.comma_list(conditions))
    faces = open_faces(data, split=split)
    bundle = open_bundle(model)
    embedder, chosen = bundle_embedder(bundle, precision=precision, provider=provider, threads=threads)
    limit = bundle_limits(bundle, chosen, fmr=fmr).search({chosen: 1})
    if out is not None:
        make_folder(out)
    with console.progress("conditions", quiet or as_json) as advance:
        report = assess_conditions(
            faces,
            embedder,
            COSINE if cosine else bundle.scoring(),
            (limit.cosine, limit.fmr),
            bundle_gate(bundle, provider=provider, threads=threads),
            names=names,
            replicates=bootstrap,
            seed=seed,
            progress=advance,
        )
    facts = {"model": bundle.manifest.name, "precision": chosen, "data": faces.name, **report.to_json()}
    if out is not None:
        facts["files"] = [
            readable_name(str(path)) for path in write_conditions(out, report, bundle.manifest.name, chosen, facts)
        ]
    if as_json:
        console.print_json(facts)
        return
    console.table(condition_rows(report), list(HEADER))
    console.notes([condition_note(report, bundle.manifest.name, chosen)])
