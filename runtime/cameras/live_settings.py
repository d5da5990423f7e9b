"""When a live source counts as lost, and what is done about it."""

import math
from dataclasses import dataclass, field

from edgeface.errors import ConfigError
from edgeface.runtime.cameras.watch import WatchSettings


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """When a live source is lost, and what then.

    Attributes:
        open_timeout_s: how long opening may take.
        read_timeout_s: how long there may be no frame.
        reconnect: open it again, for ever; else the first loss ends it.
        give_up_after_s: end it when it was away for so long; None for never.
        wait_at_start: also wait for a source that is not there when the program starts; else that is an error.
        retry_base_s: the longest pause before the first new attempt; it doubles with each attempt.
        retry_max_s: the longest pause of all. Each pause is drawn between 0 and its longest (full jitter), so that
            many devices do not come back to one recorder or switch in step.
        max_hung: threads that may hang in a driver at once; while there are so many, nothing new is opened.
        watch: what to take for a fault in the frames themselves.
        any_certificate: take https:// pictures with any certificate, as most cameras sign their own.

    Raises:
        ConfigError: a value is out of range.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    reconnect: bool = True
    give_up_after_s: float | None = None
    wait_at_start: bool = False
    retry_base_s: float = 0.25
    retry_max_s: float = 2.0
    max_hung: int = 3
    watch: WatchSettings = field(default_factory=WatchSettings)
    any_certificate: bool = False

    def __post_init__(self) -> None:
        positive = {
            "open_timeout_s": self.open_timeout_s,
            "read_timeout_s": self.read_timeout_s,
            "give_up_after_s": 1.0 if self.give_up_after_s is None else self.give_up_after_s,
            "retry_base_s": self.retry_base_s,
            "retry_max_s": self.retry_max_s,
        }
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be more than 0 seconds, got {value}")
        if self.max_hung < 1:
            raise ConfigError(f"max_hung must be at least 1, got {self.max_hung}")
