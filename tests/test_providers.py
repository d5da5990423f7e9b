"""Providers: what was asked for runs, or one line says what is missing; and what runs says how much of it does."""

import ctypes
import json
import logging
import os
import struct
import sys
import tempfile
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.errors import BundleError, ConfigError, ProviderError, UnknownNameError
from edgeface.runtime.bench import measure
from edgeface.runtime.bundle import BUILT_IN_DETECTOR, open_bundle
from edgeface.runtime.detection.detector import open_detector
from edgeface.runtime.embedder import bundle_embedder, open_embedder
from edgeface.runtime.providers import plugins, provider_errors
from edgeface.runtime.providers.assignment import Assignment, profiled
from edgeface.runtime.providers.binding import BoundRunner
from edgeface.runtime.providers.choice import PluginLibrary, ProviderChoice
from edgeface.runtime.providers.elf import needed_libraries
from edgeface.runtime.providers.provider_errors import (
    explain,
    installed_wheels,
    library_path,
    load_errors,
    not_installed,
)
from edgeface.runtime.providers.session import Session, open_session, provider_status
from edgeface.runtime.providers.table import PROVIDERS, Setup
from tests.fake_onnxruntime import CPU, CUDA, NO_CUDNN, TENSORRT, FakeOnnxruntime, FakeSession
from tests.test_runtime_bundle import embedder_bytes, write_bundle


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Put a fake onnxruntime in the place of the real one."""

    def install(**facts):
        fake = FakeOnnxruntime(tmp_path / "onnxruntime", **facts)
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        monkeypatch.setattr(plugins, "_registered", {})
        return fake

    return install


def nodes_of(session):
    assert session.nodes is not None
    return session.nodes.nodes


def _ctypes_file():
    import _ctypes

    return _ctypes.__file__


def runner_of(session):
    assert session._runner is not None
    return session._runner


def faces(count):
    return np.random.default_rng(count).integers(0, 256, (count, 112, 112, 3), np.uint8)


class TestTruth:
    def test_a_silent_fallback_names_the_missing_library(self, pretend):
        pretend(broken={CUDA: NO_CUDNN})
        with pytest.raises(ProviderError, match=r"fell back to CPUExec.*libcudnn\.so\.9 of cuDNN is missing; pip"):
            open_session(embedder_bytes(), provider="cuda")

    def test_a_raised_error_is_not_printed_and_not_retried_on_the_cpu(self, pretend, capsys):
        fake = pretend(raises={CUDA: "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"})
        with pytest.raises(ProviderError, match="failed to load model: the NVIDIA driver is older"):
            open_session(embedder_bytes(), provider=ProviderChoice("cuda", cuda_graph=False))
        assert len(fake.opened) == 1 and capsys.readouterr().out == ""

    def test_an_absent_provider_says_what_brings_it(self):
        with pytest.raises(ProviderError, match=r"openvino is not in the installed onnxruntime.*onnxruntime-openvino"):
            open_session(embedder_bytes(), provider="openvino")

    def test_an_absent_provider_is_told_before_the_network_is_read(self):
        with pytest.raises(ProviderError, match="openvino is not in the installed onnxruntime"):
            open_session(b"no network", provider="openvino")
        with pytest.raises(BundleError):
            open_session(b"no network", provider="cpu")

    def test_auto_takes_the_best_that_works_and_warns_of_what_should_have(self, pretend, caplog):
        pretend(works=("OpenVINOExecutionProvider",), broken={CUDA: NO_CUDNN})
        session = open_session(embedder_bytes())
        assert session.provider == "openvino"
        assert "not tensorrt, qnn, coreml: not in the installed onnxruntime 1.99.0" in session.why
        assert "not cuda: provider cuda is installed but did not load" in session.why
        assert "model runs on openvino, not cuda: " in caplog.text and "libcudnn.so.9" in caplog.text
        assert "tensorrt" not in caplog.text  # nobody installed it

    def test_auto_without_any_says_why_of_each(self, pretend):
        pretend(broken={CUDA: NO_CUDNN}, raises={CPU: "no"}).works.clear()
        with pytest.raises(BundleError):
            open_session(embedder_bytes())

    def test_status_of_each(self, pretend):
        pretend(works=(CUDA,), broken={TENSORRT: "libnvinfer.so.10: cannot open shared object file: No such file"})
        found = {status.name: status for status in provider_status()}
        assert [name for name, status in found.items() if status.works] == ["cuda", "cpu"]
        assert "libnvinfer.so.10 of TensorRT is missing; pip install tensorrt" in str(found["tensorrt"].why)
        assert set(found) == set(PROVIDERS)

    def test_a_run_that_fails_is_one_line(self, pretend):
        pretend(works=("OpenVINOExecutionProvider",))
        session = open_session(embedder_bytes(), provider="openvino")

        def fail(names, feeds):
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")

        session._session.run = fail
        with pytest.raises(ProviderError, match=r"onnxruntime 1\.99\.0 failed in a run: the GPU has too little"):
            session.run({"faces": faces(1)})

    def test_names(self):
        with pytest.raises(UnknownNameError, match="auto, coreml, cpu, cuda, openvino, qnn, tensorrt, xnnpack"):
            open_session(embedder_bytes(), provider="gpu")
        with pytest.raises(ConfigError, match="--device takes a number from 0 up, got -1"):
            ProviderChoice("cuda", device=-1)


class TestShare:
    def test_few_nodes_are_warned_of(self, pretend, caplog):
        pretend(works=("XnnpackExecutionProvider",), shares={"XnnpackExecutionProvider": 1})
        session = open_session(embedder_bytes(), provider="xnnpack", name="net")
        assert nodes_of(session) == {"xnnpack": 1, "cpu": 9}
        assert "xnnpack runs only 1 of the 10 nodes of net, the rest is run by: cpu 9" in caplog.text

    def test_none_is_an_error_and_auto_goes_on(self, pretend):
        pretend(works=("OpenVINOExecutionProvider",), shares={"OpenVINOExecutionProvider": 0})
        with pytest.raises(ProviderError, match="openvino runs none of the 10 nodes of model"):
            open_session(embedder_bytes(), provider="openvino")
        assert open_session(embedder_bytes()).provider == "cpu"

    def test_all_is_not(self, pretend, caplog):
        pretend(works=("OpenVINOExecutionProvider",))
        assert open_session(embedder_bytes(), provider="openvino").nodes == Assignment({"openvino": 10})
        assert not caplog.records

    def test_the_real_one_tells_of_the_cpu(self):
        session = open_session(embedder_bytes(), provider="cpu")
        assert session.nodes is not None and set(session.nodes.nodes) == {"cpu"} and session.nodes.share("cpu") == 1

    def test_an_older_one_is_watched_at_a_run(self, pretend, monkeypatch):
        pretend(works=("OpenVINOExecutionProvider",))
        monkeypatch.delattr(FakeSession, "get_provider_graph_assignment_info")
        monkeypatch.setattr(FakeSession, "__getattr__", _older)
        # What really computes is the CPU, and the profile tells.
        with pytest.raises(ProviderError, match="openvino runs none of the"):
            open_session(embedder_bytes(), provider="openvino")

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '[{"cat": "Node"}]', "[1]", '[{"cat":"Node","args":{"provider":"X"}}]']
    )
    def test_a_profile_that_says_nothing(self, tmp_path, text):
        (tmp_path / "p.json").write_text(text)
        assert profiled(tmp_path / "p.json", {}) is None


def _older(session, name):
    if name == "get_provider_graph_assignment_info":
        raise AttributeError(name)
    return getattr(session.__dict__["_session"], name)


class TestOptions:
    def test_cuda(self, pretend):
        fake = pretend(works=(CUDA,))
        choice = ProviderChoice("cuda", device=2, memory_limit_mb=512)
        open_session(embedder_bytes(), provider=choice)
        (name, options), backup = fake.opened[0][0], fake.opened[0][1:]
        assert name == CUDA and backup == [(CPU, {})]
        assert options == {
            "device_id": "2",
            "gpu_mem_limit": "512000000",
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "do_copy_in_default_stream": "1",
            "use_tf32": "0",
            "enable_cuda_graph": "1",
        }
        assert fake.preloaded == 1

    def test_the_exhaustive_search_is_for_fixed_sizes(self):
        assert PROVIDERS["cuda"].options(Setup(fixed=True))["cudnn_conv_algo_search"] == "EXHAUSTIVE"

    def test_threads_go_to_who_computes(self, pretend):
        fake = pretend(works=("XnnpackExecutionProvider", "OpenVINOExecutionProvider"))
        open_session(embedder_bytes(), provider="xnnpack", threads=3)
        assert fake.opened[-1][0][1] == {"intra_op_num_threads": "3"}
        open_session(embedder_bytes(), provider="openvino", threads=3)
        assert fake.opened[-1][0][1] == {"device_type": "CPU", "precision": "FP32", "num_of_threads": "3"}
        open_session(embedder_bytes(), provider=ProviderChoice("openvino", device=1))
        assert fake.opened[-1][0][1]["device_type"] == "GPU.1"

    def test_fixed_sizes(self, pretend):
        fake = pretend(works=("QNNExecutionProvider",))
        embedder = open_embedder(embedder_bytes(), provider="qnn")
        assert fake.overrides == {"batch": 1} and embedder.most == 1
        expected = open_embedder(embedder_bytes(), provider="cpu").embed(faces(3))
        np.testing.assert_allclose(embedder.embed(faces(3)), expected, atol=1e-6)

    def test_everything_but_the_cpu_is_rehearsed(self, pretend):
        fake = pretend(works=("OpenVINOExecutionProvider",))
        open_session(embedder_bytes(), provider="cpu")
        assert fake.runs == []
        embedder = open_embedder(embedder_bytes(), provider="openvino")
        assert fake.runs == ["plain"] * 4 and embedder.most == 1

    def test_a_detector_of_free_size_stays_on_the_cpu(self, pretend, caplog):
        pretend(works=("CoreMLExecutionProvider",))
        assert open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="coreml").session.provider == "cpu"
        assert "detector takes pictures of any size, which coreml does not" in caplog.text
        with pytest.raises(ProviderError, match="qnn is not in the installed"):
            open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="qnn")


class TestBinding:
    def test_the_same_numbers_from_the_same_buffers(self, pretend):
        pretend(works=(CUDA,))
        embedder = open_embedder(embedder_bytes(), provider="cuda")
        runner = runner_of(embedder.session)
        plain = open_embedder(embedder_bytes(), provider="cpu")
        for count in (1, 3, 1, 3, 2):
            np.testing.assert_allclose(embedder.embed(faces(count)), plain.embed(faces(count)), atol=1e-6)
        slots = list(runner._slots.values())
        assert [slot.inputs["faces"].where for slot in slots] == [("cuda", 0)] * 3
        assert sorted(slot.graph for slot in slots) == ["1", "2", "3"]  # one recording for each shape

    def test_what_is_given_back_is_a_copy(self, pretend):
        pretend(works=(CUDA,))
        session = open_session(embedder_bytes(), provider="cuda")
        session.run({"faces": faces(1)})
        (first,) = session.run({"faces": faces(1)})
        kept = first.copy()
        session.run({"faces": 255 - faces(1)})
        np.testing.assert_array_equal(first, kept)

    def test_old_shapes_go_but_recordings_stay(self, pretend, monkeypatch):
        pretend(works=(CUDA,))
        monkeypatch.setattr("edgeface.runtime.providers.binding.MOST_SHAPES", 3)
        monkeypatch.setattr("edgeface.runtime.providers.binding.MOST_GRAPHS", 2)
        embedder = open_embedder(embedder_bytes(), provider="cuda")
        for count in (1, 2, 3, 4, 5):
            embedder.embed(faces(count))
        slots = runner_of(embedder.session)._slots
        assert [slot.graph for slot in slots.values()] == ["1", "2", "-1"]
        assert [key[0][1][0] for key in slots] == [1, 2, 5]

    def test_without_recordings_where_they_are_refused(self, pretend):
        fake = pretend(works=(CUDA,))
        fake.refuses_graphs = True
        session = open_session(embedder_bytes(), provider="cuda")
        assert session.provider == "cuda" and not runner_of(session).graphs
        assert set(fake.runs) == {"bound"}

    def test_without_recordings_where_they_say_something_else(self, pretend):
        fake = pretend(works=(CUDA,))
        fake.graph_says_otherwise = True
        assert not runner_of(open_session(embedder_bytes(), provider="cuda")).graphs

    def test_switched_off(self, pretend):
        fake = pretend(works=(CUDA,))
        open_session(embedder_bytes(), provider=ProviderChoice("cuda", cuda_graph=False))
        assert "enable_cuda_graph" not in fake.opened[-1][0][1]

    @pytest.mark.parametrize("graphs", [False, True])
    def test_on_the_real_one(self, graphs):
        session = open_session(embedder_bytes(), provider="cpu")
        bound = BoundRunner(onnxruntime, session._session, ["embeddings"], "cpu", 0, graphs)
        for count in (1, 3, 1, 3):
            (got,) = bound.run({"faces": faces(count)})
            (expected,) = session.run({"faces": faces(count)})
            np.testing.assert_array_equal(got, expected)


class TestPrecision:
    def test_int8_never_runs_on_cuda(self, pretend, tmp_path):
        bundle = open_bundle(write_bundle(tmp_path / "b"))
        pretend(works=(CUDA,))
        with pytest.raises(ProviderError, match="int8 is not run on cuda: it has no quantized convolutions"):
            bundle_embedder(bundle, precision="int8", provider="cuda")
        embedder, precision = bundle_embedder(bundle)
        assert (embedder.session.provider, precision) == ("cuda", "fp32")
        embedder, precision = bundle_embedder(bundle, precision="int8")
        assert (embedder.session.provider, precision) == ("cpu", "int8")

    def test_each_provider_gets_its_own(self, pretend, tmp_path):
        bundle = open_bundle(write_bundle(tmp_path / "b"))
        pretend(works=("QNNExecutionProvider", "OpenVINOExecutionProvider"))
        assert bundle_embedder(bundle, provider="qnn")[1] == "int8"
        assert bundle_embedder(bundle, provider="openvino")[1] == "fp32"
        assert bundle_embedder(bundle, provider="cpu")[1] == "int8"  # the fastest one measured


class TestMessages:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("libcublasLt.so.12: cannot open shared object file: No such file", "libcublasLt.so.12 of CUDA is missing"),
            ('depends on "cudnn64_9.dll" which is missing. (Error 126)', "cudnn64_9.dll of cuDNN is missing"),
            ("libnvonnxparser.so.10: cannot open shared object file", "of TensorRT is missing; pip install tensorrt"),
            ("libcuda.so.1: cannot open shared object file", "of the NVIDIA driver is missing"),
            ("libfoo.so.3: cannot open shared object file", "libfoo.so.3 is missing; install what it belongs to"),
            ("CUDA failure 100: no CUDA-capable device is detected ; GPU=0", "there is no NVIDIA GPU"),
            ("invalid device ordinal", "choose another one with --device"),
            ("x.so: undefined symbol: cudnnFoo", "another version than this onnxruntime was built for"),
            ("[ONNXRuntimeError] : 1 : FAIL : anything\nelse", "anything else"),
        ],
    )
    def test_each(self, text, says):
        assert says in explain([text])

    def test_the_library_is_looked_for_in_all_of_it(self):
        assert "libcudnn.so.9" in explain(["something else", "", f"long before {NO_CUDNN}"])
        assert explain([]) == explain(["", " \n"]) == ""

    @given(st.lists(st.text(), max_size=4))
    def test_always_one_line(self, texts):
        assert len(explain(texts).splitlines()) <= 1

    def test_both_wheels(self, monkeypatch):
        row = PROVIDERS["cuda"]
        said = not_installed(row, "1.0", ("onnxruntime", "onnxruntime-gpu"))
        assert "onnxruntime and onnxruntime-gpu are installed: they overwrite each other; uninstall them all" in said
        assert "cuda is not in the installed onnxruntime 1.0" in not_installed(row, "1.0", ("onnxruntime",))

    def test_wheels_that_bring_the_folder(self, monkeypatch):
        files = {
            "onnxruntime": "onnxruntime/__init__.py,sha256=0,1\n",
            "onnxruntime-gpu": None,
            "onnxruntime-qnn": "onnxruntime_qnn/onnxruntime/__init__.py,,\n",  # a plugin
        }

        def distribution(name):
            if name not in files:
                raise metadata.PackageNotFoundError(name)
            return SimpleNamespace(read_text=lambda _: files[name])

        monkeypatch.setattr(metadata, "distribution", distribution)
        assert installed_wheels() == ("onnxruntime", "onnxruntime-gpu")

    def test_needed_libraries_are_tried_one_by_one(self, pretend, monkeypatch):
        fake, row = pretend(works=(CUDA,)), PROVIDERS["cuda"]
        assert "is not in the folder of onnxruntime" in explain(load_errors(fake, row))
        library_path(fake, row.library).write_bytes(b"")
        needed = ("libcudart.so.997", "libcublas.so.998", "libcudnn.so.999", "libm.so.6", "libsomething.so.1")
        monkeypatch.setattr(provider_errors, "needed_libraries", lambda library: needed)
        said = explain(load_errors(fake, row))
        assert (
            "the libraries libcudart.so.997, libcublas.so.998 of CUDA and libcudnn.so.999 of cuDNN are missing" in said
        )
        assert load_errors(fake, PROVIDERS["cpu"]) == ()

    def test_what_an_extension_of_python_needs(self):
        found = needed_libraries(Path(_ctypes_file()))
        assert any(name.startswith("libc.so") for name in found)
        for name in found:
            ctypes.CDLL(name)

    def test_a_library_made_by_hand(self, tmp_path):
        strings = b"\0liba.so.1\0libunused.so\0libb.so\0"
        base, table, dynamic = 0x1000, 200, 300  # the file is loaded at `base`
        entries = [(1, strings.index(b"liba")), (14, strings.index(b"libunused")), (1, strings.index(b"libb"))]
        words = [*entries, (5, base + table), (0, 0), (1, 1)]
        content = bytearray(500)
        content[:64] = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
        )
        content[64:176] = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, 500, 500, 0x1000) + struct.pack(
            "<IIQQQQQQ", 2, 6, dynamic, base + dynamic, 0, 16 * len(words), 0, 8
        )
        content[table : table + len(strings)] = strings
        content[dynamic : dynamic + 16 * len(words)] = b"".join(struct.pack("<QQ", *word) for word in words)
        (tmp_path / "made.so").write_bytes(content)
        assert needed_libraries(tmp_path / "made.so") == ("liba.so.1", "libb.so")
        content[4] = 1  # 32 bits
        (tmp_path / "made.so").write_bytes(content)
        assert needed_libraries(tmp_path / "made.so") == () == needed_libraries(tmp_path / "none.so")

    @given(st.binary(max_size=400), st.integers(0, 200))
    def test_any_bytes_need_nothing(self, data, cut):
        header = b"\x7fELF\x02\x01".ljust(16, b"\0")
        with tempfile.TemporaryDirectory() as folder:
            for content in (data, header + data, Path(_ctypes_file()).read_bytes()[:cut]):
                (Path(folder) / "x.so").write_bytes(content)
                assert isinstance(needed_libraries(Path(folder) / "x.so"), tuple)

    def test_without_a_gpu_that_is_the_reason(self, pretend, monkeypatch):
        pretend(broken={CUDA: ""})
        monkeypatch.setattr("edgeface.runtime.providers.opening.load_errors", lambda onnxruntime, row: ())
        monkeypatch.setattr("edgeface.runtime.providers.provider_errors.overheard", lambda onnxruntime: nullcontext([]))
        monkeypatch.setattr("edgeface.runtime.providers.opening.overheard", lambda onnxruntime: nullcontext([]))
        with pytest.raises(ProviderError, match="there is no NVIDIA GPU 3 that this process may use"):
            open_session(embedder_bytes(), provider=ProviderChoice("cuda", device=3))


class TestLibraries:
    @pytest.fixture
    def library(self, tmp_path):
        path = tmp_path / "libep.so"
        path.write_bytes(b"a library")
        path.chmod(0o755)
        return path

    @pytest.fixture
    def fake(self, pretend):
        fake = pretend()
        fake.brings["mine"] = [SimpleNamespace(ep_name="MineEP", number=n) for n in range(2)]
        return fake

    def choice(self, path, name="mine", **more):
        return ProviderChoice(name, libraries=(PluginLibrary("mine", path),), **more)

    def test_what_the_user_names_is_loaded_once_and_runs(self, fake, library):
        session = open_session(embedder_bytes(), provider=self.choice(library, device=1))
        assert session.provider == "mine" and nodes_of(session) == {"mine": 10}
        assert fake.registered == {"mine": str(library)} and fake.picked[0][0].number == 1
        del fake.brings["mine"]  # a second registration would fail
        assert open_session(embedder_bytes(), provider=self.choice(library, "auto")).provider == "mine"

    def test_nothing_else_is_loaded(self, fake, library):
        open_session(embedder_bytes(), provider="cpu")
        assert not fake.registered

    def test_devices_that_are_not_there(self, fake, library):
        with pytest.raises(ProviderError, match="provider mine has 2 devices here, no number 2"):
            open_session(embedder_bytes(), provider=self.choice(library, device=2))

    @pytest.mark.parametrize("place", ["library", "folder"])
    def test_libraries_that_others_can_write(self, fake, library, place):
        (library if place == "library" else library.parent).chmod(0o777)
        with pytest.raises(ProviderError, match="can be written by others"):
            open_session(embedder_bytes(), provider=self.choice(library))
        assert not fake.registered

    @pytest.mark.parametrize(("name", "says"), [("none.so", "No such file"), ("", "is not a file")])
    def test_what_is_no_library(self, fake, library, name, says):
        with pytest.raises(ProviderError, match=says):
            open_session(embedder_bytes(), provider=self.choice(library.parent / name))

    def test_libraries_that_do_not_load(self, fake, library):
        fake.brings.clear()
        with pytest.raises(ProviderError, match=r"libep.so does not load: .*another version"):
            open_session(embedder_bytes(), provider=self.choice(library))

    def test_libraries_without_a_device(self, fake, library):
        fake.brings["mine"] = []
        with pytest.raises(ProviderError, match="found no device of its kind here"):
            open_session(embedder_bytes(), provider=self.choice(library))

    @pytest.mark.parametrize("text", ["", "name", "=path", "name=", "a b=path", "cuda=path", "auto=path"])
    def test_options_that_make_no_sense(self, text):
        with pytest.raises(ConfigError, match="--provider-library"):
            PluginLibrary.parse(text)

    def test_the_option(self, fake, library, tmp_path):
        options = ["doctor", "--provider-library", f"mine={library}", "--json"]
        report = json.loads(CliRunner().invoke(app, options).stdout)
        assert report["providers"][0] == {"name": "mine", "works": True, "why": None}

    def test_the_real_one_refuses_what_is_no_library(self, library):
        with pytest.raises(ProviderError, match=r"libep\.so does not load: .+"):
            open_session(embedder_bytes(), provider=self.choice(library))

    def test_an_onnxruntime_that_takes_none(self, monkeypatch, library):
        monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__="1.20.0"))
        with pytest.raises(ProviderError, match="takes no provider libraries"):
            plugins.register(sys.modules["onnxruntime"], PluginLibrary("mine", library))


class TestReports:
    def test_bench_says_what_runs_where(self, pretend, tmp_path):
        bundle = open_bundle(write_bundle(tmp_path / "b"))
        pretend(works=(CUDA,), shares={CUDA: 2})
        result = measure(bundle, np.full((160, 200, 3), 100, np.uint8), runs=10)
        rows = {(row.precision, row.provider): row.nodes for row in result.rows if row.stage == "embed"}
        assert rows["fp32", "cuda"] == {"cuda": 2, "cpu": 8} and ("int8", "cuda") not in rows
        assert any("cuda runs only 2 of the 10 nodes of embed fp32" in warning for warning in result.warnings)
        assert any(reason.startswith("int8 on cuda: ") for reason in result.skipped)
        assert "tensorrt, qnn, coreml, openvino, xnnpack: not in the installed onnxruntime 1.99.0" in result.skipped

    def test_doctor_too(self, pretend, tmp_path):
        path = write_bundle(tmp_path / "b")
        pretend(works=(CUDA,), shares={CUDA: 2}, broken={TENSORRT: "libnvinfer.so.10: cannot open shared object file"})
        report = json.loads(CliRunner().invoke(app, ["doctor", "--bundle", str(path), "--json"]).stdout)
        rows = {(row["network"], row["provider"]): row for row in report["bundle"]["placement"]}
        assert rows["fp32", "cuda"]["nodes"] == {"cuda": 2, "cpu": 8} and "only 2 of" in rows["fp32", "cuda"]["why"]
        assert "int8 is not run on cuda" in rows["int8", "cuda"]["why"]
        assert rows["int8", "cpu"]["nodes"] and rows["int8", "cpu"]["why"] is None
        text = CliRunner().invoke(app, ["doctor", "--bundle", str(path)]).stdout
        assert "fp32 on cuda: 2 nodes on cuda, 8 nodes on cpu; cuda runs only 2" in text
        assert "provider tensorrt: no: " in text and "libnvinfer.so.10" in text

    def test_doctor_runs_what_a_bundle_has(self, tmp_path, monkeypatch):
        path = write_bundle(tmp_path / "b")

        def fail(self, feeds):
            raise ProviderError("provider cpu of onnxruntime 1.22.0 failed in a run: QGemm")

        monkeypatch.setattr(Session, "run", fail)
        report = json.loads(CliRunner().invoke(app, ["doctor", "--bundle", str(path), "--json"]).stdout)
        assert report["bundle"] == {"ok": False, "why": "provider cpu of onnxruntime 1.22.0 failed in a run: QGemm"}

    def test_doctor_says_of_two_wheels(self, monkeypatch):
        monkeypatch.setattr("edgeface.runtime.doctor.installed_wheels", lambda: ("onnxruntime", "onnxruntime-gpu"))
        report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
        assert report["wheels"]["ok"] is False and "overwrite each other" in report["wheels"]["why"]

    def test_caches(self, tmp_path):
        root = tmp_path / "cache" / "edgeface"
        (root / "tensorrt" / "a").mkdir(parents=True)
        (root / "tensorrt" / "a" / "x.engine").write_bytes(b"12345")
        (root / "speed-1.json").write_text("{}")
        (root / "other").write_text("not ours")
        report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
        assert [(cache["files"], cache["bytes"]) for cache in report["caches"]] == [(1, 2), (1, 5)]
        freed = json.loads(CliRunner().invoke(app, ["doctor", "--clear-cache", "--json"]).stdout)
        assert freed == {"schema": 1, "freed_bytes": 7} and os.listdir(root) == ["other"]


def test_logging_is_quiet_when_all_is_well(caplog):
    with caplog.at_level(logging.WARNING):
        open_session(embedder_bytes(), provider="cpu")
    assert not caplog.records
