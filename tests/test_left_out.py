"""Pictures that are passed over are counted by kind; broken ones end no evaluation; names may be any bytes."""

import csv
import io
import json
import logging
import os
import struct
import sys
import tarfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeface import images
from edgeface.data import InMemoryFaces, Pairs, Sample, make_pairs, open_faces, read_lfw_pairs
from edgeface.data.alignment import align_photographs
from edgeface.data.check import check_faces
from edgeface.data.faceset import Skipped, left_out
from edgeface.data.names import file_names
from edgeface.data.packing import pack_faces
from edgeface.data.usable import check_share, usable_pairs
from edgeface.errors import DataError, ImageError, SourceError
from edgeface.evaluation.assessment import Plan, assess
from edgeface.evaluation.identification import NOBODY, draw_search
from edgeface.evaluation.items import Items, Membership, face_items
from edgeface.evaluation.models import OpenModel
from edgeface.export.pipeline import LabelledPairs, _usable
from edgeface.export.quantization.calibration import draw_faces
from edgeface.files import readable_name, write_text
from edgeface.image_formats import heic
from edgeface.image_kinds import ADVICE, NO_PICTURE, READ, describe_kinds, picture_kind
from edgeface.images import decode_image, encode_image, write_image
from edgeface.runtime.cameras.sources import View, find_source
from tests import heic_pictures
from tests.test_cli import fails, run
from tests.test_runtime_bundle import write_bundle

linux = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")


def face(seed: int, size: int = 112) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 220, (8, 8, 3)).astype(np.uint8)
    noise = rng.integers(-8, 8, (size, size, 3))
    return np.asarray(np.clip(cv2.resize(small, (size, size)).astype(int) + noise, 0, 255), np.uint8)


def boxes(*names: bytes) -> bytes:
    brands = names[0] + b"\0\0\0\0" + b"".join(names)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands


def tiff(*tags: tuple[int, int]) -> bytes:
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + rows + bytes(4)


SAMPLES = {
    "JPEG": b"\xff\xd8\xff\xe0",
    "JPEG XL": b"\xff\x0a\x00",
    "HEIC": boxes(b"heic", b"mif1"),
    "AVIF": boxes(b"mif1", b"avif"),
    "video": boxes(b"isom", b"mp42"),
    "SVG": b"<?xml version='1.0'?>\n<!-- a -->\n<svg xmlns='x'>",
    "web page": b"  <!DOCTYPE html><html>",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "camera RAW": b"II*\0\x10\0\0\0CR\2\0",
    "Photoshop": b"8BPS\0\1",
    "PDF": b"%PDF-1.7",
    "PNM": b"P5\n# made by hand\n2 2\n255\n",
    "TIFF": tiff((256, 8), (257, 8)),
    "icon": b"\0\0\1\0\1\0",
    "archive": b"PK\3\4",
    "OpenEXR": b"\x76\x2f\x31\x01",
    "empty file": b"",
    "not a picture": b"hello, hello, hello",
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_kind_is_told_by_the_first_bytes(kind: str) -> None:
    assert picture_kind(SAMPLES[kind]) == kind
    assert kind in READ or ADVICE[kind]
    with pytest.raises(ImageError) as caught:
        decode_image(SAMPLES[kind], "a.jpg")
    assert caught.value.kind.endswith(kind)


def test_previews_of_raw_files_are_no_photographs() -> None:
    for raw in (
        tiff((254, 1), (256, 160), (257, 120), (330, 8)),
        tiff((256, 160), (257, 120), (50706, 1)),
        tiff((256, 160), (257, 120), (262, 32803)),
        boxes(b"crx "),
        b"FUJIFILMCCD-RAW 0201",
    ):
        assert picture_kind(raw) == "camera RAW"


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve crops of four people, and what else lies in people's folders."""
    monkeypatch.setattr(heic, "is_installed", lambda: False)
    folder = tmp_path / "mixed"
    for person in range(4):
        for number in range(3):
            write_image(folder / f"p{person}" / f"{number}.png", face(10 * person + number))
    (folder / "p0" / "x.heic").write_bytes(heic_pictures.PLAIN)
    (folder / "p0" / "y.HEIC").write_bytes(heic_pictures.PLAIN)
    (folder / "p1" / "drawing.svg").write_bytes(SAMPLES["SVG"])
    (folder / "p1" / "raw.CR2").write_bytes(SAMPLES["camera RAW"])
    (folder / "p2" / "clip.mov").write_bytes(boxes(b"qt  "))
    (folder / "p2" / "thing.bin").write_bytes(b"abc")
    (folder / "notes.txt").write_text("hello")
    (folder / "align.jsonl").write_text("{}")
    for name, form in (("a.jfif", ".jpg"), ("b.pgm", ".pgm"), ("c.gif", ".gif"), ("without suffix", ".png")):
        picture = face(77)[:, :, :1] if form == ".pgm" else face(len(name))
        (folder / "p3" / name).write_bytes(bytes(cv2.imencode(form, picture)[1]))
    return folder


KINDS = {"HEIC": 2, "SVG": 1, "camera RAW": 1, "video": 1, "not a picture": 1}


def test_a_folder_lists_by_content_and_names_the_rest(mixed: Path) -> None:
    faces = open_faces(mixed)
    assert len(faces) == 16 and {"p3/a", "p3/b", "p3/c", "p3/without suffix"} <= {s.key for s in faces.samples}
    assert len(faces.checked()) == 16
    counts = {kind: sum(one.kind == kind for one in faces.skipped) for kind in KINDS}
    assert counts == KINDS and len(faces.skipped) == sum(KINDS.values())
    text = left_out(faces.skipped)
    assert text.startswith("2 HEIC, ") and "'edgeface[heic]'" in text and "1 camera RAW" in text


def test_a_wrong_ending_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "photo.jpg").write_bytes(bytes(cv2.imencode(".webp", face(1))[1]))
    (tmp_path / "a" / "photo.heic").write_bytes(bytes(cv2.imencode(".jpg", face(2))[1]))
    assert len(open_faces(tmp_path).checked()) == 2
    (tmp_path / "a" / "page.jpg").write_bytes(SAMPLES["web page"])
    bad = open_faces(tmp_path).checked().skipped
    assert [one.kind for one in bad] == ["web page"] and "download it again" in left_out(bad)


def test_every_command_says_what_it_left_out(mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (mixed / "p0" / "cut.jpg").write_bytes(encode_image(face(5), ".jpg")[:300])
    checked = json.loads(run("data", "check", mixed, "--json").stdout)
    kinds = [one["kind"] for one in checked["unreadable"]]
    assert kinds.count("HEIC") == 2 and kinds.count("truncated JPEG") == 1
    table = run("data", "check", mixed).stdout
    assert "truncated JPEG" in table and "pip install 'edgeface[heic]'" in table
    packed = run("data", "pack", mixed, tmp_path / "packed")
    assert "left out 7 pictures: 2 HEIC" in packed.stderr and "1 truncated JPEG" in packed.stderr
    with caplog.at_level(logging.WARNING), find_source(str(mixed / "p0")).open() as source:
        assert len(list(iter(source.read, None))) == 3
    assert "2 HEIC; HEIC: install its reader" in caplog.text and "in all: 1 truncated JPEG" in caplog.text


def test_only_others_is_an_error_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "is_installed", lambda: False)
    (tmp_path / "x.heic").write_bytes(heic_pictures.PLAIN)
    with pytest.raises(DataError, match=r"no pictures under .*; left out: 1 HEIC; .*edgeface\[heic\]"):
        open_faces(tmp_path)
    with pytest.raises(SourceError, match=r"no pictures in .* \(1 other entries: 1 HEIC; .*edgeface\[heic\]"):
        find_source(str(tmp_path)).open()


def test_a_single_file_is_a_picture_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "portrait").write_bytes(bytes(cv2.imencode(".png", face(1))[1]))
    with find_source(str(tmp_path / "portrait")).open() as source:
        frame = source.read()
    assert frame is not None and frame.image.shape == (112, 112, 3)
    (tmp_path / "a.jxl").write_bytes(SAMPLES["JPEG XL"])
    with find_source(str(tmp_path / "a.jxl")).open() as source, pytest.raises(SourceError, match="but JPEG XL"):
        source.read()


def test_counting() -> None:
    assert describe_kinds(["HEIC", "SVG", "HEIC"]).startswith("2 HEIC, 1 SVG; HEIC: install")
    assert describe_kinds([NO_PICTURE]) == "1 not a picture"


# --- broken pictures in pairs


class Colours:
    """Embeds a face as its mean colour, turned into a direction."""

    def embed(self, faces: np.ndarray) -> np.ndarray:
        mean = faces.reshape(len(faces), -1, 3).mean(axis=1) - 127.5
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


class Broken(InMemoryFaces):
    """Faces of which some cannot be read."""

    bad: frozenset[int] = frozenset()

    def picture(self, index: int) -> Any:
        if index in self.bad:
            raise ImageError(f"{index} is cut", "truncated JPEG")
        return super().picture(index)


def people(count: int = 12, each: int = 5, bad: frozenset[int] = frozenset()) -> Broken:
    faces = Broken(np.stack([face(i) for i in range(count * each)]), np.repeat(np.arange(count), each))
    faces.bad = bad
    return faces


def test_pairs_without_broken_pictures_are_those_that_need_none_of_them() -> None:
    faces = people(bad=frozenset({3, 31}))
    pairs = make_pairs(faces, 200)
    usable = usable_pairs(faces, pairs)
    wanted = [i for i in range(len(pairs)) if not {int(pairs.first[i]), int(pairs.second[i])} & {3, 31}]
    np.testing.assert_array_equal(usable.pairs.first, pairs.first[wanted])
    np.testing.assert_array_equal(usable.pairs.same, pairs.same[wanted])
    assert usable.lost == len(pairs) - len(wanted) > 0
    assert [one.kind for one in usable.broken] == ["truncated JPEG"] * 2
    assert "2 truncated JPEG" in str(usable)
    whole = people()
    assert usable_pairs(whole, pairs).pairs is pairs


def test_too_many_broken_pictures_are_an_error() -> None:
    faces = people(bad=frozenset(range(4)))
    with pytest.raises(DataError, match=r"4 of 60 pictures of memory cannot be used, more than 5%: 4 truncated JPEG"):
        usable_pairs(faces, make_pairs(faces, 2000))
    one = Skipped("a", "b", "HEIC")
    check_share([one], 2, "x")  # one always may be
    check_share([one] * 5, 100, "x")
    for count, of in ((6, 100), (1, 1), (2, 39)):
        with pytest.raises(DataError, match="cannot be used"):
            check_share([one] * count, of, "x")


def test_no_pair_of_one_person_left_is_an_error() -> None:
    faces = people(bad=frozenset({0}))
    pairs = Pairs(np.array([0, 1]), np.array([1, 7]), np.array([True, False]), np.array([0, 1]))
    with pytest.raises(DataError, match="no pairs of both kinds are left"):
        usable_pairs(
            faces,
            Pairs(*(np.concatenate([part, part]) for part in (pairs.first, pairs.second, pairs.same, pairs.folds))),
        )


def model() -> OpenModel:
    return OpenModel(Colours(), "colours", "fp32", "cpu")


def test_an_assessment_equals_that_of_the_pairs_that_are_left() -> None:
    broken = people(bad=frozenset({3, 31}))
    pairs = make_pairs(broken, 300)
    plan = Plan("drawn", face_items(broken), pairs, fmr=0.1, replicates=0, search=draw_search(face_items(broken)))
    seen = assess(plan, model())
    left = usable_pairs(broken, pairs).pairs
    expected = assess(Plan("drawn", face_items(people()), left, fmr=0.1, replicates=0), model())
    np.testing.assert_array_equal(seen.report.scores, expected.report.scores)
    assert seen.report.accuracy == expected.report.accuracy
    assert seen.plan.lost_pairs == len(pairs) - len(left) and len(seen.plan.broken) == 2
    assert seen.identification is not None


def test_a_search_without_some_items() -> None:
    search = draw_search(face_items(people()))
    gone = np.array([int(search.gallery[0]), int(search.probes[-1])])
    left = search.without(gone)
    assert not set(gone.tolist()) & {*left.gallery.tolist(), *left.probes.tolist()}
    enrolled = {int(search.person[search.mate == place][0]): item for place, item in enumerate(search.gallery)}
    orphan = next(person for person, item in enrolled.items() if item == search.gallery[0])
    assert orphan not in left.person.tolist()  # not counted among the strangers
    for probe, mate, person in zip(left.probes, left.mate, left.person, strict=True):
        was = search.mate[search.probes == probe][0]
        assert (mate == NOBODY) == (was == NOBODY)
        assert mate == NOBODY or left.gallery[mate] == enrolled[int(person)]
        assert person == search.person[search.probes == probe][0]


def test_templates_without_some_faces() -> None:
    member = Membership(np.array([0, 0, 1, 2]), np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3]))
    items = Items(people(), ("a", "b", "c"), np.array([0, 0, 0]), np.array([0, 2, 3]), member)
    assert items.members(np.array([0, 2])).tolist() == [0, 1, 3]
    left, gone = items.without(np.array([0, 3]))
    assert gone.tolist() == [2] and left.shown.tolist()[:2] == [1, 2]
    assert left.membership is not None and left.membership.face.tolist() == [1, 2]


def test_a_broken_picture_ends_neither_eval_nor_calibrate(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.bundle")
    folder = tmp_path / "faces"
    for person in range(12):
        for number in range(3):
            write_image(folder / f"p{person:02}" / f"{number}.png", face(10 * person + number))
    (folder / "p03" / "1.png").write_bytes(encode_image(face(1))[:400])
    out = tmp_path / "report"
    result = run("eval", bundle, "--data", folder, "--json", "--bootstrap", "0", "--precision", "fp32", "--out", out)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [one["picture"] for one in facts["left_out"]["pictures"]] == ["p03/1"] and facts["left_out"]["pairs"] > 0
    assert facts["left_out"]["pictures"][0]["kind"] == "truncated PNG"
    assert "1 truncated PNG" in (out / "report.html").read_text(encoding="utf-8")
    for number in range(3):
        (folder / "p05" / f"{number}.png").write_bytes(b"no picture")
    line = fails("4 of 36 pictures", "eval", bundle, "--data", folder, "--bootstrap", "0", "--precision", "fp32")
    assert "3 not a picture" in line
    line = fails("4 of 36 pictures", "calibrate", bundle, "--data", folder, "--fmr", "0.2", "--out", tmp_path / "o")
    assert "3 not a picture" in line


def test_a_broken_picture_does_not_end_an_export() -> None:
    faces = people(bad=frozenset({7}))
    said: list[str] = []
    usable = _usable(LabelledPairs(faces, make_pairs(faces, 300), "x"), said.append)
    assert usable is not None and 7 not in usable.pairs.used and "1 truncated JPEG" in said[0]
    drawn = draw_faces(faces, 60)
    assert (len(drawn.images), drawn.broken) == (59, 1) and "1 broken (1 truncated JPEG)" in str(drawn)
    with pytest.raises(DataError, match="5 of 60 pictures of memory cannot be used"):
        draw_faces(people(bad=frozenset(range(5))), 60)


# --- huge photographs


def test_boxes_of_huge_photographs_are_in_pixels_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 60_000)
    picture = np.full((300, 400, 3), 40, np.uint8)
    picture[100:200, 220:300] = 200
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "x.jpg").write_bytes(encode_image(picture, ".jpg"))

    def detect(image: np.ndarray) -> Any:
        ys, xs = np.nonzero(image[:, :, 0] > 120)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        x, y, w, h = box
        points = [[x + w * a, y + h * b] for a, b in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))]
        return SimpleNamespace(
            boxes=np.array([box], np.float32), scores=np.ones(1, np.float32), landmarks=np.array([points], np.float32)
        )

    photos = open_faces(tmp_path / "photos")
    report = align_photographs(
        photos,
        tmp_path / "out",
        SimpleNamespace(detect=detect),
        measure=lambda crop, box, landmarks: {"side": float(box[2]), "eyes": float(landmarks[1, 0] - landmarks[0, 0])},
    )
    assert report.aligned == 1
    line = json.loads((tmp_path / "out" / "align.jsonl").read_text().splitlines()[1])
    np.testing.assert_allclose(line["box"], [220, 100, 80, 100], atol=4)
    np.testing.assert_allclose([line["quality"]["side"], line["quality"]["eyes"]], [80, 32], atol=4)
    assert check_faces(photos).sizes == {"400x300": 1}
    with pytest.raises(ImageError, match="shrink it first"):
        photos.picture(0)  # where every pixel counts
    view = View(crop_xywh=(200, 80, 120, 140))
    with find_source(str(tmp_path / "photos" / "a"), view=view).open() as source:
        frame = source.read()
    assert frame is not None and frame.reduction == 2
    assert frame.image.shape == (70, 60, 3)  # the same crop, at half the size
    found = detect(frame.image)
    np.testing.assert_allclose(found.boxes[0] * frame.reduction, [20, 20, 80, 100], atol=4)


# --- names


def test_readable_names() -> None:
    assert readable_name("Müller/Ångström 日本 👩‍👩‍👧.jpg") == "Müller/Ångström 日本 👩‍👩‍👧.jpg"
    assert readable_name(os.fsdecode(b"caf\xe9/\xff")) == "caf\\xe9/\\xff"
    assert readable_name("a\nb\tc\x1b[0m\u2028") == "a\\nb\\tc\\x1b[0m\\u2028"
    readable_name("\ud800").encode()


def test_text_that_utf8_cannot_hold_is_written_escaped(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", json.dumps({"a": "\udce9"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"a": "\udce9"}


STRANGE = [
    b"caf\xe9",
    b"-rf",
    b"new\nline",
    b"quo\"te's <b>&amp;",
    b"tab\there",
    b"\xff\xfe",
    b"$x_1$",
    "名".encode() * 80,
]


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People whose folders and pictures have names of all sorts, in a folder that has one too."""
    folder = os.fsencode(tmp_path_factory.mktemp("names")) + b"/fa\xe7es"
    for number, name in enumerate([*STRANGE, b"plain", b"other"]):
        os.makedirs(os.path.join(folder, name))
        for shot in range(3):
            place = os.path.join(folder, name, b"%d-" % shot + name[:100] + b".png")
            Path(os.fsdecode(place)).write_bytes(encode_image(face(10 * number + shot)))
    return Path(os.fsdecode(folder))


@linux
def test_names_of_any_bytes_go_through_data_jobs(strange: Path, tmp_path: Path) -> None:
    faces = open_faces(strange).checked()
    assert len(faces) == 30 and len(faces.identities) == 10
    for text in (faces.name, *faces.identities, *(sample.key for sample in faces.samples)):
        text.encode()
        assert "\n" not in text
    assert {"caf\\xe9", "-rf", "new\\nline", "\\xff\\xfe"} <= set(faces.identities)
    report = pack_faces(faces, tmp_path / "packed")
    assert report.faces == 30 and json.dumps(report.to_json(), ensure_ascii=False).encode()
    packed = open_faces(tmp_path / "packed")
    assert sorted(packed.identities) == sorted(faces.identities)
    assert [s.key for s in packed.samples] and len({s.key for s in packed.samples}) == 30
    detector = SimpleNamespace(
        detect=lambda image: SimpleNamespace(
            boxes=np.array([[20, 20, 70, 80]], np.float32),
            scores=np.ones(1, np.float32),
            landmarks=np.array([[[38, 51], [73, 51], [56, 71], [41, 92], [70, 92]]], np.float32),
        )
    )
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/cr\xf4ps"))
    for kept in (0, 30):
        aligned = align_photographs(open_faces(strange), out, detector)
        assert (aligned.aligned, aligned.kept) == (30, kept)
    assert len(open_faces(out)) == 30
    check_faces(faces)


@linux
def test_names_of_any_bytes_go_through_an_evaluation(strange: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.bundle")
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/rep\xf4rt"))
    options = ["--precision", "fp32", "--bootstrap", "0", "--fmr", "0.3", "--against-precision", "int8"]
    result = run("eval", bundle, "--data", strange, "--out", out, *options)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "results.json").read_bytes())
    assert facts["pairs"] > 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "fa\\xe7es" in page
    with (out / "flipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len({len(row) for row in rows}) == 1


@linux
def test_a_folder_of_any_name_is_a_source(strange: Path) -> None:
    with find_source(str(strange / os.fsdecode(b"caf\xe9"))).open() as source:
        frames = list(iter(source.read, None))
    assert source.name == "caf\\xe9" and next(frame.name for frame in frames if frame) == "0-caf\\xe9.png"
    with pytest.raises(ImageError) as caught:
        images.read_image(strange / os.fsdecode(b"\xffgone"))
    str(caught.value).encode()


@linux
def test_one_name_in_two_codings_is_one_person(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        for number in range(2):
            name = unicodedata.normalize(form, "José")
            write_image(tmp_path / "d" / name / f"{name}_{number:04}.png", face(number + 5 * (form == "NFC")))
    faces = open_faces(tmp_path / "d")
    assert faces.identities == (unicodedata.normalize("NFC", "José"),)
    assert len({sample.key for sample in faces.samples}) == 4 and len(faces.checked()) == 4
    assert {"José/José_0000", "José/José_0000-2"} < {unicodedata.normalize("NFC", s.key) for s in faces.samples}
    names = file_names(faces.samples)
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names}) == 4
    (tmp_path / "e").mkdir()
    write_image(tmp_path / "e" / unicodedata.normalize("NFD", "é.png"), face(1))
    (tmp_path / "list.csv").write_text(f"path,identity\ne/{unicodedata.normalize('NFC', 'é.png')},x\n", "utf-8")
    assert len(open_faces(tmp_path / "list.csv").checked()) == 1


def test_pairs_are_found_in_either_coding(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "José")
    faces = InMemoryFaces(np.zeros((4, 112, 112, 3), np.uint8), np.array([0, 0, 1, 1]))
    faces.samples = tuple(Sample(f"{name}_{n:04}", name) for name in (nfd, "Al") for n in (1, 2))
    rows = [f"{unicodedata.normalize('NFC', 'José')} 1 2", f"{nfd} 1 Al 2"] * 2
    (tmp_path / "pairs.txt").write_text("\n".join(["2 1", *rows]), "utf-8")
    assert len(read_lfw_pairs(tmp_path / "pairs.txt", faces)) == 4


def test_long_names_fit_a_file_system() -> None:
    names = file_names(
        [Sample("名" * 120, "名" * 200), Sample("名" * 120, "x" * 300), Sample("x" * 119 + "名" * 9, "a")]
    )
    assert all(len(part.encode()) <= 200 for name in names for part in name.split("/"))
    assert len(set(names)) == 3


def test_shards_with_members_of_any_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        data = encode_image(face(1))
        info = tarfile.TarInfo(os.fsdecode(b"Jos\xe9/1.png"))
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    faces = open_faces(tmp_path / "a.tar")
    assert faces.samples[0].key == "Jos\\xe9/1"
    assert pack_faces(faces, tmp_path / "packed").faces == 1
