"""What each command prints with `--json`; where a command has several forms, any of them.

Figures that somebody measured come as the dataclasses have them that hold them.
"""

from typing import Any

from edgeface.schemas import bundles, gallery, machine, making, measuring
from edgeface.schemas.events import EVENTS

OUTPUTS: dict[str, Any] = {
    "bench": measuring.Bench,
    "bundle-fetch": bundles.Fetch | bundles.FetchList,
    "bundle-inspect": bundles.Inspect,
    "bundle-keygen": bundles.Keygen,
    "bundle-pack": bundles.Pack,
    "bundle-sign": bundles.Sign,
    "bundle-verify": bundles.Verify,
    "bundle-warm": bundles.Warm,
    "calibrate": making.Calibrate,
    "compare": measuring.Compare,
    "data-align": making.AlignData,
    "data-check": making.CheckData,
    "data-pack": making.PackData,
    "data-teach": making.TeachData,
    "demo": making.Demo,
    "doctor": machine.Doctor | machine.Freed,
    "enroll": gallery.Enroll,
    "eval": measuring.Eval | measuring.EvalConditions | measuring.EvalDetector | measuring.EvalQuality,
    "export": making.Export | making.ExportDetector | making.ExportQuality,
    "gallery-add": gallery.Enroll,
    "gallery-decrypt": gallery.Protected,
    "gallery-encrypt": gallery.Protected,
    "gallery-export": gallery.ExportedGallery,
    "gallery-import": gallery.TakenIn,
    "gallery-keygen": gallery.GalleryKey,
    "gallery-list": gallery.People | gallery.Templates,
    "gallery-log": gallery.Log | gallery.LogHead,
    "gallery-merge": gallery.Merged | gallery.TakenIn,
    "gallery-rekey": gallery.Protected,
    "gallery-remove": gallery.Removed,
    "gallery-rename": gallery.Renamed,
    "liveness-test": gallery.Liveness,
    "losses": making.Losses,
    "models": making.Models,
    "plugins": making.Plugins,
    "train": making.Train | making.TrainDetector | making.TrainQuality,
    "verify": gallery.VerifyFaces,
    **EVENTS,
}
"""By the words of the command, with hyphens."""
