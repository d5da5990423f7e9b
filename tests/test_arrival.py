"""What is typed arrives where it has its effect: options whose effect is tested apart from the command.

A command runs until the last of the functions that are named for it, which is replaced; all of them are asked for what
they were given.
"""

import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.commands.watching import Liveness
from edgeface.data.faceset import FaceSet
from edgeface.errors import EdgefaceError
from edgeface.images import write_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle
from edgeface.runtime.cameras.video import Asked
from edgeface.runtime.cameras.view import View
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.providers.choice import PluginLibrary
from tests.test_runtime_bundle import write_bundle

KEYS = [Path("a.pub"), Path("b.pub")]
RECOGNIZER = "runtime.recognizer.open_recognizer"
PROGRESS = "commands.console.progress"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What command lines name in capitals."""
    folder = tmp_path_factory.mktemp("places")
    rng = np.random.default_rng(0)
    for person in "abcdefgh":
        for number in range(1, 3):
            noise = rng.integers(0, 256, (112, 112, 3), np.uint8)
            write_image(folder / "faces" / "train" / person / f"{person}_{number:04}.png", noise)
    (folder / "pairs.txt").write_text("2\t1\na\t1\t2\na\t1\tb\t1\nb\t1\t2\nc\t1\tb\t1\n")
    (folder / "settings.toml").write_text("[run]\nepochs = 7\n")
    bundle = write_bundle(folder / "b.bundle")
    with Gallery(folder / "g.db", open_bundle(bundle).manifest.space, 3, create=True) as gallery:
        gallery.add("Ada", np.array([1, 0, 0], np.float32))
    return {
        "FACES": folder / "faces",
        "PAIRS": folder / "pairs.txt",
        "TOML": folder / "settings.toml",
        "BUNDLE": bundle,
        "GALLERY": folder / "g.db",
        "PICTURE": folder / "faces/train/a/a_0001.png",
        "FOLDER": folder / "faces/train/a",
        "OUT": folder / "out",
        "DETECTOR": BUILT_IN_DETECTOR,
    }


@pytest.fixture
def reach(places):
    """Run a command up to the last target; give what each was given, by its name."""

    def reach(command, *targets):
        seen = SimpleNamespace()
        with pytest.MonkeyPatch.context() as patch:
            for target in targets:
                watch(patch, seen, target, is_last=target == targets[-1])
            result = CliRunner().invoke(app, [str(places.get(word, word)) for word in command.split()])
        assert "as far as it goes" in result.output, f"{result.output}{result.exception!r}"
        return seen

    return reach


def watch(monkeypatch, seen, target, is_last):
    place, name = target.rsplit(".", 1)
    module = importlib.import_module(f"edgeface.{place}")
    original = getattr(module, name)
    signature = inspect.signature(original)

    def stand_in(*arguments, **named):
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        setattr(seen, name, SimpleNamespace(**bound.arguments))
        if is_last:
            raise EdgefaceError("this is as far as it goes")
        return original(*arguments, **named)

    monkeypatch.setattr(module, name, stand_in)


def has(what, **wanted):
    """Compare attributes; one whose name is told apart by __ is that of an attribute."""
    for name, value in wanted.items():
        got = what
        for part in name.split("__"):
            got = getattr(got, part)
        assert got == value, f"{name} is {got!r} instead of {value!r}"


def test_demo(reach):
    seen = reach("demo --seed 3 --out OUT --quiet", PROGRESS, "demo.run_demo")
    has(seen, progress__quiet=True, run_demo__seed=3)


def test_train(reach, places):
    seen = reach(
        "train --data FACES --config TOML --model resnet-nano --val-data FACES --val-pairs PAIRS --quiet",
        *("commands.labelled.open_pairs", PROGRESS, "training.loop.train"),
    )
    has(seen, open_pairs__data=str(places["FACES"]), open_pairs__pairs=places["PAIRS"], progress__quiet=True)
    has(seen.train.config, model__name="resnet-nano", run__epochs=7)
    assert len(seen.train.validation.pairs) == 4


def test_compare(reach, places):
    seen = reach("compare --data FACES --model resnet-edge --out OUT --quiet", "comparison.people.opened_people")
    has(seen.opened_people, path=str(places["FACES"]))
    seen = reach("compare --model resnet-edge --out OUT", "comparison.comparison.plan")
    assert "model.name=resnet-edge" in seen.plan.settings.overrides


def test_eval(reach):
    seen = reach(
        "eval BUNDLE --data FACES --seed 3 --threads 2 --provider cpu --precision int8 --against-precision fp32 "
        "--against-provider cpu --allow-plugin a:B --quiet",
        *("commands.labelled.open_named", "commands.labelled.open_plan", PROGRESS),
    )
    has(seen, open_named__precision="fp32", open_named__provider="cpu", open_named__threads=2)
    has(seen, open_plan__seed=3, progress__quiet=True, open_named__allow_plugins=["a:B"])
    assert reach("eval BUNDLE --data FACES --cosine", "commands.labelled.open_named").open_named.cosine
    seen = reach("eval BUNDLE --data FACES --provider openvino", "commands.labelled.open_named")
    has(seen, open_named__provider="openvino")


OPENED = SimpleNamespace(origin={}, remarks=(), reference=lambda faces: np.zeros((len(faces), 4)))


@pytest.mark.parametrize("command", ["eval BUNDLE --conditions --data FACES", "eval BUNDLE --data FACES --conditions"])
def test_conditions_without_names_are_all(reach, command):
    assert reach(command, "commands.conditions.evaluate").evaluate.conditions == "all"
    named = reach(command.replace("--conditions", "--conditions mask,dark-20"), "commands.conditions.evaluate")
    assert named.evaluate.conditions == "mask,dark-20"


def test_export(reach, monkeypatch, places):
    network = "export.sources.checkpoint_network"
    monkeypatch.setattr("edgeface.export.quantization.calibration.check_aligned", lambda *_: None)
    seen = reach(
        "export RUN --out OUT --calibration FACES --calibration-split train --calibration-images 20 --seed 3 "
        "--data FACES --split train --pairs PAIRS --opset 19 --allow-plugin a:B --allow-plugin c:D --quiet",
        *("data.open_faces", "commands.labelled.open_pairs", network),
    )
    has(seen, open_pairs__split="train", open_pairs__pairs=places["PAIRS"], open_faces__split="train")
    has(seen, checkpoint_network__opset=19, checkpoint_network__allow_plugins=["a:B", "c:D"])
    monkeypatch.setattr(f"edgeface.{network}", lambda path, opset, allow: OPENED)
    monkeypatch.setattr("edgeface.commands.export.replace", lambda network, **_: network)
    seen = reach(
        "export RUN --out OUT --calibration FACES --seed 3 --calibration-method entropy --min-cosine 0.9 "
        "--max-latency 5 --max-bytes 1000 --sensitivity --name N --batch 4 --weights-licence W --data-licence D",
        *("export.quantization.calibration.draw_faces", "export.pipeline.export_bundle"),
    )
    has(seen.draw_faces, seed=3)
    settings = seen.export_bundle.settings
    has(settings, method="entropy", name="N", batch=4, licences__weights="W", licences__data="D")
    has(settings.bounds, min_cosine=0.9, max_latency_ms=5.0, max_bytes=1000, sensitivity=True)


def test_export_takes_a_cohort_a_gate_and_a_networks_parts(reach, monkeypatch, places):
    monkeypatch.setattr("edgeface.export.quantization.calibration.check_aligned", lambda *_: None)
    monkeypatch.setattr("edgeface.export.sources.checkpoint_network", lambda path, opset, allow: OPENED)
    monkeypatch.setattr("edgeface.commands.export.replace", lambda network, **_: network)
    seen = reach(
        "export RUN --out OUT --calibration FACES --cohort FACES --cohort-split train",
        *("data.open_faces", "export.strangers.draw_strangers"),
    )
    has(seen, draw_strangers__name="faces", open_faces__split="train", open_faces__path=str(places["FACES"]))
    seen = reach(
        "export RUN --out OUT --calibration FACES --no-cohort --quality DETECTOR", "export.pipeline.export_bundle"
    )
    has(seen.export_bundle, strangers=None, settings__quality=places["DETECTOR"].read_bytes())
    seen = reach(
        "export --onnx net.onnx --out OUT --calibration FACES --output emb --set-input train=0",
        "commands.labelled.foreign_choices",
    )
    has(seen.foreign_choices, output="emb", set_inputs=["train=0"])


def test_export_of_a_detector(reach):
    seen = reach("export RUN --task detect --out OUT --calibration FACES --max-side 320", "commands.detection.export")
    has(seen.export.asked, max_side=320)


def test_calibrate(reach, tmp_path):
    keys = "--require-key a.pub --require-key b.pub"
    seen = reach(f"calibrate BUNDLE --data FACES --in-place {keys}", "runtime.bundle.open_bundle")
    has(seen, open_bundle__require_keys=KEYS)


def test_calibrate_reads_people(reach):
    seen = reach(
        "calibrate BUNDLE --data FACES --split train --in-place --fmr 0.5 --each 3 --check-crops --without a "
        "--largest --name N",
        *("data.open_faces", "export.recalibration.check_people", "export.people.gather_people"),
    )
    has(seen, open_faces__split="train", check_people__name="N")
    has(seen.gather_people, each=3, check_crops=True, without=["a"], largest=True)
    seen = reach("calibrate BUNDLE --data FACES --in-place --fmr 0.5 --no-largest", "export.people.gather_people")
    has(seen.gather_people, largest=False, check_crops=False)


def test_calibrate_opens_networks(reach):
    seen = reach(
        "calibrate BUNDLE --data FACES --in-place --fmr 0.5 --provider cpu --threads 2",
        "runtime.embedder.bundle_embedder",
    )
    has(seen.bundle_embedder, provider="cpu", threads=2)


def test_calibrate_draws_a_cohort(reach):
    seen = reach(
        "calibrate BUNDLE --data FACES --out OUT --fmr 0.5 --cohort FACES --cohort-split train --seed 3",
        "export.strangers.draw_strangers",
    )
    has(seen, draw_strangers__seed=3, draw_strangers__name="faces")


def test_verify(reach):
    seen = reach(
        "verify PICTURE PICTURE --threads 2 --fmr 0.01 --require-key a.pub --require-key b.pub --no-largest", RECOGNIZER
    )
    has(seen.open_recognizer, threads=2, fmr=0.01, require_keys=KEYS)


@pytest.mark.parametrize("option", ["--largest", "--no-largest"])
def test_verify_takes_the_largest_face_or_not(reach, option):
    asked = "verify PICTURE PICTURE --bundle BUNDLE --detector DETECTOR --no-largest"
    seen = reach(asked.replace("--no-largest", option), "runtime.portrait.one_face")
    has(seen.one_face, largest=option == "--largest")


@pytest.mark.parametrize("command", ["enroll", "gallery add"])
def test_enroll(reach, command):
    asked = "enroll Ada --image PICTURE --provider cpu --require-key a.pub --require-key b.pub"
    has(reach(asked.replace("enroll", command), RECOGNIZER).open_recognizer, provider="cpu", require_keys=KEYS)
    seen = reach(f"{command} Ada --image PICTURE --gallery-key k.key", "runtime.gallery.key.find_key")
    has(seen.find_key, where="k.key")


@pytest.mark.parametrize(("option", "largest"), [("--largest", True), ("--no-largest", False)])
def test_enroll_takes_the_largest_face_or_not(reach, option, largest):
    asked = "enroll Ada --image PICTURE --bundle BUNDLE --detector DETECTOR --gallery OUT --no-largest"
    seen = reach(asked.replace("--no-largest", option), "runtime.enrolling.enrolment.file_portraits")
    has(seen.file_portraits, largest=largest)


@pytest.mark.parametrize(("option", "windows"), [("--show", 1), ("--headless", 0)])
def test_windows(reach, monkeypatch, option, windows):
    opened = []
    monkeypatch.setattr("edgeface.runtime.showing.display.has_display", lambda: True)
    monkeypatch.setattr("edgeface.runtime.showing.display.Window", lambda *name: opened.append(name))

    def window(*name):
        opened.append(name)
        return Closing()

    source = "--source FOLDER --bundle BUNDLE --detector DETECTOR --gallery GALLERY"
    enroll = [f"enroll Ada {source} --show", f"enroll Ada {source} --headless"][1 - windows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeface.runtime.showing.display.Window", window)
        reach(enroll, "runtime.enrolling.enrolment.enroll")
    run = [f"run {source} --show", f"run {source} --headless"][1 - windows]
    reach(run, "runtime.loop.run")
    assert len(opened) == 2 * windows


class Closing:
    def close(self):
        pass


def test_run_opens_a_recognizer(reach):
    seen = reach(
        "run --camera 0 --provider cuda --device 1 --memory-limit 500 --provider-library mine=/x.so --build-engines "
        "--no-cuda-graph --threads 2 --min-face 30 --detect-size 320 --require-key a.pub --require-key b.pub",
        RECOGNIZER,
    )
    has(seen.open_recognizer, threads=2, min_face=30.0, max_side=320, require_keys=KEYS)
    choice = seen.open_recognizer.provider
    has(choice, name="cuda", device=1, memory_limit_mb=500, build_engines=True, cuda_graph=False)
    assert choice.libraries == (PluginLibrary.parse("mine=/x.so"),)
    assert reach("run --camera 0 --cuda-graph", RECOGNIZER).open_recognizer.provider.cuda_graph is True


OPEN = "--bundle BUNDLE --detector DETECTOR --gallery GALLERY"


def test_run_opens_a_gallery(reach):
    seen = reach(f"run --camera 0 {OPEN} --gallery-key k.key", "runtime.gallery.key.find_key")
    has(seen.find_key, where="k.key")


def test_run_opens_a_camera(reach):
    seen = reach(
        f"run --camera 7 {OPEN} --size 640x480 --fps 15 --rotate 90 --mirror --crop 0,0,200,100 --no-reconnect "
        "--max-away 9 --wait-for-camera --open-timeout 3 --read-timeout 4 --frozen-after 8 --min-fps 2",
        "runtime.cameras.capture.open_frames",
    )
    has(seen.open_frames, spec="camera:7", asked=Asked((640, 480), 15.0), view=View(90, True, (0, 0, 200, 100)))
    has(seen.open_frames.live, reconnect=False, give_up_after_s=9.0, wait_at_start=True, open_timeout_s=3.0)
    has(seen.open_frames.live, read_timeout_s=4.0, watch__frozen_after_s=8.0, watch__min_fps=2.0)
    seen = reach(f"run --camera 7 {OPEN} --reconnect", "runtime.cameras.capture.open_frames")
    assert seen.open_frames.live.reconnect and not seen.open_frames.live.any_certificate
    seen = reach(f"run --source https://c/ {OPEN} --any-certificate", "runtime.cameras.capture.open_frames")
    assert seen.open_frames.live.any_certificate
    enroll = "enroll Ada --source https://c/ --bundle BUNDLE --detector DETECTOR --any-certificate"
    assert reach(enroll, "runtime.cameras.capture.open_frames").open_frames.live.any_certificate


def test_run_decides(reach):
    seen = reach(
        f"run --source FOLDER {OPEN} --votes 4 --window 6 --within 2.5 --cooldown 7 --miss 0.02 --correlation 0.5 "
        "--min-margin 0.1 --min-face 33 --max-looks 3 --max-frames 9 --decision votes --max-age 3",
        "runtime.loop.run",
    )
    settings = seen.run.settings
    has(settings.decision, votes=4, window=6, within_s=2.5, cooldown_s=7.0, miss=0.02, correlation=0.5, min_margin=0.1)
    has(settings, gate__compare__min_size_px=33.0, attention__max_looks=3, max_frames=9, max_age_s=3.0)


def test_run_looks_for_life(reach):
    seen = reach(
        f"run --source FOLDER {OPEN} --liveness passive --liveness-network fas.onnx",
        "commands.watching.liveness_check",
    )
    has(seen.liveness_check, mode=Liveness.passive, network=Path("fas.onnx"))


def test_run_tells(reach):
    seen = reach(
        f"run --source FOLDER {OPEN} --record r.avi --record-minutes 5 --events e --events-max-bytes 100 "
        "--events-keep 2 --events-sync --on-event lost=true --hook-timeout 3 --webhook https://w --mqtt mqtts://m/t "
        "--late-match drop --outbox o.db --outbox-max-bytes 200 --flush 1 --snapshots s --snapshots-keep 3 "
        "--snapshots-of frame --snapshots-unknown --snapshots-show-others --sink a:B?c=1 --quiet",
        "commands.outputs.Outputs",
    )
    options = seen.Outputs.options
    has(options, record_minutes=5.0, events_max_bytes=100, events_keep=2, events_sync=True, on_event=["lost=true"])
    has(options, hook_timeout=3.0, webhook="https://w", mqtt="mqtts://m/t", outbox=Path("o.db"), outbox_max_bytes=200)
    has(options, late_match="drop", flush=1.0, snapshots=Path("s"), snapshots_keep=3, snapshots_of="frame")
    has(options, snapshots_unknown=True, snapshots_show_others=True, sink=["a:B?c=1"], quiet=True)


def test_bench(reach, places):
    seen = reach(
        "bench --bundle BUNDLE --precision fp32 --device 1 --memory-limit 500 --provider-library mine=/x.so "
        "--build-engines --no-cuda-graph --faces 4 --image PICTURE",
        "runtime.bench.measure",
    )
    has(seen.measure, precisions=("fp32",), faces=4, frame__shape=(112, 112, 3))
    choice = seen.measure.choice
    has(choice, device=1, memory_limit_mb=500, build_engines=True, cuda_graph=False)
    assert choice.libraries == (PluginLibrary.parse("mine=/x.so"),)
    assert reach("bench --bundle BUNDLE --cuda-graph", "runtime.bench.measure").measure.choice.cuda_graph
    seen = reach("bench --require-key a.pub --require-key b.pub", "runtime.bundle.open_bundle")
    has(seen.open_bundle, require_keys=KEYS)


def test_doctor(reach):
    seen = reach("doctor --device 1 --gallery-key k.key", "runtime.doctor.examine")
    has(seen.examine, choice__device=1, gallery_key="k.key")


def test_warm(reach):
    keys = "--require-key a.pub --require-key b.pub"
    has(reach(f"bundle warm BUNDLE {keys}", "runtime.bundle.open_bundle").open_bundle, require_keys=KEYS)


def test_warm_builds(reach):
    seen = reach(
        "bundle warm BUNDLE --provider cuda --device 1 --memory-limit 500 --detect-size 320 --quiet",
        *(PROGRESS, "runtime.providers.warming.warm"),
    )
    has(seen.warm, choice__name="cuda", choice__device=1, choice__memory_limit_mb=500, max_side=320)
    has(seen.progress, quiet=True)


def test_liveness(reach):
    base = "liveness test fas.onnx --attacks FACES --bona-fide FACES"
    seen = reach(f"{base} --threads 3 --provider cpu", "runtime.liveness.spoofing.open_spoof_detector")
    has(seen.open_spoof_detector, threads=3, provider="cpu")


def test_liveness_looks_with_a_detector_and_a_threshold(reach, monkeypatch, places):
    monkeypatch.setattr("edgeface.runtime.signature.refuse_loose", lambda *_: None)
    monkeypatch.setattr("edgeface.runtime.liveness.spoofing.open_spoof_detector", lambda *_, **__: None)
    base = "liveness test fas.onnx --attacks FACES --bona-fide FACES"
    seen = reach(
        f"{base} --threshold 0.7 --detector DETECTOR",
        *("runtime.detection.detector.open_detector", "runtime.liveness.attacks.run_attacks"),
    )
    has(seen, run_attacks__threshold=0.7, open_detector__name=str(places["DETECTOR"]))


def test_data(reach):
    seen = reach(
        "data check FACES --crops 5 --split train --workers 2 --quiet",
        *("data.open_faces", PROGRESS, "data.check.check_faces"),
    )
    has(seen, open_faces__split="train", progress__quiet=True, check_faces__crops=5, check_faces__workers=2)
    assert isinstance(seen.check_faces.faces, FaceSet)


def test_data_align(reach):
    seen = reach(
        "data align FACES OUT --format webp --quality 80 --min-score 0.7 --min-face 50 --max-side 320 --workers 2 "
        "--quiet",
        *(PROGRESS, "runtime.detection.detector.open_detector", "data.alignment.align_photographs"),
    )
    has(seen.align_photographs.settings, suffix=".webp", quality=80, min_score=0.7, min_size_px=50.0)
    has(seen, align_photographs__workers=2, progress__quiet=True, open_detector__max_side=320)


def test_data_pack(reach):
    seen = reach(
        "data pack FACES OUT --shard-mib 0.5 --prefix p --split train --workers 2 --quiet",
        *("data.open_faces", PROGRESS, "data.packing.pack_faces"),
    )
    has(seen, open_faces__split="train", progress__quiet=True)
    has(seen.pack_faces, shard_bytes=1 << 19, prefix="p", workers=2)


def test_data_teach(reach, places):
    seen = reach(
        "data teach FACES OUT --teacher BUNDLE --seed 3 --threads 2 --workers 2 --allow-plugin a:B --quiet",
        *("evaluation.models.open_model", PROGRESS, "data.views.teach_faces"),
    )
    has(seen, open_model__path=places["BUNDLE"], open_model__threads=2, progress__quiet=True)
    has(seen, open_model__allow_plugins=["a:B"])
    has(seen, teach_faces__seed=3, teach_faces__workers=2)


def test_fetch(reach):
    seen = reach("bundle fetch yunet-2023mar --accept-licence --out OUT --quiet", PROGRESS)
    has(seen.progress, quiet=True)
