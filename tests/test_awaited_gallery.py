"""A run that starts before anybody is enrolled, and a gallery that comes, goes and is replaced meanwhile."""

import os
import shutil

import numpy as np
import pytest

from edgeface.errors import GalleryError
from edgeface.runtime.cameras.frames import FrameSequence
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.events import ListSink
from edgeface.runtime.gallery.awaited import AwaitedGallery
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import make_key, read_key
from edgeface.runtime.loop import RunSettings, run
from tests.test_loop import ALICE, ANY_FACE, BOB, DIMENSION, World, names, person, still


def enrol(path, name, who, key=None):
    with Gallery(path, "space", DIMENSION, create=True, key=key) as gallery:
        gallery.add(name, person(who))


def known(gallery):
    names, matrix = gallery.templates()
    assert matrix.shape == (len(names), DIMENSION)
    return names


def test_before_the_gallery_is_made_nobody_is_known_and_nothing_is_written(tmp_path):
    path = tmp_path / "not" / "yet" / "g.db"
    with AwaitedGallery(path, "space", DIMENSION) as gallery:
        assert gallery.changed()
        assert (known(gallery), gallery.precisions()) == ((), {})
        assert not gallery.changed()
        assert list(tmp_path.iterdir()) == []
        enrol(path, "alice", ALICE)
        assert gallery.changed()
        assert known(gallery) == ("alice",)
        assert not gallery.changed()
        assert gallery.precisions() == {None: 1}
        enrol(path, "bob", BOB)
        assert gallery.changed()
        assert known(gallery) == ("alice", "bob")


def test_a_file_that_is_just_being_made_is_looked_into_now_and_then(tmp_path):
    path, now_s = tmp_path / "g.db", [0.0]
    path.touch(mode=0o600)  # as it is for a moment
    with AwaitedGallery(path, "space", DIMENSION, clock=lambda: now_s[0]) as gallery:
        assert known(gallery) == ()
        assert path.stat().st_size == 0
        enrol(path, "alice", ALICE)
        assert not gallery.changed()
        now_s[0] = 0.6
        assert gallery.changed()
        assert known(gallery) == ("alice",)


def test_a_gallery_that_is_deleted_or_replaced_is_not_remembered(tmp_path):
    path, other = tmp_path / "g.db", tmp_path / "other.db"
    enrol(path, "alice", ALICE)
    enrol(other, "bob", BOB)
    with AwaitedGallery(path, "space", DIMENSION) as gallery:
        assert known(gallery) == ("alice",)
        os.replace(other, path)
        assert gallery.changed()
        assert known(gallery) == ("bob",)
        for file in tmp_path.iterdir():
            file.unlink()
        assert gallery.changed()
        assert (known(gallery), gallery.precisions()) == ((), {})
        assert not gallery.changed()


def test_an_encrypted_gallery_is_awaited_with_its_key(tmp_path):
    make_key(str(tmp_path / "key"))
    key = read_key(tmp_path / "key")
    with AwaitedGallery(tmp_path / "g.db", "space", DIMENSION, key=key) as gallery:
        enrol(tmp_path / "g.db", "alice", ALICE, key)
        assert known(gallery) == ("alice",)
    with AwaitedGallery(tmp_path / "h.db", "space", DIMENSION) as gallery:
        enrol(tmp_path / "h.db", "alice", ALICE, key)
        with pytest.raises(GalleryError, match="is encrypted"):
            gallery.changed()


def test_what_can_never_be_its_gallery_is_an_error(tmp_path):
    with Gallery(tmp_path / "g.db", "another-space", DIMENSION, create=True):
        pass
    (tmp_path / "text").write_text("hello" * 1000)
    (tmp_path / "loop").symlink_to("loop")
    messages = {"g.db": "embedding space", "text": "no gallery", ".": "is a folder", "loop": "cannot be looked at"}
    for name, message in messages.items():
        with pytest.raises(GalleryError, match=message):
            AwaitedGallery(tmp_path / name, "space", DIMENSION)


@pytest.mark.parametrize("claim", [None, "alice"])
def test_a_run_takes_people_up_as_they_are_enrolled_and_forgets_who_is_gone(tmp_path, claim):
    path = tmp_path / "g.db"
    world = World(still((100, ALICE), (400, BOB), frames=40))

    def pictures():
        for row, faces in enumerate(world.frames):
            if row == 10:
                enrol(path, "alice", ALICE)
            if row == 20:
                enrol(path, "bob", BOB)
            if row == 30:
                shutil.move(path, tmp_path / "away.db")
            yield world.picture(faces)

    sink = ListSink()
    settings = RunSettings(DecisionSettings(threshold=0.5, claim=claim), ANY_FACE)
    with AwaitedGallery(path, "space", DIMENSION) as gallery:
        summary = run(FrameSequence(pictures(), fps=25), world, world, gallery, settings, [sink])
    assert summary.ended == "end of source"
    nobody = "unknown" if claim is None else "rejected"
    told = names(sink.events, "match", "unknown", "rejected")
    assert told[:3] == [(nobody, 1, None), (nobody, 2, None), ("match", 1, "alice")]
    assert sink.events[0].why == ("the gallery is empty" if claim is None else "alice is not in the gallery")
    assert sink.events[2].frame == 10 + 2
    assert (("match", 2, "bob") in told) == (claim is None)
    assert told[-2:] == [(nobody, 1, None), (nobody, 2, None)] if claim is None else [(nobody, 1, None)]


def test_who_is_claimed_among_others_must_be_there(tmp_path):
    enrol(tmp_path / "g.db", "bob", BOB)
    settings = RunSettings(DecisionSettings(threshold=0.5, claim="alice"), ANY_FACE)
    with AwaitedGallery(tmp_path / "g.db", "space", DIMENSION) as gallery:
        message = "nobody called 'alice' is in the gallery to be claimed, it has: bob; enrol 'alice', or claim one"
        with pytest.raises(GalleryError, match=message):
            run(FrameSequence([np.zeros((9, 9, 3), np.uint8)]), World([]), World([]), gallery, settings, [])
