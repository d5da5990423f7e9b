"""What is typed for a camera, and what the library is asked for."""

import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.commands.capture import asked_of_camera, live_settings, view_of_camera
from edgeface.errors import ConfigError
from edgeface.runtime.cameras.video import Asked
from edgeface.runtime.cameras.view import View


def test_options_become_settings() -> None:
    assert asked_of_camera("1280x720", 15.0) == Asked((1280, 720), 15.0)
    assert asked_of_camera(None, None) == Asked()
    assert view_of_camera(270, True, "1, 2,30,40") == View(270, True, (1, 2, 30, 40))
    assert view_of_camera(0, False, None).is_plain
    settings = live_settings(
        reconnect=False,
        max_away=60.0,
        wait_for_camera=True,
        open_timeout=1.0,
        read_timeout=2.0,
        frozen_after=3.0,
        min_fps=4.0,
    )
    assert (settings.open_timeout_s, settings.read_timeout_s, settings.give_up_after_s) == (1.0, 2.0, 60.0)
    assert (settings.reconnect, settings.wait_at_start) == (False, True)
    assert (settings.watch.frozen_after_s, settings.watch.min_fps) == (3.0, 4.0)


@pytest.mark.parametrize("size", ["", "1280", "1280x", "axb", "1x2x3", "12.5x10", "-5x10", "8x8", "99999x16", "٣x٣"])
def test_a_size_that_cannot_be_read_is_one_clear_line(size: str) -> None:
    with pytest.raises(ConfigError, match=r"use 16 to 16384|give whole numbers such as 1280x720") as caught:
        asked_of_camera(size, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("crop", ["", "1,2,3", "1,2,3,x", "0,0,5,5", "1 2 3 4", "-1,0,50,50"])
def test_a_crop_that_cannot_be_read_is_one_clear_line(crop: str) -> None:
    with pytest.raises(ConfigError, match="crop"):
        view_of_camera(0, False, crop)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--crop", "1,2"], "--crop '1,2' cannot be read; give whole numbers such as 320,0,640,720"),
        (["--rotate", "45"], "turned by 45 degrees"),
        (["--read-timeout", "0"], "read_timeout_s must be more than 0"),
        (["--fps", "-1"], "asked for -1.0 frames a second"),
    ],
)
def test_the_command_says_what_is_wrong_before_it_opens_anything(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["run", "--camera", "9876", "--headless", *arguments])
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
