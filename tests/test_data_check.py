"""Duplicates and the report on a data set, against slow versions and faults made on purpose."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data import InMemoryFaces, open_faces
from edgeface.data.check import MARGIN, check_faces
from edgeface.data.duplicates import Fingerprints, fingerprint, near_pairs, same_pictures
from edgeface.data.synthetic import crops
from edgeface.errors import DataError
from edgeface.faces import TEMPLATE
from edgeface.images import decode_image, encode_image, write_image
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.detection.detector import FixedDetector


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return crops(12, 2, seed=3)[0]


@settings(deadline=None, max_examples=60)
@given(
    base=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    flips=st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=9)), max_size=30),
    distance=st.integers(0, 8),
)
def test_near_pairs_are_those_of_all_comparisons(
    base: list[int], flips: list[tuple[int, set[int]]], distance: int
) -> None:
    values = base + [base[index % len(base)] ^ sum(1 << bit for bit in bits) for index, bits in flips]
    hashes = np.array(values, np.uint64)
    expected = {
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if (values[i] ^ values[j]).bit_count() <= distance
    }
    first, second = near_pairs(hashes, distance)
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert set(found) == expected and len(found) == len(expected)


def test_a_hundred_thousand_hashes_take_seconds() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 100_000, dtype=np.uint64)
    hashes[60_000:] = 7  # many of exactly one
    thumbnails = rng.integers(0, 256, (100_000, 256), dtype=np.uint8)
    thumbnails[60_000:] = thumbnails[60_000]
    start = time.perf_counter()
    groups = same_pictures(Fingerprints(hashes, thumbnails))
    assert time.perf_counter() - start < 20
    assert [len(group) for group in groups] == [40_000]


def test_copies_are_found_through_compression_size_and_light(drawn: np.ndarray) -> None:
    copies = [
        decode_image(encode_image(drawn[0], ".jpg", 40)),
        np.kron(drawn[1], np.ones((2, 2, 1), np.uint8)),
        np.clip(drawn[2] * 0.9 + 8, 0, 255).astype(np.uint8),
        drawn[3],
        drawn[3],
    ]
    pictures = [*drawn, *copies]
    groups = same_pictures(Fingerprints.collect([fingerprint(picture) for picture in pictures]))
    n = len(drawn)
    assert groups == [[0, n], [1, n + 1], [2, n + 2], [3, n + 3, n + 4]]


def test_equal_hashes_of_other_pictures_are_no_copies() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (4, 256), dtype=np.uint8)
    thumbnails[2] = thumbnails[0]
    assert same_pictures(Fingerprints(np.full(4, 9, np.uint64), thumbnails)) == [[0, 2]]
    assert same_pictures(Fingerprints.collect([])) == []


def test_report_on_faults_made_on_purpose(tmp_path: Path, drawn: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    data, test = tmp_path / "data", tmp_path / "test"
    for name, image in {
        "Al_B/1.png": drawn[0],
        "Al_B/2.png": drawn[1],
        "Cy/1.png": drawn[2],
        "Cy/same.jpg": drawn[2],
        "Di/wrong.webp": drawn[2],
        "Ed/large.png": np.kron(drawn[4], np.ones((2, 2, 1), np.uint8)),
        "Ed/2.png": drawn[5],
        "17/1.png": drawn[6],
        "17/2.png": drawn[7],
    }.items():
        write_image(data / name, image)
    (data / "Fi").mkdir()
    (data / "Gu").mkdir()
    (data / "Gu" / "broken.jpg").write_bytes(encode_image(drawn[8], ".jpg")[:300])
    for name, image in {"al b/1.png": drawn[9], "17/1.png": drawn[10], "Hy/1.jpg": drawn[5]}.items():
        write_image(test / name, image)

    report = check_faces(open_faces(data), open_faces(test), workers=1)
    assert "1 folders under" in caplog.text
    assert report.pictures == 9 and report.identities == 6 and report.unlabelled == 0
    assert [s.key for s in report.unreadable] == ["Fi", "Gu/broken"]
    assert [set(c.keys) for c in report.duplicates] == [{"Cy/1", "Cy/same", "Di/wrong"}]
    assert [c.identities for c in report.mislabelled] == [("Cy", "Di")]
    assert report.single == ("Di",) and report.empty == ("Gu",)
    assert report.sizes == {"112x112": 8, "224x224": 1} and report.unaligned == 1
    assert report.overlap is not None
    assert report.overlap.identities == ("Al_B",)  # but not 17: a number is no name
    assert report.overlap.pictures == (("Ed/2", "Hy/1"),)
    assert report.alignment is None
    facts = report.to_json()
    assert facts["mislabelled"] == 1 and facts["overlap"]["pictures"] == (("Ed/2", "Hy/1"),)


def test_pictures_that_cannot_be_read(tmp_path: Path, drawn: np.ndarray) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.jpg").write_bytes(b"junk")
    faces = InMemoryFaces(drawn[:2], np.array([0, 1]))
    report = check_faces(faces, open_faces(tmp_path / "x"))
    assert report.overlap is not None and report.overlap.unreadable == 1 and report.overlap.pictures == ()
    with pytest.raises(DataError, match="none of the 1 pictures"):
        check_faces(open_faces(tmp_path / "x"))


def found(points: np.ndarray) -> Detections:
    boxes = np.tile(np.array([60, 60, 80, 90], np.float32), (len(points), 1))
    return Detections(boxes, np.ones(len(points), np.float32), points.astype(np.float32))


def test_alignment_is_measured_against_the_template(drawn: np.ndarray) -> None:
    def shifted(x: float, y: float) -> np.ndarray:
        return np.asarray(TEMPLATE + MARGIN + np.array([x, y]))

    answers = [
        found(np.stack([shifted(40, 0), shifted(2, -1)])),  # the face in its place counts, not its neighbour
        found(np.stack([shifted(3, -1)])),
        found(np.stack([shifted(9, 0)])),
        Detections.empty(),
    ]
    detector = FixedDetector(answers)
    faces = InMemoryFaces(drawn[:4], np.arange(4))
    seen = check_faces(faces, detector=detector, workers=1).alignment
    assert seen is not None
    assert (seen.crops, seen.faces, seen.far) == (4, 3, ("2",))
    assert seen.offset_px == pytest.approx((3, -1), abs=1e-5)
    assert seen.distance_px == pytest.approx(np.hypot(3, 1), abs=1e-5)
    assert detector.seen == [(224, 224, 3)] * 4
    nobody = check_faces(faces, detector=FixedDetector(Detections.empty()), crops=2).alignment
    assert nobody is not None and (nobody.crops, nobody.faces) == (2, 0)


def test_known_errors_of_lfw_are_found(shared: Path) -> None:
    """Pairs that the data set's own page lists as one picture under two names."""
    faces = open_faces(shared / "lfw" / "lfw-112.tar")
    people = {"Bart_Hendricks", "Ricky_Ray", "Carlos_Beltran", "Raul_Ibanez", "Emmy_Rossum", "Eva_Amurri"}
    people |= set(faces.identities[::20])
    chosen = faces.select([i for i, sample in enumerate(faces.samples) if sample.identity in people])
    report = check_faces(chosen)
    assert {copies.identities for copies in report.mislabelled} == {
        ("Bart_Hendricks", "Ricky_Ray"),
        ("Carlos_Beltran", "Raul_Ibanez"),
        ("Emmy_Rossum", "Eva_Amurri"),
    }
