"""The options of `run` about decisions and liveness, and `liveness test` from the command line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface.cli import app
from edgeface.commands.watching import Liveness, Rules, decision_settings, liveness_check
from edgeface.errors import BundleError, ConfigError
from edgeface.images import write_image
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.deciding.limits import OperatingThreshold
from tests.test_evidence import evidence  # noqa: F401 - a fixture
from tests.test_liveness import network

LIMIT = OperatingThreshold(0.4, 1e-3)
PLAIN = {
    "votes": None,
    "window": 5,
    "within_s": None,
    "cooldown_s": 0.0,
    "miss": 0.01,
    "correlation": 0.7,
    "min_margin": 0.0,
    "claim": None,
}


def settings(limit, rule, **more):
    return decision_settings(limit, rule, **{**PLAIN, **more})


def test_the_default_number_of_votes_depends_on_the_rule_and_the_window(evidence):  # noqa: F811
    assert settings(LIMIT, Rules.votes).votes == 3
    assert settings(LIMIT, Rules.votes, window=2).votes == 2
    assert settings(LIMIT, Rules.votes, window=1).hold == 1
    weighed = settings(OperatingThreshold(0.4, 1e-3, evidence=evidence), Rules.llr)
    assert (weighed.rule, weighed.votes, weighed.evidence) == ("llr", 2, evidence)
    given = settings(LIMIT, Rules.votes, votes=1, within_s=2.0, cooldown_s=30.0, claim="ada")
    assert (given.votes, given.within_s, given.cooldown_s, given.claim) == (1, 2.0, 30.0, "ada")
    with pytest.raises(ConfigError, match="votes must be at least 1 and at most the window"):
        settings(LIMIT, Rules.votes, votes=6)


def test_evidence_cannot_be_added_up_with_a_bare_threshold():
    with pytest.raises(ConfigError, match="not a bare threshold"):
        settings(OperatingThreshold(0.4, None), Rules.llr)


def check(mode, path=None, *, stills=False, keys=()):
    return liveness_check(mode, path, stills=stills, provider="cpu", threads=1, require_keys=keys)


def test_liveness_is_off_by_default_and_its_options_must_fit(tmp_path):
    assert check(Liveness.off) is None
    path = network(tmp_path)
    for mode, given in ((Liveness.off, path), (Liveness.passive, None), (Liveness.both, None)):
        with pytest.raises(ConfigError, match="belong together"):
            check(mode, given)
    with pytest.raises(ConfigError, match="cannot turn their heads"):
        check(Liveness.challenge, stills=True)
    both = check(Liveness.both, path)
    assert both is not None and both.settings.challenge is not None and both.settings.scores == 5
    passive = check(Liveness.passive, path, stills=True)
    assert passive is not None and passive.settings.challenge is None and passive.settings.scores == 1


def test_where_a_signature_is_required_a_loose_network_is_refused(tmp_path, monkeypatch):
    from tests.test_cli import run

    path = network(tmp_path)
    made = run("bundle", "keygen", tmp_path / "k.key")
    assert made.exit_code == 0, made.output
    with pytest.raises(BundleError, match="loose ONNX file"):
        check(Liveness.passive, path, keys=(tmp_path / "k.key.pub",))


@pytest.mark.skipif(not BUILT_IN_DETECTOR.is_file(), reason="this checkout has no built-in detector")
def test_attacks_are_tested_from_the_command_line(tmp_path):
    from edgeface.data.synthetic import scene

    rng = np.random.default_rng(0)
    picture = scene(rng, faces=(1, 1), face_px=(100.0, 110.0), distractors=(0, 0)).image
    for kind, share in (("attacks/print", 0.7), ("attacks/screen", 0.8), ("people", 1.0)):
        for row in range(3):
            write_image(tmp_path / kind / f"{row}.png", (picture * share).astype(np.uint8))
    path = network(tmp_path, crop_scale=1.5)
    command = ["liveness", "test", str(path), "--attacks", str(tmp_path / "attacks"), "--bona-fide"]
    command += [str(tmp_path / "people"), "--provider", "cpu"]

    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert set(facts) == {"schema", "threshold", "apcer", "worst", "bpcer", "bpcer20"}
    assert set(facts["apcer"]) == {"print", "screen"}
    assert all(
        set(kind) == {"rate", "interval", "errors", "trials", "no_face", "unreadable"}
        for kind in [*facts["apcer"].values(), facts["bpcer"]]
    )
    told = CliRunner().invoke(app, [*command, "--quiet"])
    assert told.exit_code == 0 and "APCER print" in told.stdout and "BPCER" in told.stdout
    wrong = CliRunner().invoke(app, [*command[:3], "--attacks", str(tmp_path / "none"), *command[5:]])
    assert wrong.exit_code == 1
