"""Options of `edgeface run` about which faces are looked at and who they are, and the settings they make."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from edgeface.runtime.deciding.decision import DecisionSettings
    from edgeface.runtime.deciding.limits import Limits, OperatingThreshold
    from edgeface.runtime.liveness.liveness import LivenessCheck
    from edgeface.runtime.providers.choice import ProviderLike

LARGEST_SIDE: Final = 4096
"""Where nobody says how large the detector's pictures may be: more than the sides of most frames."""
LOW_SHARE: Final = 0.5
"""A box that reaches this share of the detector's score may keep a track, though never start one."""


class Rules(StrEnum):
    """How looks become an answer."""

    auto = "auto"
    votes = "votes"
    llr = "llr"


_LOOKS: Final = {Rules.votes: 3, Rules.llr: 2}

DecisionRule = Annotated[
    Rules,
    typer.Option(
        help="How looks become an answer: so many agree (votes), or evidence adds up (llr). auto takes llr where the "
        "bundle has scores for it and neither --votes nor --threshold is given."
    ),
]
Votes = Annotated[int | None, typer.Option(min=1, help="Looks that must agree: 3, with llr 2, ...")]
Window = Annotated[int, typer.Option(min=1, help="... of the last so many.")]
Within = Annotated[
    float | None, typer.Option(min=0.001, help="... that lie within so many seconds [default: however far apart].")
]
Cooldown = Annotated[float, typer.Option(min=0.0, help="Do not tell the same person again for so many seconds.")]
Miss = Annotated[float, typer.Option(help="With --decision llr: how often the right person may be turned away.")]
Correlation = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="With --decision llr: of two looks at one face; 1 counts all as one look."),
]
MinMargin = Annotated[float, typer.Option(min=0.0, help="Least lead over the runner-up, in the score.")]
MinFace = Annotated[
    int, typer.Option(min=1, help="Ignore faces smaller than this, in pixels; larger is faster, see --detect-size.")
]
MaxLooks = Annotated[
    int, typer.Option(min=0, help="Embed at most so many faces a frame, the others in later ones; 0 is no limit.")
]
DetectSize = Annotated[
    int | None,
    typer.Option(
        min=32,
        help="Shrink frames to this longest side at most to find faces [default: as far as --min-face allows].",
    ),
]


class Liveness(StrEnum):
    """How a recognised face is shown to be alive."""

    off = "off"
    challenge = "challenge"
    passive = "passive"
    both = "both"


LivenessMode = Annotated[
    Liveness,
    typer.Option(help="Ask recognised people to turn or come closer (challenge), look for fakes (passive), or both."),
]
LivenessNetwork = Annotated[
    Path | None, typer.Option(help="Anti-spoofing network (.onnx) for it, its contract (.json) beside it.")
]


def liveness_check(
    mode: Liveness,
    network: Path | None,
    *,
    stills: bool,
    provider: "ProviderLike",
    threads: int,
    require_keys: Sequence[Path],
) -> "LivenessCheck | None":
    """Return the check that was asked for, None for none.

    Raises:
        ConfigError: the options do not fit together or to the source.
        BundleError: the network cannot be used, or a signature is required, which it cannot have.
    """
    from edgeface.errors import ConfigError

    is_passive, is_challenge = mode in ("passive", "both"), mode in ("challenge", "both")
    if is_passive != (network is not None):
        raise ConfigError("--liveness passive or both and --liveness-network FILE belong together; give both or none")
    if is_challenge and stills:
        raise ConfigError("pictures of a folder cannot turn their heads; use --liveness passive or a camera")
    if mode is Liveness.off:
        return None
    from edgeface.runtime.liveness.challenge import ChallengeSettings
    from edgeface.runtime.liveness.liveness import LivenessCheck, LivenessSettings
    from edgeface.runtime.liveness.spoofing import open_spoof_detector
    from edgeface.runtime.signature import refuse_loose

    fakes = None
    if network is not None:
        refuse_loose(network, require_keys)
        fakes = open_spoof_detector(network, provider=provider, threads=threads)
    settings = LivenessSettings(challenge=ChallengeSettings() if is_challenge else None, scores=1 if stills else 5)
    return LivenessCheck(settings, fakes)


def rule_for(asked: Rules, votes: int | None, limits: "Limits", templates: "Mapping[str | None, int]") -> Rules:
    """Return how looks become an answer: as asked, or for `auto` the stricter way where it is possible."""
    if asked is not Rules.auto:
        return asked
    return Rules.llr if votes is None and limits.can_weigh(templates) else Rules.votes


def decision_settings(
    limit: "OperatingThreshold",
    rule: Rules,
    *,
    votes: int | None,
    window: int,
    within_s: float | None,
    cooldown_s: float,
    miss: float,
    correlation: float,
    min_margin: float,
    claim: str | None,
) -> "DecisionSettings":
    """Return the settings for a threshold and the options that were given.

    Raises:
        ConfigError: they do not fit together, or one is out of range.
    """
    from edgeface.runtime.deciding.decision import DecisionSettings

    return DecisionSettings(
        threshold=limit.cosine,
        fmr=limit.fmr,
        votes=min(_LOOKS[rule], window) if votes is None else votes,
        window=window,
        hold=min(2, window),
        min_margin=min_margin,
        claim=claim,
        rule="llr" if rule is Rules.llr else "votes",
        within_s=within_s,
        cooldown_s=cooldown_s,
        evidence=limit.evidence,
        miss=miss,
        correlation=correlation,
    )
