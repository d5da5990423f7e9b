from dataclasses import replace
from math import cos, radians, sin

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data.synthetic import (
    Identity,
    Nuisance,
    Stream,
    Visit,
    aligned_crop,
    crops,
    demo_plan,
    nth_identity,
    photograph,
    render_face,
    sample_nuisance,
    scene,
)
from edgeface.errors import ConfigError
from edgeface.faces import TEMPLATE, align, similarity_transform

Image = npt.NDArray[np.uint8]

SIZE_WH = 320, 320


@pytest.fixture(scope="module")
def people() -> tuple[Identity, ...]:
    return tuple(nth_identity(11, index) for index in range(8))


def plain(identity: Identity) -> Identity:
    """The same person with nothing in front of eyes and mouth, and eyes so tall that no lid hides the iris."""
    return replace(
        identity,
        glasses=False,
        beard=0.0,
        moustache=0.0,
        goatee=0.0,
        eye_height=0.28,
        hair_cover=0.0,
        moles=(),
        freckles=(),
    )


def difference(first: Image, second: Image) -> npt.NDArray[np.float64]:
    distance: npt.NDArray[np.float64] = np.abs(first.astype(float) - second.astype(float)).sum(axis=2)
    return distance


def centroid(weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centre of the convex hull of what is heavy: neither the pupil nor the glint in it may pull."""
    rows, columns = np.nonzero(weight > 100)
    hull = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.int32))
    moments = cv2.moments(hull)
    return np.array([moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]], np.float64)


def projected(x: float, y: float, lift: float, width: float, nuisance: Nuisance) -> tuple[float, float]:
    """Where a point of the skin is seen, worked out one formula at a time."""
    z = 0.9 * max(0.03, 1 - (x / (1.13 * width)) ** 2 - ((y - 0.2) / 1.75) ** 2) ** 0.5 + lift
    y -= 0.2
    yaw, pitch, roll = (radians(a) for a in (nuisance.yaw_deg, nuisance.pitch_deg, nuisance.roll_deg))
    x, z = x * cos(yaw) + z * sin(yaw), z * cos(yaw) - x * sin(yaw)
    y, z = y * cos(pitch) - z * sin(pitch), z * cos(pitch) + y * sin(pitch)
    x, y = x * cos(roll) - y * sin(roll), y * cos(roll) + x * sin(roll)
    return x * 9 / (9 - z), y * 9 / (9 - z) + 0.2


poses = st.builds(
    Nuisance,
    yaw_deg=st.floats(-40, 40),
    pitch_deg=st.floats(-25, 25),
    roll_deg=st.floats(-35, 35),
)


@settings(max_examples=25, deadline=None)
@given(pose=poses, index=st.integers(0, 10_000))
def test_landmarks_are_the_projected_points_of_the_face(pose: Nuisance, index: int) -> None:
    person = replace(nth_identity(5, index), asymmetry=0.0)
    matrix = np.array([[10.0, 0.0, 32.0], [0.0, 10.0, 30.0]])
    face = render_face(person, pose, (64, 64), matrix)
    mouth_y = person.mouth_height + person.mouth_droop
    points = [
        (-person.eye_spacing, 0.0, 0.0),
        (person.eye_spacing, 0.0, 0.0),
        (0.0, person.nose_height, person.nose_depth),
        (-person.mouth_half_width, mouth_y, 0.03),
        (person.mouth_half_width, mouth_y, 0.03),
    ]
    expected = [projected(*point, person.face_width, pose) for point in points]
    np.testing.assert_allclose(face.landmarks, np.array(expected) * 10 + (32, 30), atol=1e-3)
    chin = np.array(projected(0.0, person.chin_height, 0.0, person.face_width, pose)) * 10 + (32, 30)
    x, y, width, height = face.box
    assert x - 1e-3 <= chin[0] <= x + width + 1e-3
    assert y - 1e-3 <= chin[1] <= y + height + 1e-3
    assert all(x < a < x + width and y < b < y + height for a, b in face.landmarks[:2])


def test_box_of_an_upright_face_runs_from_hairline_to_chin(people: tuple[Identity, ...]) -> None:
    matrix = np.array([[50.0, 0.0, 100.0], [0.0, 50.0, 80.0]])
    for person in people:
        face = render_face(person, Nuisance(), (200, 200), matrix)
        top = projected(0.0, -person.forehead_height, 0.0, person.face_width, Nuisance())[1] * 50 + 80
        chin = projected(0.0, person.chin_height, 0.0, person.face_width, Nuisance())[1] * 50 + 80
        assert face.box[1] == pytest.approx(top, abs=0.5)
        assert face.box[1] + face.box[3] == pytest.approx(chin, abs=0.5)
        assert face.box[0] + face.box[2] / 2 == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize("yaw_deg", [-20.0, 0.0, 15.0])
@pytest.mark.parametrize("roll_deg", [0.0, 25.0])
def test_painted_irises_and_lips_lie_at_the_landmarks(
    people: tuple[Identity, ...], yaw_deg: float, roll_deg: float
) -> None:
    nuisance = Nuisance(yaw_deg=yaw_deg, roll_deg=roll_deg, pitch_deg=5.0)
    for person in (plain(people[0]), plain(people[1])):
        face = render_face(person, nuisance, SIZE_WH)
        iris = difference(
            render_face(replace(person, iris_rgb=(255.0, 0.0, 0.0)), nuisance, SIZE_WH).image,
            render_face(replace(person, iris_rgb=(0.0, 0.0, 255.0)), nuisance, SIZE_WH).image,
        )
        middle = face.landmarks[:2].mean(axis=0)
        y, x = np.indices(iris.shape)
        towards_right = (x - middle[0]) * cos(radians(roll_deg)) + (y - middle[1]) * sin(radians(roll_deg)) > 0
        np.testing.assert_allclose(centroid(iris * ~towards_right), face.landmarks[0], atol=0.5)
        np.testing.assert_allclose(centroid(iris * towards_right), face.landmarks[1], atol=0.5)
        lips = difference(
            render_face(replace(person, lip_rgb=(255.0, 0.0, 0.0)), nuisance, SIZE_WH).image,
            render_face(replace(person, lip_rgb=(0.0, 0.0, 255.0)), nuisance, SIZE_WH).image,
        )
        rows, columns = np.nonzero(lips > 60)
        left, right = columns.argmin(), columns.argmax()
        np.testing.assert_allclose([columns[left], rows[left]], face.landmarks[3], atol=2.5)
        np.testing.assert_allclose([columns[right], rows[right]], face.landmarks[4], atol=2.5)


@pytest.mark.parametrize("scale", [30.0, 55.0, 110.0])
def test_aligned_crop_equals_align_on_a_larger_picture(people: tuple[Identity, ...], scale: float) -> None:
    width, height = round(4.4 * scale), round(4.4 * scale)
    matrix = np.array([[scale, 0.0, width / 2 + 0.3], [0.0, scale, height / 2.3]])
    shifted = []
    for number, person in enumerate(people):
        nuisance = sample_nuisance(np.random.default_rng(number), 1.0)
        nuisance = replace(nuisance, occluder_radius=0.0)
        face = render_face(person, nuisance, (width, height), matrix)
        mask = align(np.repeat(face.mask[:, :, None], 3, axis=2), face.landmarks)[:, :, 0]
        inner = cv2.erode(np.where(mask == 255, 255, 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        expected = align(face.image, face.landmarks)
        actual = aligned_crop(person, nuisance, sensor=False)
        error = difference(actual, expected)[inner].mean() / 3
        moved = difference(np.roll(actual, 1, axis=1), expected)[inner].mean() / 3
        assert error < 5.0
        shifted.append(moved / error)
    assert np.median(shifted) > 1.5  # a shift by one pixel would be seen


def test_landmarks_of_neutral_crops_lie_at_the_template(people: tuple[Identity, ...]) -> None:
    left, right = [], []
    for person in people:
        person = plain(person)
        landmarks = render_face(person, Nuisance(), (64, 64)).landmarks
        matrix = similarity_transform(landmarks, TEMPLATE)
        aligned = landmarks @ matrix[:, :2].T + matrix[:, 2]
        assert np.abs(aligned - TEMPLATE).max() < 9.0  # proportions of people differ
        iris = difference(
            aligned_crop(replace(person, iris_rgb=(255.0, 0.0, 0.0)), Nuisance()),
            aligned_crop(replace(person, iris_rgb=(0.0, 0.0, 255.0)), Nuisance()),
        )
        left.append(centroid(iris[:, :56]) - aligned[0])
        right.append(centroid(iris[:, 56:]) - (aligned[1] - (56, 0)))
    np.testing.assert_allclose(left, 0.0, atol=0.35)
    np.testing.assert_allclose(right, 0.0, atol=0.35)


def test_jitter_moves_the_crop_a_little(people: tuple[Identity, ...]) -> None:
    nuisance = Nuisance(seed=4)
    exact = aligned_crop(people[2], nuisance)
    np.testing.assert_array_equal(exact, aligned_crop(people[2], nuisance))
    jittered = aligned_crop(people[2], nuisance, jitter_px=1.5)
    assert 0.5 < difference(exact, jittered).mean() / 3 < 30
    assert aligned_crop(people[2], nuisance, size=64).shape == (64, 64, 3)


def test_crops_depend_on_seed_and_number_only() -> None:
    images, labels = crops(3, 2, seed=7, start=4)
    assert images.shape == (6, 112, 112, 3) and images.dtype == np.uint8
    assert labels.tolist() == [0, 0, 1, 1, 2, 2] and labels.dtype == np.int64
    np.testing.assert_array_equal(images, crops(3, 2, seed=7, start=4)[0])
    np.testing.assert_array_equal(images[4:], crops(1, 2, seed=7, start=6)[0])
    assert not np.array_equal(images, crops(3, 2, seed=8, start=4)[0])
    assert not np.array_equal(images, crops(3, 2, seed=7, start=7)[0])
    assert not np.array_equal(images[0], images[1])


def test_workers_paint_the_same_crops() -> None:
    np.testing.assert_array_equal(crops(4, 1, seed=1, workers=2)[0], crops(4, 1, seed=1)[0])


@pytest.mark.parametrize("numbers", [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)])
def test_crops_refuse_unusable_numbers(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="at least"):
        crops(*numbers)


def test_populations_do_not_repeat_people() -> None:
    known = [nth_identity(0, index) for index in range(200)]
    assert len({person.skin_rgb for person in known}) == 200
    assert nth_identity(0, 3) == known[3]
    assert nth_identity(1, 3) != known[3]
    # Numbers that are drawn on their own do not follow one another.
    names = ("eye_spacing", "jaw_width", "nose_width", "mouth_half_width", "brow_arch", "chin_height")
    table = np.array([[getattr(person, name) for name in names] for person in known])
    correlation = np.corrcoef(table.T) - np.eye(len(names))
    assert np.abs(correlation).max() < 0.3


def test_people_can_be_told_apart_by_their_pixels() -> None:
    images, labels = crops(20, 4, seed=3, strength=0.25)
    small = np.stack([cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA) for image in images])
    flat = small[:, 5:25, 5:23].reshape(len(small), -1).astype(float)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= flat.std(axis=1, keepdims=True)
    train = np.arange(len(labels)) % 4 < 2
    centroids = np.stack([flat[train & (labels == label)].mean(axis=0) for label in range(20)])
    distance = ((flat[~train][:, None] - centroids) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == labels[~train]).mean() > 0.8  # chance is 0.05


def test_strength_zero_is_neutral() -> None:
    drawn = sample_nuisance(np.random.default_rng(0), 0.0)
    same = {"clothes_rgb", "seed", "occluder_angle_deg", "occluder_rgb"}
    fields = [name for name in Nuisance.__slots__ if name not in same]
    assert [getattr(drawn, name) for name in fields] == [getattr(Nuisance(), name) for name in fields]


def test_photograph_adds_what_was_asked_for() -> None:
    grey = np.full((64, 64, 3), 100, np.uint8)
    np.testing.assert_array_equal(photograph(grey, Nuisance()), grey)
    noisy = photograph(grey, Nuisance(noise=6.0, seed=1))
    assert noisy.std() == pytest.approx(6.0, rel=0.1)
    np.testing.assert_array_equal(noisy, photograph(grey, Nuisance(noise=6.0, seed=1)))
    toned = photograph(grey, Nuisance(exposure=1.2, tint=(1.1, 1.0, 0.5)))
    np.testing.assert_array_equal(toned[0, 0], [132, 120, 60])
    red = np.zeros((64, 64, 3), np.uint8)
    red[:, :, 0] = 220
    assert photograph(red, Nuisance(jpeg_quality=80))[:, :, 0].mean() > 200


def prototype(image: Image) -> npt.NDArray[np.float64]:
    small = cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA)[4:25, 5:23].astype(np.float64).ravel()
    normal: npt.NDArray[np.float64] = (small - small.mean()) / small.std()
    return normal


def nearest(image: Image, people: tuple[Identity, ...]) -> int:
    known = np.stack([prototype(aligned_crop(person, Nuisance())) for person in people])
    return int(((known - prototype(image)) ** 2).sum(axis=1).argmin())


def test_scene_is_deterministic_and_its_truth_is_consistent(people: tuple[Identity, ...]) -> None:
    right, total = 0, 0
    for seed in range(12):
        drawn = scene(np.random.default_rng(seed), faces=(1, 4), identities=people, strength=0.2)
        again = scene(np.random.default_rng(seed), faces=(1, 4), identities=people, strength=0.2)
        np.testing.assert_array_equal(drawn.image, again.image)
        assert drawn.image.shape == (240, 320, 3) and drawn.image.dtype == np.uint8
        assert len(drawn.faces) <= 4
        for face in drawn.faces:
            x, y, width, height = face.box
            assert 23.9 < width < 150.1 and height > width * 0.8
            assert face.visible >= 0.6
            assert all(x < a < x + width and y < b < y + height for a, b in face.landmarks)
            if width > 40 and face.visible == 1.0:
                total += 1
                right += nearest(align(drawn.image, face.landmarks), people) == face.identity
    assert total > 8
    assert right > 0.8 * total  # the landmarks and the labels are those of the faces


def test_scene_without_faces_and_with_new_people() -> None:
    assert scene(np.random.default_rng(0), faces=(0, 0)).faces == ()
    faces = scene(np.random.default_rng(1), faces=(3, 3), face_px=(30.0, 40.0)).faces
    assert faces and all(face.identity == -1 for face in faces)
    with pytest.raises(ConfigError, match="ranges that rise"):
        scene(np.random.default_rng(0), faces=(3, 1))


@pytest.fixture(scope="module")
def stream(people: tuple[Identity, ...]) -> Stream:
    plan = demo_plan(
        {"ann": people[0], "ben": people[1]}, people[2:4], appearances=4, frames=60, gap=5, size_wh=(320, 240)
    )
    return Stream(2, plan, (320, 240))


def test_demo_plan_shows_known_people_and_strangers_one_and_two_at_a_time(people: tuple[Identity, ...]) -> None:
    plan = demo_plan({"ann": people[0], "ben": people[1]}, people[2:4], appearances=8)
    assert len(plan) == 8
    assert [visit.name is None for visit in plan] == [False, True] * 4
    assert {visit.name for visit in plan} == {"ann", "ben", None}
    assert all(visit.identity == {"ann": people[0], "ben": people[1]}[visit.name] for visit in plan[::2] if visit.name)
    starts = [visit.start_frame for visit in plan]
    assert starts == sorted(starts) and len(set(starts)) < len(starts)
    assert plan == demo_plan({"ann": people[0], "ben": people[1]}, people[2:4], appearances=8)
    with pytest.raises(ConfigError, match="at least one"):
        demo_plan({}, ())


def test_stream_moves_smoothly_and_keeps_who_is_who(stream: Stream, people: tuple[Identity, ...]) -> None:
    before: dict[int, npt.NDArray[np.float32]] = {}
    seen: dict[int, int] = {}
    most, right, total = 0, 0, 0
    for frame in stream:
        assert frame.image.shape == (240, 320, 3)
        most = max(most, len(frame.faces))
        for face in frame.faces:
            seen[face.visit] = seen.get(face.visit, 0) + 1
            assert face.name == stream.visits[face.visit].name
            assert all(face.box[0] < x < face.box[0] + face.box[2] for x in face.landmarks[:2, 0])
            if face.visit in before:
                # Two seconds for the whole visit are a brisk walk.
                step = np.abs(face.landmarks - before[face.visit]).max()
                assert step < 0.35 * face.box[2]
            before[face.visit] = face.landmarks
            if face.visible == 1.0 and abs(face.yaw_deg) < 12 and frame.index % 4 == 0:
                total += 1
                crop = align(frame.image, face.landmarks)
                right += people[nearest(crop, people)] == stream.visits[face.visit].identity
    assert most == 2
    assert len(seen) == 4 and min(seen.values()) > 20
    assert right > 0.5 * total > 5  # chance is one in eight


def test_standing_visitor_moves_little(people: tuple[Identity, ...]) -> None:
    calm = Stream(5, (Visit(people[4], "eve", 0, 200),), (640, 480))
    positions = [calm.frame(index).faces[0].landmarks for index in range(60, 140, 1)]
    steps = np.abs(np.diff(np.stack(positions), axis=0)).max(axis=(1, 2))
    assert steps.max() < 4.0  # pixels a frame, of a face of 120
    assert steps.mean() > 0.05  # but alive


def test_stream_frames_can_be_asked_for_in_any_order(stream: Stream) -> None:
    late = stream.frame(30)
    stream.frame(3)
    again = Stream(2, stream.visits, (320, 240)).frame(30)
    np.testing.assert_array_equal(late.image, again.image)
    assert late.time_s == pytest.approx(1.0)
    empty = stream.frame(0), stream.frame(1)
    assert not empty[0].faces
    # The background stands still; only the noise of the sensor changes.
    assert 0 < difference(empty[0].image, empty[1].image).mean() / 3 < 5
    with pytest.raises(IndexError):
        stream.frame(len(stream))


def test_occluder_hides_part_of_the_face(people: tuple[Identity, ...]) -> None:
    clear = aligned_crop(people[0], Nuisance())
    hidden = aligned_crop(people[0], Nuisance(occluder_radius=0.5, occluder_angle_deg=90.0))
    changed = (difference(clear, hidden) > 30).mean()
    assert 0.03 < changed < 0.4
