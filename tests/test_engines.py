"""TensorRT engines: built ahead, kept for exactly what they were built for, and never half."""

import ctypes
import json
import os
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import BundleError, ConfigError, ProviderError
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle
from edgeface.runtime.detection.detector import open_detector
from edgeface.runtime.embedder import bundle_embedder, open_embedder
from edgeface.runtime.providers import engines, gpu
from edgeface.runtime.providers.choice import ProviderChoice
from edgeface.runtime.providers.engines import MARK, EngineFacts, EngineStore
from edgeface.runtime.providers.gpu import Gpu, find_gpu, tensorrt_version
from edgeface.runtime.providers.warming import warm
from tests.fake_onnxruntime import CUDA, TENSORRT, FakeOnnxruntime
from tests.test_runtime_bundle import embedder_bytes, write_bundle

ORIN = Gpu("Orin", "8.7", "CUDA 12.6")
BUILD = ProviderChoice("tensorrt", build_engines=True)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgeface" / "tensorrt"


@pytest.fixture
def fake(tmp_path, monkeypatch, root):
    """An onnxruntime with TensorRT on an Orin."""
    fake = FakeOnnxruntime(tmp_path / "onnxruntime", works=(TENSORRT, CUDA))
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(engines, "find_gpu", lambda device: ORIN)
    monkeypatch.setattr(engines, "tensorrt_version", lambda library: "101300")
    return fake


def facts(**changes):
    shapes = {"trt_profile_min_shapes": "faces:1x112x112x3"}
    return replace(EngineFacts("0" * 64, "1.32.0", "101300", ORIN, "fp16", shapes, None), **changes)


@contextmanager
def building(store, known):
    """As `EngineStore.building`, where nobody else is at it."""
    with store.building(known) as folder:
        assert folder is not None
        yield folder


def build(store, known):
    with store.building(known) as folder:
        if folder is not None:
            (folder / "a.engine").write_bytes(b"engine")
            (folder / "cache.timing").write_bytes(b"timing")
    return folder


class TestStore:
    def test_what_was_built_is_found(self, root):
        store = EngineStore(root)
        assert store.find(facts()) is None
        build(store, facts())
        folder = store.find(facts())
        assert folder is not None and (folder / "a.engine").read_bytes() == b"engine"
        assert os.stat(folder).st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        "change",
        [
            {"model": "1" * 64},
            {"onnxruntime": "1.33.0"},
            {"tensorrt": "101400"},
            {"gpu": Gpu("Xavier", "8.7", "CUDA 12.6")},
            {"gpu": Gpu("Orin", "7.2", "CUDA 12.6")},
            {"gpu": Gpu("Orin", "8.7", "CUDA 12.7")},
            {"precision": "fp32"},
            {"shapes": {"trt_profile_min_shapes": "faces:2x112x112x3"}},
            {"limit": 1},
        ],
    )
    def test_any_change_is_another_engine(self, root, change):
        store = EngineStore(root)
        build(store, facts())
        assert store.find(facts(**change)) is None

    def test_a_build_that_fails_leaves_nothing(self, root):
        store = EngineStore(root)
        with pytest.raises(RuntimeError), building(store, facts()) as folder:
            (folder / "a.engine").write_bytes(b"half")
            raise RuntimeError
        assert store.find(facts()) is None and not list(root.rglob("*.engine"))

    def test_a_build_without_an_engine_is_an_error(self, root):
        with pytest.raises(ProviderError, match="built no engine"), EngineStore(root).building(facts()):
            pass
        assert EngineStore(root).find(facts()) is None

    def test_half_an_engine_is_none(self, root):
        store = EngineStore(root)
        build(store, facts())
        (store.folder(facts()) / MARK).unlink()
        assert store.find(facts()) is None
        assert build(store, facts()) is not None  # and is replaced

    def test_two_do_not_build_the_same(self, root):
        store, order, started = EngineStore(root), [], threading.Event()

        def second():
            started.set()
            order.append(("second", build(EngineStore(root), facts())))

        other = threading.Thread(target=second)
        with building(store, facts()) as folder:
            other.start()
            started.wait()
            (folder / "a.engine").write_bytes(b"engine")
            order.append(("first", folder))
        other.join()
        assert [name for name, _ in order] == ["first", "second"] and order[1][1] is None

    def test_timings_are_lent_to_the_next_network_of_the_same_machine(self, root):
        store = EngineStore(root)
        build(store, facts())
        with building(store, facts(model="1" * 64)) as folder:
            assert (folder / "cache.timing").read_bytes() == b"timing"
            (folder / "b.engine").write_bytes(b"engine")
        with building(store, facts(tensorrt="101400")) as folder:
            assert not list(folder.iterdir())
            (folder / "c.engine").write_bytes(b"engine")

    @pytest.mark.parametrize("what", ["above", "root", "folder", "engine"])
    def test_engines_that_others_can_write_are_refused(self, root, what):
        store = EngineStore(root)
        build(store, facts())
        folder = store.folder(facts())
        {"above": root.parent, "root": root, "folder": folder, "engine": folder / "a.engine"}[what].chmod(0o777)
        with pytest.raises(ProviderError, match="others can write to"):
            store.find(facts())

    def test_old_ones_go(self, root):
        store, now_s = EngineStore(root), 1e9
        kept = [
            facts(model="1" * 64),
            facts(tensorrt="9", gpu=Gpu("Xavier", "7.2", "CUDA 11.4")),  # another GPU of the same machine
        ]
        gone = [facts(tensorrt="9"), facts(onnxruntime="1.0"), facts(gpu=Gpu("Orin", "8.7", "CUDA 1.0"))]
        unused = facts(model="2" * 64)
        for known in [facts(), *kept, *gone, unused]:
            build(store, known)
            os.utime(store.folder(known) / MARK, (now_s, now_s))
        os.utime(store.folder(unused) / MARK, (now_s - 91 * 86400, now_s - 91 * 86400))
        for name, age_days in ((".killed", 2), (".building", 0)):
            (root / name).mkdir()
            os.utime(root / name, (now_s - age_days * 86400,) * 2)
        (root / "broken").mkdir()
        (root / "broken" / MARK).write_text("[]")
        assert set(store.prune(facts(), now_s)) == {
            *map(store.folder, [*gone, unused]),
            root / "broken",
            root / ".killed",
        }
        assert (root / ".building").is_dir()
        assert all(store.find(known) for known in [facts(), *kept])

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(ProviderError, match="engines cannot be kept in"),
            EngineStore(tmp_path / "file").building(facts()),
        ):
            pass


class TestSessions:
    def test_cold_engines_are_refused_by_name_and_passed_over_by_auto(self, fake, caplog):
        with pytest.raises(ProviderError, match=r"no engine for embedder on this machine yet.*edgeface bundle warm"):
            open_embedder(embedder_bytes(), provider="tensorrt")
        embedder = open_embedder(embedder_bytes())
        assert embedder.session.provider == "cuda" and "edgeface bundle warm" in caplog.text
        assert not fake.engines_built

    def test_built_once_then_found(self, fake, root):
        told: list[str] = []
        embedder = open_embedder(embedder_bytes(), provider=BUILD, announce=told.append)
        assert [re.sub(r"\d+", "N", text) for text in told] == [
            "building the TensorRT engine for embedder; this takes minutes, once",
            "the TensorRT engine for embedder is ready after N s",
        ]
        assert embedder.session.provider == "tensorrt" and embedder.session.engines is not None
        assert len(fake.engines_built) == 1 and not fake.engines_built[0].startswith(
            str(embedder.session.engines.folder)
        )
        open_embedder(embedder_bytes(), provider="tensorrt", announce=told.append)
        assert len(told) == 2 and len(fake.engines_built) == 1

    def test_options(self, fake, root):
        choice = ProviderChoice("tensorrt", device=1, memory_limit_mb=256, build_engines=True)
        embedder = open_embedder(embedder_bytes(), provider=choice, precision="fp16")
        (name, options), *backups = fake.opened[-1]
        folder = str(embedder.session.engines.folder) if embedder.session.engines else ""
        assert name == TENSORRT and options == {
            "device_id": "1",
            "trt_fp16_enable": "1",
            "trt_int8_enable": "0",
            "trt_max_workspace_size": "256000000",
            "trt_profile_min_shapes": "faces:1x112x112x3",
            "trt_profile_opt_shapes": "faces:1x112x112x3",
            "trt_profile_max_shapes": "faces:8x112x112x3",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
        assert backups == [(CUDA, {"device_id": "1"}), ("CPUExecutionProvider", {})]
        assert embedder.most == 8

    def test_a_detector_is_told_its_sizes(self, fake):
        open_detector(BUILT_IN_DETECTOR.read_bytes(), provider=BUILD, max_side=500)
        options = fake.opened[-1][0][1]
        assert options["trt_profile_min_shapes"].endswith(":1x32x32x3")
        assert options["trt_profile_opt_shapes"].endswith(":1x384x512x3")
        assert options["trt_profile_max_shapes"].endswith(":1x512x512x3")

    def test_a_build_that_fails(self, fake, root):
        fake.raises[TENSORRT] = "TensorRT EP failed to create engine from network for fused node: out of memory"
        with pytest.raises(ProviderError, match="failed to load embedder: the GPU has too little free memory"):
            open_embedder(embedder_bytes(), provider=BUILD)
        assert not list(root.rglob(MARK)) and not list(root.rglob("*.engine"))

    def test_an_engine_that_was_not_taken_is_told(self, fake, caplog):
        embedder = open_embedder(embedder_bytes(), provider=BUILD)
        assert embedder.session.engines is not None
        for path in embedder.session.engines.folder.glob("*.engine"):
            path.unlink()
        open_embedder(embedder_bytes(), provider="tensorrt")
        assert "did not take the engine kept for embedder" in caplog.text

    def test_no_gpu(self, fake, monkeypatch):
        monkeypatch.setattr(engines, "find_gpu", lambda device: None)
        with pytest.raises(ProviderError, match="there is no NVIDIA GPU 0"):
            open_embedder(embedder_bytes(), provider=BUILD)

    def test_fp16_is_for_fp16_networks(self, fake, tmp_path):
        bundle = open_bundle(write_bundle(tmp_path / "b"))
        _, precision = bundle_embedder(bundle, provider=BUILD)
        assert precision == "fp32" and fake.opened[-1][0][1]["trt_fp16_enable"] == "0"


class TestWarm:
    def test_all_that_run_will_open(self, fake, tmp_path):
        bundle = open_bundle(write_bundle(tmp_path / "b"))
        steps = []
        ready = warm(bundle, ProviderChoice("tensorrt"), advance=lambda *step: steps.append(step))
        assert [e.network for e in ready] == ["embedder fp32"] and ready[0].built_s > 0 and ready[0].bytes > 0
        assert steps == [(0, 1, "embedder fp32"), (1, 1, "")]
        assert bundle_embedder(bundle, provider="tensorrt")[0].session.provider == "tensorrt"
        assert warm(bundle, ProviderChoice("tensorrt"))[0].built_s == 0

    def test_mistakes(self, fake, tmp_path):
        bundle = open_bundle(write_bundle(tmp_path / "b"))
        with pytest.raises(ConfigError, match="cuda needs nothing built ahead; only this one does: tensorrt"):
            warm(bundle, ProviderChoice("cuda"))
        with pytest.raises(BundleError, match="has no fp16; it has: fp32, int8"):
            warm(bundle, ProviderChoice("tensorrt"), precisions=["fp16"])

    def test_the_command(self, fake, tmp_path):
        path = write_bundle(tmp_path / "b")
        first = CliRunner().invoke(app, ["bundle", "warm", str(path), "--precision", "fp32,int8"])
        assert first.exit_code == 0, first.output
        assert "building the TensorRT engine for test int8; this takes minutes, once" in first.stderr
        again = CliRunner().invoke(app, ["bundle", "warm", str(path), "--precision", "fp32,int8", "--json"])
        report = json.loads(again.stdout)
        assert [(e["network"], e["built_s"]) for e in report["engines"]] == [("embedder fp32", 0), ("embedder int8", 0)]

    def test_the_command_without_tensorrt(self, root, tmp_path):
        result = CliRunner().invoke(app, ["bundle", "warm", str(write_bundle(tmp_path / "b"))])
        assert result.exit_code == 1 and "tensorrt is not in the installed" in result.stderr


class FakeDriver:
    """libcuda of one Orin."""

    def cuInit(self, flags):
        return 0

    def cuDeviceGet(self, handle, number):
        return 0 if number == 0 else 101

    def cuDeviceGetName(self, name, length, handle):
        name.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, handle):
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = 12060
        return 0


class TestGpu:
    def test_asked_of_the_driver(self, monkeypatch, tmp_path):
        (tmp_path / "version").write_text("NVRM version:   550.54.14\nmore")
        monkeypatch.setattr(gpu, "_DRIVER_FILES", (tmp_path / "version", tmp_path / "none"))
        monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
        assert find_gpu(0) == Gpu("Orin", "8.7", "CUDA 12.6; NVRM version: 550.54.14")
        assert find_gpu(1) is None

    @pytest.mark.parametrize("answer", [SimpleNamespace(), OSError("libcuda.so.1: cannot open shared object file")])
    def test_no_driver(self, monkeypatch, answer):
        def load(name):
            if isinstance(answer, OSError):
                raise answer
            return answer

        monkeypatch.setattr(ctypes, "CDLL", load)
        assert find_gpu() is None

    def test_the_tensorrt_that_onnxruntime_needs(self, monkeypatch, tmp_path):
        needed = ("libcublas.so.13", "libnvinfer_plugin.so.10", "libnvinfer.so.10")
        monkeypatch.setattr(gpu, "needed_libraries", lambda library: needed if library.name == "ep.so" else ())
        asked = []

        def load(name):
            asked.append(name)
            return SimpleNamespace(getInferLibVersion=lambda: 101300)

        with pytest.raises(ProviderError, match=r"libnvinfer\.so\.10 of TensorRT is missing"):
            tensorrt_version(tmp_path / "ep.so")
        monkeypatch.setattr(ctypes, "CDLL", load)
        assert tensorrt_version(tmp_path / "ep.so") == "101300" and asked == ["libnvinfer.so.10"]
        with pytest.raises(ProviderError, match="is missing or needs no TensorRT"):
            tensorrt_version(tmp_path / "none.so")
