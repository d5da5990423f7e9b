"""Aligning photographs and packing shards: what comes out, twice, after a crash, and from bad input."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.data import FaceSet, InMemoryFaces, Sample, open_faces
from edgeface.data.alignment import JOURNAL, AlignReport, AlignSettings, align_photographs
from edgeface.data.names import file_names
from edgeface.data.packing import pack_faces
from edgeface.data.parallel import in_order
from edgeface.data.synthetic import crops
from edgeface.errors import ConfigError, DataError, UnknownNameError
from edgeface.faces import TEMPLATE, align
from edgeface.images import encode_image, read_image, write_image
from edgeface.runtime.detection.detections import Detections


class SeesColour:
    """Finds a face wherever the first pixel says: red many, at fixed places."""

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, image: np.ndarray) -> Detections:
        self.calls += 1
        count = int(image[0, 0, 0])
        boxes = np.array([[0, 0, 60, 60], [70, 70, 50, 50], [140, 140, 20, 20]], np.float32)[:count]
        landmarks = np.stack([TEMPLATE * 0.5 + box[:2] for box in boxes]) if count else np.zeros((0, 5, 2))
        return Detections(boxes, np.linspace(0.9, 0.7, count, dtype=np.float32), landmarks.astype(np.float32))


@pytest.fixture
def photographs(tmp_path: Path) -> FaceSet:
    """Al with one face, Bo with three and with none, one broken file; 200 x 200."""
    rng = np.random.default_rng(0)
    for name, count in (("Al/1", 1), ("Bo/1", 3), ("Bo/2", 0), ("Cy/1", 2)):
        image = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        image[0, 0, 0] = count
        write_image(tmp_path / "raw" / f"{name}.png", image)
    (tmp_path / "raw" / "Cy" / "2.jpg").write_bytes(b"\xff\xd8junk")
    return open_faces(tmp_path / "raw")


def run(photographs: FaceSet, out: Path, detector: SeesColour, **options: object) -> AlignReport:
    settings = AlignSettings(suffix=".png", **options)  # type: ignore[arg-type]
    return align_photographs(photographs, out, detector, settings, measure=lambda c, b, p: {"size_px": float(b[2])})


def test_crops_and_report(photographs: FaceSet, tmp_path: Path) -> None:
    report = run(photographs, tmp_path / "out", SeesColour())
    assert (report.photographs, report.aligned, report.kept, report.several) == (5, 3, 0, 2)
    assert report.no_face == ("Bo/2",)
    assert [s.key for s in report.unreadable] == ["Cy/2"]
    assert report.quality["size_px"][1] == 50
    made = open_faces(tmp_path / "out")
    assert [(s.key, s.identity) for s in made.samples] == [("Al/1", "Al"), ("Bo/1", "Bo"), ("Cy/1", "Cy")]
    image = photographs.picture(0)
    np.testing.assert_array_equal(made.read(0), align(image, (TEMPLATE * 0.5).astype(np.float32)))
    journal = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()]
    assert journal[2]["file"] == "Bo/1.png" and journal[2]["faces"] == 3


@pytest.mark.parametrize(("choice", "box"), [("largest", 0), ("central", 70), ("prominent", 70)])
def test_which_face_is_taken(photographs: FaceSet, tmp_path: Path, choice: str, box: int) -> None:
    run(photographs, tmp_path / "out", SeesColour(), choice=choice)
    expected = align(photographs.picture(1), (TEMPLATE * 0.5 + box).astype(np.float32))
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "Bo" / "1.png"), expected)


def test_small_and_uncertain_faces_are_left(photographs: FaceSet, tmp_path: Path) -> None:
    assert run(photographs, tmp_path / "a", SeesColour(), min_size_px=55.0).aligned == 3
    assert run(photographs, tmp_path / "b", SeesColour(), min_size_px=61.0).aligned == 0
    assert run(photographs, tmp_path / "c", SeesColour(), min_score=0.95).aligned == 0


def test_a_second_run_does_only_what_is_missing(photographs: FaceSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(photographs, out, SeesColour())
    detector = SeesColour()
    again = run(photographs, out, detector)
    assert detector.calls == 0
    assert again.kept == again.aligned == first.aligned
    assert (again.no_face, again.unreadable, again.quality) == (first.no_face, first.unreadable, first.quality)
    # The run before was killed: half a line in the journal, and a crop that somebody deleted.
    os.truncate(out / JOURNAL, (out / JOURNAL).stat().st_size - 5)
    (out / "Al" / "1.png").unlink()
    resumed = run(photographs, out, detector)
    assert detector.calls == 1 and resumed.kept == 2 and resumed.aligned == 3
    assert run(photographs, out, detector).kept == 3


def test_a_run_that_dies_leaves_whole_crops_only(photographs: FaceSet, tmp_path: Path) -> None:
    class Dies(SeesColour):
        def detect(self, image: np.ndarray) -> Detections:
            if image[0, 0, 0] == 3:
                raise KeyboardInterrupt
            return super().detect(image)

    with pytest.raises(KeyboardInterrupt):
        run(photographs, tmp_path / "out", Dies())
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.suffix not in (".png", ".jsonl")]
    assert run(photographs, tmp_path / "out", SeesColour()).aligned == 3


def test_folders_that_cannot_be_gone_on_with(photographs: FaceSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not empty and not of an earlier run"):
        run(photographs, tmp_path / "raw", SeesColour())
    run(photographs, tmp_path / "out", SeesColour())
    with pytest.raises(DataError, match="made with another choice"):
        run(photographs, tmp_path / "out", SeesColour(), choice="central")
    for content in (b"[1]\n", b"{\n", b""):
        (tmp_path / "out" / JOURNAL).write_bytes(content)
        with pytest.raises(DataError, match=r"is damaged|another"):
            run(photographs, tmp_path / "out", SeesColour())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        run(photographs, tmp_path / "file" / "out", SeesColour())
    with pytest.raises(UnknownNameError, match="choose one of: central"):
        AlignSettings(choice="best")
    with pytest.raises(UnknownNameError, match="format of crops"):
        AlignSettings(suffix=".gif")


class TestPack:
    @pytest.fixture
    def faces(self, tmp_path: Path) -> FaceSet:
        images, labels = crops(4, 5, seed=1)
        suffixes = (".png", ".jpg", ".webp", ".bmp")
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            write_image(tmp_path / "in" / "train" / f"Zoë {label}" / f"{index}.v1{suffixes[index % 4]}", image)
        return open_faces(tmp_path / "in")

    def test_what_is_packed_is_read(self, faces: FaceSet, tmp_path: Path) -> None:
        report = pack_faces(faces, tmp_path / "out", shard_bytes=100_000)
        packed = open_faces(tmp_path / "out")
        assert len(report.shards) > 2 and report.faces == len(packed) == len(faces)
        assert [(s.identity, s.split) for s in packed.samples] == [(s.identity, s.split) for s in faces.samples]
        for index in range(len(faces)):
            assert packed.encoded(index) == faces.encoded(index)
        sizes = [(tmp_path / "out" / name).stat().st_size for name in report.shards]
        assert max(sizes) <= 100_000 and sum(sizes) == report.size

    def test_any_tar_reader_sees_keys_as_webdataset_does(self, faces: FaceSet, tmp_path: Path) -> None:
        pack_faces(faces, tmp_path / "out")
        with tarfile.open(tmp_path / "out" / "faces-000000.tar") as tar:
            members = tar.getmembers()
        keys = [member.name.rpartition("/")[2].split(".", 1) for member in members]
        assert all(len(key) == 2 and key[1] in ("png", "jpg", "webp", "bmp", "json") for key in keys)
        assert [key[0] for key in keys[::2]] == [key[0] for key in keys[1::2]]
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}

    def test_the_same_bytes_each_time(self, faces: FaceSet, tmp_path: Path) -> None:
        for name, workers in (("a", 1), ("b", 3)):
            pack_faces(faces, tmp_path / name, shuffle=5, workers=workers)
        pack_faces(faces, tmp_path / "c", shuffle=6)
        data = [(tmp_path / name / "faces-000000.tar").read_bytes() for name in "abc"]
        assert data[0] == data[1] != data[2]
        assert sorted(s.key for s in open_faces(tmp_path / "a").samples) == sorted(
            s.key for s in open_faces(tmp_path / "c").samples
        )

    def test_broken_pictures_stay_out(self, faces: FaceSet, tmp_path: Path) -> None:
        broken = tmp_path / "in" / "train" / "Al"
        broken.mkdir()
        (broken / "x.jpg").write_bytes(b"junk")
        report = pack_faces(open_faces(tmp_path / "in"), tmp_path / "out")
        assert [s.key for s in report.unreadable] == ["train/Al/x"] and report.faces == len(faces)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "1.jpg").write_bytes(b"junk")
        with pytest.raises(DataError, match=r"no picture in .* can be read"):
            pack_faces(open_faces(tmp_path / "bad"), tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_nothing_is_overwritten(self, faces: FaceSet, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="exists already"):
            pack_faces(faces, tmp_path / "in")
        with pytest.raises(ConfigError, match="at least one byte"):
            pack_faces(faces, tmp_path / "out", shard_bytes=0)
        with pytest.raises(ConfigError, match="no file name"):
            pack_faces(faces, tmp_path / "out", prefix="../x")

    def test_faces_in_memory_and_without_identity(self, tmp_path: Path) -> None:
        images = np.arange(3 * 112 * 112 * 3, dtype=np.uint8).reshape(3, 112, 112, 3)
        pack_faces(InMemoryFaces(images, np.array([4, -1, 4])), tmp_path / "out")
        packed = open_faces(tmp_path / "out")
        assert [s.identity for s in packed.samples] == ["4", None, "4"]
        np.testing.assert_array_equal(packed.read_many(range(3)), images)

    def test_a_verification_file_becomes_shards(self, tmp_path: Path) -> None:
        pictures = [encode_image(image, ".jpg") for image in crops(2, 1, seed=1)[0]]
        (tmp_path / "x.bin").write_bytes(pickle.dumps((pictures, [False])))
        pack_faces(open_faces(tmp_path / "x.bin"), tmp_path / "out")
        packed = open_faces(tmp_path / "out")
        assert [packed.encoded(i) for i in range(2)] == pictures


@given(
    st.lists(
        st.builds(Sample, st.text(max_size=8), st.none() | st.text(max_size=6), st.sampled_from(["", "train", "../x"])),
        max_size=12,
    )
)
def test_names_stay_in_the_folder_and_are_unique(samples: list[Sample]) -> None:
    names = file_names(samples)
    assert len({name.casefold() for name in names}) == len(samples)
    for name in names:
        parts = name.split("/")
        assert not name.startswith("/") and "\\" not in name and "\0" not in name
        assert all(part and not part.startswith(".") for part in parts)
        assert "." not in parts[-1]


def test_work_is_done_in_order_and_dropped_when_it_fails() -> None:
    started = []

    def work(index: int) -> int:
        started.append(index)
        if index == 5:
            raise ValueError
        return index * index

    results = in_order(work, 1000, 2)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError):
        next(results)
    assert len(started) < 30
    assert list(in_order(abs, 3)) == [0, 1, 2]


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_commands(tmp_path: Path, photographs: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeface.runtime.detection.detector.open_detector", lambda *_, **__: SeesColour())
    (tmp_path / "d.onnx").write_bytes(b"network")
    arguments = ("data", "align", tmp_path / "raw", tmp_path / "out", "--detector", tmp_path / "d.onnx")
    facts = json.loads(invoke(*arguments, "--json"))
    assert facts["aligned"] == 3 and {"size_px", "sharpness", "yaw_deg"} <= set(facts["quality"])
    assert "3 of an earlier run" in invoke(*arguments)
    (tmp_path / "d.onnx").write_bytes(b"another network")
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and "made with another detector" in result.stderr

    facts = json.loads(invoke("data", "check", tmp_path / "out", "--against", tmp_path / "out", "--json"))
    assert facts["pictures"] == 3 and len(facts["overlap"]["pictures"]) == 3
    assert facts["single"] == ["Al", "Bo", "Cy"] and facts["unreadable"] == []
    table = invoke("data", "check", tmp_path / "out", "--detector", tmp_path / "d.onnx")
    assert "identities with one picture" in table and "crops with a face" in table

    facts = json.loads(invoke("data", "pack", tmp_path / "out", tmp_path / "shards", "--json"))
    assert facts["faces"] == 3 and facts["shards"] == ["faces-000000.tar"]
    assert "packed 3 faces" in invoke("data", "pack", tmp_path / "out", tmp_path / "more", "--shuffle", 1)
    for mistake, message in {
        ("data", "pack", str(tmp_path / "out"), str(tmp_path / "shards")): "exists already",
        ("data", "check", "/no/such"): "no faces at",
        ("data", "align", str(tmp_path / "raw"), "x", "--detector", "/no.onnx"): "face detector not found",
        ("data", "align", str(tmp_path / "raw"), "x", "--face", "best"): "unknown choice of face 'best'",
    }.items():
        result = CliRunner().invoke(app, list(mistake))
        assert result.exit_code == 1 and message in result.stderr


def test_truncated_shards_are_refused_by_check(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = 5000
        tar.addfile(info, io.BytesIO(bytes(5000)))
    (tmp_path / "a.tar").write_bytes(data.getvalue()[:3000])
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "a.tar")])
    assert result.exit_code == 1 and "a.tar is" in result.stderr and len(result.stderr.splitlines()) == 1
