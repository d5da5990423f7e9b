"""Give a bundle folder of this package its quality network, and say in its card what it does under door conditions.

    edgeface eval runtime/bundles/default --data lfw/ --conditions all --out door/
    scripts/state_conditions.py runtime/bundles/default door/results.json "the limits refuse ..."

The network is not copied: bundles of the package share it. Everything else but the card stays as it is. Without results
(`-`) only the network is taken up, which comes first, as it decides what is refused.
"""

import json
import sys
from pathlib import Path

from edgeface.export.assembly import list_files
from edgeface.export.card import CARD_NAME, model_card
from edgeface.export.entries import quality_entry
from edgeface.files import write_bytes
from edgeface.manifest import MANIFEST_NAME, Manifest
from edgeface.runtime.bundle import BUILT_IN_QUALITY

NOT_FOR = (
    "children: networks like this one take most children of one age for one another. Nor for twins and close "
    "relatives, nor wherever a wrong answer cannot be put right. Not measured by age, skin tone or sex"
)


def said(results: dict[str, object]) -> str:
    """Say the rates of each condition in one line."""
    rows = []
    for row in results["conditions"]:  # type: ignore[attr-defined]
        fmr, tar = row["both"]["fmr"], row["probe"]["tar"]
        if row["both"]["impostors"] < 3000 or fmr is None:
            rows.append(f"{row['title']}: {row['refused']:.1%} refused")
        else:
            found = "" if tar is None else f", {tar:.1%} found against a good template"
            rows.append(f"{row['title']}: {row['refused']:.1%} refused, FMR {fmr:.2%}{found}")
    return (
        f"{results['people']} people of {Path(str(results['data'])).name} with two pictures, everybody compared with "
        f"everybody at the threshold for {results['promised_fmr']:g}, both pictures under the condition, of those "
        f"that the gate lets through. {'; '.join(rows)}"
    )


def main(folder: Path, results: str, told: str) -> None:
    network = BUILT_IN_QUALITY.read_bytes()
    entry = quality_entry(network)
    assert entry is not None
    manifest = Manifest.parse((folder / MANIFEST_NAME).read_bytes())
    origin = dict(manifest.origin)
    if results != "-":
        origin |= {"by condition": said(json.loads(Path(results).read_text())), "not for": NOT_FOR}
    files = manifest.files | list_files({entry.file: network})
    quality = entry.model_copy(update={"data": told})
    manifest = manifest.model_copy(update={"quality": quality, "files": files, "origin": origin})
    card = model_card(manifest).encode()
    manifest = manifest.model_copy(update={"files": files | list_files({CARD_NAME: card})})
    write_bytes(folder / CARD_NAME, card)
    write_bytes(folder / MANIFEST_NAME, manifest.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
