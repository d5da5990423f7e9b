"""The report of a bundle: what it is, what it scores and what it does not do, for whoever decides about it.

One HTML file that fetches nothing and runs nothing, made of nothing but the manifest and the scores behind it.
"""

from edgeface.evaluation import markup
from edgeface.export.report.consequences import gallery_section, threshold_section
from edgeface.export.report.door import door_section
from edgeface.export.report.effects import count_flips
from edgeface.export.report.findings import certainty_section, score_section
from edgeface.export.report.precisions import cost_section
from edgeface.export.report.svg import STYLE
from edgeface.export.report.wording import count, listed, megabytes, one_in, percentage, unbroken
from edgeface.export.thresholds import Scored
from edgeface.manifest import NOT_STATED, Manifest
from edgeface.scores import SCORES_NAME
from edgeface.scoring import WORDS

PRECISION_WORDS = {
    "fp32": "computes with floating point numbers of 32 bits, as it was trained",
    "fp16": "computes with floating point numbers of 16 bits",
    "int8": "computes with whole numbers of 8 bits: the smallest file, and on many processors the fastest",
}


def bundle_report(manifest: Manifest, scored: Scored | None) -> str:
    """Write the report of a bundle as one HTML file; the same facts give the same text.

    Args:
        manifest: of the bundle, with everything but the report and the model card listed.
        scored: what its thresholds were chosen on, for the pictures and the decisions that differ; None without.
    """
    parts = [
        markup.paragraph(
            "This bundle recognises faces on a device, without a network connection. The page tells whoever decides "
            "about it what it is, how often it is right, how sure that is, and what it does not do. Words come first, "
            "numbers after them."
        ),
        markup.heading("In short"),
        markup.points(_in_short(manifest, scored)),
        *_nature(manifest),
        *score_section(manifest, scored),
        *certainty_section(manifest, scored),
        *cost_section(manifest, scored),
        *threshold_section(manifest),
        *gallery_section(manifest),
        *door_section(manifest.door),
        *_limits(),
        *_contents(manifest),
    ]
    page = markup.page(f"{manifest.name}: a bundle for recognising faces", parts, STYLE)
    return unbroken(page)


def _in_short(manifest: Manifest, scored: Scored | None) -> list[str]:
    told = []
    name = manifest.baseline
    accuracy = manifest.precisions[name].accuracy
    if accuracy is not None:
        told.append(
            f"Asked whether two pictures show one person, {name} was right in {percentage(accuracy.accuracy)} of "
            f"{count(accuracy.pairs)} pairs ({accuracy.protocol})."
        )
    own = [t for t in manifest.thresholds if t.gallery == t.precision == name]
    if own:
        strictest = min(own, key=lambda threshold: threshold.fmr)
        let_in = (
            "" if strictest.tar is None else f", and recognises one's own in {percentage(strictest.tar)} of the pairs"
        )
        told.append(
            f"Its strictest threshold takes {one_in(strictest.fmr)} strangers for a given person{let_in} "
            f"(measured on {strictest.data})."
        )
    if accuracy is None and not own:
        told.append(
            "How often it is right was not measured, and it has no threshold: nobody should rely on it yet. "
            "What to do is said below."
        )
    told += [_beside(manifest, scored, other, name) for other in manifest.precisions if other != name]
    unknown = _unknown_licences(manifest)
    if unknown:
        told.append(f"Do not ship it: nobody stated the licence of the {listed(unknown)}.")
    told.append("It cannot tell a living face from a photograph of one.")
    return told


def _beside(manifest: Manifest, scored: Scored | None, precision: str, other: str) -> str:
    own, its = manifest.precisions[precision], manifest.precisions[other]
    share = manifest.files[own.file].bytes / manifest.files[its.file].bytes
    text = f"{precision} has {100 * share:.0f} % of the size of {other}"
    if "cpu" in own.latency_ms and "cpu" in its.latency_ms:
        text += f" and takes {own.latency_ms['cpu']:.2f} ms for a face instead of {its.latency_ms['cpu']:.2f} ms"
    flips = [] if scored is None else count_flips(manifest.thresholds, scored, precision, other)
    if flips:
        strictest = min(flips, key=lambda flip: flip.fmr)
        differ = strictest.worse + strictest.better
        text += f"; {count(differ) if differ else 'none'} of {count(strictest.pairs)} decisions came out differently"
    return f"{text}."


def _nature(manifest: Manifest) -> list[str]:
    contract = manifest.embedder
    rows = [(key, "" if value is None else str(value)) for key, value in manifest.origin.items()]
    if manifest.calibration is not None:
        rows.append(("fitted to 8 bits, and held against the original, on", manifest.calibration.source))
    rows.append(("file format", f"ONNX opset {manifest.opset}, IR version {manifest.ir_version}"))
    if manifest.tools:
        rows.append(("made with", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())))
    rows.append(("embedding space", manifest.space))
    parts = [
        markup.heading("What it is"),
        markup.paragraph(
            f"Its heart is an embedder: a network that turns a picture of a face ({contract.size} x {contract.size} "
            f"pixels, turned so that the eyes lie where it expects them) into {contract.dimension} numbers, the "
            "embedding. Embeddings of one person point in similar directions. How similar is told by their cosine: 1 "
            "is the same direction, and around 0 is what two people have. Two faces count as one person from a certain "
            f"{WORDS[manifest.scoring]} on, the threshold. The embedding that is stored when somebody enrols is a "
            "template."
        ),
        markup.paragraph(_scoring(manifest)),
        markup.paragraph(
            "Embeddings of two networks cannot be compared. The embedding space below names this one: templates made "
            "with a bundle of another space must be enrolled again."
        ),
    ]
    parts.append(
        markup.paragraph(
            f"A face detector, which finds the faces in a picture, is part of it (format {manifest.detector.format})."
            if manifest.detector is not None
            else "The bundle has no face detector; the device needs one of its own."
        )
    )
    parts += [markup.subheading("Where it came from"), markup.facts(rows)]
    return [*parts, *_licences(manifest)]


def _scoring(manifest: Manifest) -> str:
    cohort = manifest.cohort
    if cohort is None:
        return " ".join(f"{text}." for text in manifest.lacks)
    return (
        "Two dark, blurred or covered faces resemble each other whoever they are, which a cosine takes for likeness. "
        "So it is not compared with the threshold as it is: what both faces have in common with the strangers that "
        "they are nearest to is taken away from it. The result is the normalised score; 0 says that two faces are as "
        f"near to each other as to those. The bundle carries {count(cohort.members)} strangers for that, as "
        f"embeddings, without pictures and names ({cohort.source})."
    )


def _licences(manifest: Manifest) -> list[str]:
    stated = manifest.licences
    rows = [("code", stated.code), ("weights of the network", stated.weights), ("training data", stated.data)]
    parts = [markup.subheading("Licences"), markup.facts(rows)]
    if unknown := _unknown_licences(manifest):
        parts.append(
            markup.paragraph(
                f"Do not ship this: nobody has said what is allowed with the {listed(unknown)}, and without a licence "
                "nothing is. Find out, and export again with `--weights-licence` and `--data-licence`."
            )
        )
    return parts


def _unknown_licences(manifest: Manifest) -> list[str]:
    stated = {"weights": manifest.licences.weights, "training data": manifest.licences.data}
    return [what for what, licence in stated.items() if licence == NOT_STATED]


def _limits() -> list[str]:
    return [
        markup.heading("What it does not do"),
        markup.points(
            [
                "It does not detect spoofing: a printed photograph or a screen is a face to it. It is no replacement "
                "for a password or a key.",
                "It knows nothing of other cameras. Light, lens, distance and compression unlike those of the measured "
                "pictures shift the scores, and with them what a threshold lets in.",
                "It does not promise the same for every group. Scores on one set of people do not carry over to other "
                "ages, origins or to people with covered faces; measure each group that matters on its own: "
                "`edgeface eval` with `--labels`.",
                "It promises nothing about relatives. Siblings and twins were not measured, and may be taken for each "
                "other more often.",
                "It compares aligned faces only. An alignment of another kind lowers the scores.",
            ]
        ),
    ]


def _contents(manifest: Manifest) -> list[str]:
    told = {
        entry.file: f"embedder, {name}: {PRECISION_WORDS.get(name, '')}" for name, entry in manifest.precisions.items()
    }
    told[SCORES_NAME if manifest.scores is None else manifest.scores] = (
        "scores that thresholds of other rates are read off"
    )
    if manifest.detector is not None:
        told[manifest.detector.file] = "face detector"
    if manifest.quality is not None:
        told[manifest.quality.file] = "quality network, which says how fit a face is"
    rows = [[name, told.get(name, ""), megabytes(entry.bytes)] for name, entry in manifest.files.items()]
    return [
        markup.heading("What is in the bundle"),
        markup.table(("file", "what it is", "size"), rows),
        markup.note(
            "Besides these: manifest.json, which programs read, with the size and SHA-256 of every file; "
            "MODEL_CARD.md, the same as this page in short; and this page. A device uses no file that differs from its "
            "hash. Who made the bundle only a signature tells: `edgeface bundle verify BUNDLE --key KEY.pub`."
        ),
    ]
