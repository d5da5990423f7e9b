"""Give a bundle folder the quality network of this package, or take up the limits of a new one.

    scripts/add_quality.py runtime/bundles/default "chosen on ..."

The network itself is not copied: bundles of the package share it. Everything else in the bundle stays as it is.
"""

import sys
from pathlib import Path

from edgeface.export.entries import quality_entry
from edgeface.files import sha256, write_bytes
from edgeface.manifest import MANIFEST_NAME, FileEntry, Manifest
from edgeface.runtime.bundle import BUILT_IN_QUALITY


def main(folder: Path, told: str) -> None:
    network = BUILT_IN_QUALITY.read_bytes()
    entry = quality_entry(network)
    assert entry is not None
    manifest = Manifest.parse((folder / MANIFEST_NAME).read_bytes())
    files = {**manifest.files, entry.file: FileEntry(sha256=sha256(network), bytes=len(network))}
    changed = manifest.model_copy(update={"quality": entry.model_copy(update={"data": told}), "files": files})
    write_bytes(folder / MANIFEST_NAME, changed.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
