"""Give a bundle folder of this package its quality network, and say in card and report what it does at a door.

    edgeface eval runtime/bundles/default --data lfw/ --conditions all --out door/
    scripts/state_conditions.py runtime/bundles/default door/results.json "the limits refuse ..." ["KEY: TEXT" ...]

The network is not copied: bundles of the package share it. Everything else but card and report stays as it is. Without
results (`-`) only the network is taken up, which comes first, as it decides what is refused. Further arguments replace
what the manifest says of its origin.
"""

import json
import sys
from pathlib import Path

from edgeface.door import DoorRates
from edgeface.export.assembly import list_files
from edgeface.export.card import CARD_NAME, REPORT_NAME, model_card
from edgeface.export.entries import quality_entry
from edgeface.export.report.door import restate_door
from edgeface.files import write_bytes
from edgeface.manifest import MANIFEST_NAME, Manifest
from edgeface.runtime.bundle import BUILT_IN_QUALITY

NOT_FOR = (
    "children: networks like this one take most children of one age for one another. Nor for twins and close "
    "relatives, nor wherever a wrong answer cannot be put right. Not measured by age, skin tone or sex"
)


def main(folder: Path, results: str, told: str, *facts: str) -> None:
    network = BUILT_IN_QUALITY.read_bytes()
    entry = quality_entry(network)
    assert entry is not None
    manifest = Manifest.parse((folder / MANIFEST_NAME).read_bytes())
    files = manifest.files | list_files({entry.file: network})
    allowance = 0.0 if manifest.quality is None else manifest.quality.allowance
    quality = entry.model_copy(update={"data": told, "allowance": allowance})
    origin = dict(manifest.origin) | dict(fact.split(": ", 1) for fact in facts)
    manifest = manifest.model_copy(update={"quality": quality, "files": files, "origin": origin})
    if results != "-":
        door = DoorRates.of(json.loads(Path(results).read_text()))
        manifest = manifest.model_copy(update={"door": door, "origin": origin | {"not for": NOT_FOR}})
    report = restate_door((folder / REPORT_NAME).read_text(), manifest.door).encode()
    last = {CARD_NAME: model_card(manifest).encode(), REPORT_NAME: report}
    manifest = manifest.model_copy(update={"files": files | list_files(last)})
    for name, data in last.items():
        write_bytes(folder / name, data)
    write_bytes(folder / MANIFEST_NAME, manifest.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
