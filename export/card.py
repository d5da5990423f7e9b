"""The model card: the manifest in words."""

from typing import Final

from edgeface.manifest import NOT_STATED, Finetuning, Licences, Manifest
from edgeface.operating_points import false_positive_rate
from edgeface.scoring import WORDS

CARD_NAME: Final = "MODEL_CARD.md"
REPORT_NAME: Final = "report.html"

GALLERY_SIZES: Final = (1, 10, 100, 1000)
"""Numbers of templates that the card shows the false positive rate of a search for."""


def model_card(manifest: Manifest) -> str:
    """Write the model card of a bundle as Markdown, from nothing but its manifest."""
    contract = manifest.embedder
    lines = [
        f"# {manifest.name}",
        "",
        f"Face embedder: {contract.size} x {contract.size} aligned {contract.channel_order} faces in, "
        f"{contract.dimension} numbers out, compared by {WORDS[manifest.scoring]}. "
        f"Embedding space `{manifest.space}`; only templates of this space can be compared.",
        "",
        f"`{REPORT_NAME}` beside this card says the same in plain words, with pictures; a browser shows it without a "
        "network.",
        "",
        "## Where it comes from",
        "",
        *(f"- {key}: {value}" for key, value in manifest.origin.items()),
        *_making_lines(manifest),
        "",
        "## Licences",
        "",
        *_licence_lines(manifest.licences),
        "",
        "## What it scores",
        "",
        "| precision | size | minimum cosine to the original | mean | accuracy | TAR at FAR | one face, one thread |",
        "|---|---|---|---|---|---|---|",
        *(_precision_row(manifest, name) for name in manifest.precisions),
        "",
        _accuracy_note(manifest),
        *_quantization_lines(manifest),
        "",
        "## What a score is",
        "",
        _score_line(manifest),
        "",
        "## Thresholds",
        "",
        *_threshold_lines(manifest),
        "",
        "## At a door",
        "",
        *_door_lines(manifest),
        "",
        "## Is it the one that was made?",
        "",
        "`manifest.json` lists the size and SHA-256 of every file, and nothing is opened that differs. Whether the "
        "manifest itself is the maker's only a signature tells: `edgeface bundle verify BUNDLE --key KEY.pub` checks "
        "it and names the key. This card is written before the bundle is signed, so it cannot say by whom.",
        "",
        "## Limits",
        "",
        "- A printed photograph or a screen is a face to this model: it does not detect spoofing.",
        "- Scores on one set of people do not carry over to every group, age or camera; measure on your own.",
        "- Faces must be aligned to the five-point template; an alignment of another kind lowers the scores.",
        "",
    ]
    return "\n".join(lines)


def _making_lines(manifest: Manifest) -> list[str]:
    lines = []
    if manifest.calibration is not None:
        calibration = manifest.calibration
        lines.append(f"- calibrated on: {calibration.source}; SHA-256 of their pixels `{calibration.sha256}`")
    lines.append(f"- format: ONNX opset {manifest.opset}, IR version {manifest.ir_version}")
    if manifest.tools:
        lines.append("- made with: " + ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items()))
    return lines


def _licence_lines(licences: Licences) -> list[str]:
    stated = {"code": licences.code, "weights": licences.weights, "training data": licences.data}
    lines = [f"- {what}: {licence}" for what, licence in stated.items()]
    unknown = [what for what, licence in stated.items() if licence == NOT_STATED]
    if unknown:
        lines += [
            "",
            f'**Do not ship this.** "{NOT_STATED.capitalize()}" means that whoever exported it did not say what is '
            f"allowed with the {' and the '.join(unknown)}; without a licence nothing is. Find out, and export again "
            "with `--weights-licence` and `--data-licence`.",
        ]
    return lines


def _precision_row(manifest: Manifest, name: str) -> str:
    entry = manifest.precisions[name]
    accuracy, tar = "not measured", "not measured"
    if entry.accuracy:
        accuracy = f"{entry.accuracy.accuracy:.2%} ± {entry.accuracy.accuracy_se:.2%}"
        tar = ", ".join(f"{rate}: {value:.1%}" for rate, value in entry.accuracy.tar.items())
    latency = ", ".join(f"{provider} {ms:.1f} ms" for provider, ms in entry.latency_ms.items())
    size = f"{manifest.files[entry.file].bytes / 1e6:.2f} MB"
    return f"| {name} | {size} | {entry.min_cosine:.5f} | {entry.mean_cosine:.5f} | {accuracy} | {tar} | {latency} |"


def _quantization_lines(manifest: Manifest) -> list[str]:
    lines = []
    for name, entry in manifest.precisions.items():
        if entry.quantization is not None:
            record = entry.quantization
            kept = f"{len(record.float_nodes)} layers compute in float"
            said = [text for text in (_finetuning(record.finetuning), record.bound, record.speed) if text is not None]
            lines += ["", f"- {name} for {record.target}: {'; '.join([kept, *said])}."]
    return lines


def _finetuning(record: Finetuning | None) -> str | None:
    if record is None:
        return None
    outcome = (
        f"fine-tuned to the float32 network for {record.epochs} epochs on {record.faces} faces: mean of 1 - cosine "
        f"{record.loss_before:g} before and {record.loss_after:g} after, on {record.held_apart} faces held apart"
    )
    return outcome if record.kept else f"{outcome}, so the network from before was kept"


def _accuracy_note(manifest: Manifest) -> str:
    measured = [entry.accuracy for entry in manifest.precisions.values() if entry.accuracy]
    if not measured:
        return "No labelled pairs were given, so the accuracy is not known."
    kind = "" if measured[0].scoring == manifest.scoring else f", compared by {WORDS[measured[0].scoring]}"
    return (
        f"Accuracy: mean and standard error over the folds of {measured[0].pairs} pairs ({measured[0].protocol}{kind})."
    )


def _score_line(manifest: Manifest) -> str:
    if manifest.cohort is None:
        return f"The cosine of two embeddings. {manifest.lacks[0]}."
    cohort = manifest.cohort
    return (
        "A normalised score: the cosine of two embeddings, less what both faces have in common with the strangers "
        "that they are nearest to. Faces that resemble each other because both are dark, blurred or covered resemble "
        f"such strangers as well, so it drifts less than the cosine. The bundle carries {cohort.members} strangers for "
        f"that, as embeddings, without pictures and names ({cohort.source}); the {cohort.nearest} nearest count."
        f"{_fitness_words(manifest)}"
    )


def _fitness_words(manifest: Manifest) -> str:
    quality = manifest.quality
    if quality is None or not quality.allowance:
        return ""
    return (
        f" A face of less fitness than {quality.enrol_fitness:.2f} loses {quality.allowance:g} for each unit that it "
        "lacks, because two blurred faces resemble each other more than strangers show. A face that is fit to be a "
        "template loses nothing."
    )


def _threshold_lines(manifest: Manifest) -> list[str]:
    if not manifest.thresholds:
        return ["None: there were no labelled pairs to choose one on."]
    lines = [
        f"| faces in | templates in | false match rate | {WORDS[manifest.scoring]} | 95 % interval | true match rate "
        "| impostor pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    for threshold in manifest.thresholds:
        low, high = threshold.interval
        tar = "" if threshold.tar is None else f"{threshold.tar:.1%}"
        rate = f"{threshold.fmr:g}" + (
            "" if threshold.fmr == threshold.asked_fmr else f" (too few pairs for {threshold.asked_fmr:g})"
        )
        lines.append(
            f"| {threshold.precision} | {threshold.gallery} | {rate} | {threshold.cosine:.4f} "
            f"| {low:.4f} to {high:.4f} | {tar} | {threshold.pairs} |"
        )
    return [*lines, "", _chosen_on(manifest), "", *_search_lines(manifest)]


def _chosen_on(manifest: Manifest) -> str:
    data = manifest.threshold_data
    if data is None:
        return f"Chosen on: {manifest.thresholds[0].data}."
    people = "" if data.people is None else f" of {data.people} people"
    return (
        f"Chosen on: {data.name}, {data.faces} faces{people}, {data.genuine} genuine and {data.impostors} impostor "
        f"pairs, of which {data.independent} count as independent; SHA-256 of their pixels `{data.sha256}`."
        f"{ALIKE if data.only_alike else ''}"
    )


ALIKE: Final = (
    " Of pairs of two people only those who are alike count: for each, the nearer half of the others, which is about "
    "those of the same sex. Among people of both sexes, taken at random, false matches are about half as frequent."
)
"""What a rate means if thresholds were chosen on people who are alike."""


def _door_lines(manifest: Manifest) -> list[str]:
    """Say what the threshold does in poor light, in motion, behind a mask."""
    rates = manifest.door
    if rates is None:
        return ["Not measured: `edgeface eval BUNDLE --data FOLDER --conditions all` does."]
    lines = [
        f"{rates.people} people with two pictures ({rates.data}), everybody compared with everybody at "
        f"{rates.threshold:.4f}, the threshold for {rates.promised_fmr:g}, both pictures under the condition. Rates "
        "are of what the gate lets through; the last column is of a probe alone, held against a good template.",
        "",
        "| condition | refused | false match rate | 95 % interval | true match rate | against a good template |",
        "|---|---|---|---|---|---|",
    ]
    for row in rates.rows:
        if not row.counts or row.fmr is None:
            lines.append(f"| {row.title} | {row.refused:.1%} | too few are left | | | |")
            continue
        around = "" if row.fmr_interval is None else f"{row.fmr_interval[0]:.2%} to {row.fmr_interval[1]:.2%}"
        own, probe = ("" if share is None else f"{share:.1%}" for share in (row.tar, row.probe_tar))
        lines.append(f"| {row.title} | {row.refused:.1%} | {row.fmr:.2%} | {around} | {own} | {probe} |")
    worst = rates.worst
    if worst is not None:
        lines += ["", f"Worst: {worst.title}, a false match rate of {worst.fmr:.2%}."]
    return lines


def _search_lines(manifest: Manifest) -> list[str]:
    """Say what a threshold for one comparison lets through in a search among many."""
    rates = sorted({threshold.fmr for threshold in manifest.thresholds}, reverse=True)
    header = " | ".join(f"{size} templates" if size > 1 else "1 template" for size in GALLERY_SIZES)
    rows = [
        f"| {rate:g} | " + " | ".join(f"{false_positive_rate(rate, size):.2g}" for size in GALLERY_SIZES) + " |"
        for rate in rates
    ]
    return [
        "How often a stranger is taken for somebody in a gallery, at most, if the threshold stays as it is "
        "(FPIR = 1 - (1 - FMR)^N):",
        "",
        f"| false match rate | {header} |",
        "|---|" + "---|" * len(GALLERY_SIZES),
        *rows,
        "",
        "`edgeface run` does not let it stay: it takes the threshold for the wanted `--fpir` and the templates that "
        "are enrolled, as far as the pairs support one.",
    ]
