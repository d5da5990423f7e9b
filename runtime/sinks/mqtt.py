"""Events to an MQTT broker: MQTT 5, or 3.1.1 where the broker knows nothing newer; quality of service 1."""

import importlib
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from edgeface.errors import ConfigError, MissingPackageError
from edgeface.runtime.clock import steady_s
from edgeface.runtime.sinks.courier import Reply
from edgeface.runtime.sinks.credentials import plain_address
from edgeface.runtime.sinks.outbox import Letter

if TYPE_CHECKING:
    from edgeface.runtime.sinks.mqtt_link import Link

logger = logging.getLogger(__name__)

USERNAME: Final = "EDGEFACE_MQTT_USERNAME"
PASSWORD: Final = "EDGEFACE_MQTT_PASSWORD"

_PORTS: Final = {"mqtts": 8883, "mqtt": 1883}
_MAX_TOPIC: Final = 65_535  # bytes

# Reason codes (MQTT 5, 2.4) that say something about this message: it will not be taken the next time either.
_REFUSALS: Final = {
    0x87: "Not authorized: the broker denies this topic; let its access control list permit it, or give another topic",
    0x90: "Topic Name invalid: the broker does not take this topic; give another",
    0x95: "Packet too large: the broker takes no message as long as this event; raise its limit",
    0x99: "Payload format invalid: the broker wants other messages in this topic; give another topic",
}
# Those that say something about the broker.
_TROUBLE: Final = {
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x91: "Packet identifier in use",
    0x97: "Quota exceeded: the broker takes no more messages from here for now",
}
_BROKERS_OWN: Final = frozenset({0x91, 0x97})  # of these, what can have nothing to do with the message
_MESSAGE_ONLY: Final = frozenset({0x90, 0x95, 0x99})  # a broker that ends the connection because of the message
_LOGIN: Final = frozenset({0x86, 0x87, 0x8C})  # a connection is refused because of who comes


class Mqtt:
    """A topic of a broker. Each event is one message, its JSON the payload, never retained.

    A message counts as sent when the broker has taken it: with MQTT 5 it says so if it did not, as where the topic is
    denied to us. A broker that knows only MQTT 3.1.1 cannot say that, and there is a warning. One message at a time is
    on its way, which keeps the order; after a failure the connection is made anew, so that nothing is left in the
    client to be sent a second time.

    What holds only for a while is not sent later; with MQTT 5 the broker does not pass it on later either (message
    expiry).

    Args:
        url: mqtts://HOST[:PORT]/TOPIC, or mqtt:// where nobody else can listen.
        username: for the broker.
        password: likewise.
        timeout_s: for the connection, and for each acknowledgement.
        context: for TLS; by default certificates are verified as those of a webhook.
        steady: seconds that never go back, which letters' `until_s` goes by.

    Raises:
        ConfigError: the address or the credentials cannot be used.
        MissingPackageError: paho-mqtt is not installed.
    """

    kind = "mqtt"

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = 10.0,
        context: ssl.SSLContext | None = None,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        try:
            importlib.import_module("paho.mqtt.client")
        except ModuleNotFoundError as error:
            raise MissingPackageError("paho-mqtt", "mqtt") from error
        from edgeface.runtime.sinks.mqtt_link import Access

        parts, port = plain_address(url, _PORTS, "--mqtt", f"{USERNAME} and {PASSWORD}")
        host = parts.hostname or ""
        self._topic = _topic(parts.path, parts.query or parts.fragment)
        self.place = f"{parts.scheme}://{host}:{port}/{self._topic}"
        if password is not None and username is None:
            raise ConfigError(f"{PASSWORD} needs {USERNAME} beside it")
        if parts.scheme == "mqtt" and password is not None and host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigError(f"--mqtt: {host} would get the password in clear; use mqtts://")
        context = (context or ssl.create_default_context()) if parts.scheme == "mqtts" else None
        self._access = Access(host, port, username, password, context, timeout_s)
        self._steady = steady
        self._link: Link | None = None
        self._is_old = False  # the broker said that it does not know MQTT 5
        self._is_warned = False

    def send(self, letter: Letter) -> Reply:
        """Publish one event and wait for its acknowledgement; takes at most about five times the time-out."""
        from edgeface.runtime.sinks.mqtt_link import LinkError

        try:
            if self._link is None or not self._link.is_open:
                self.close()
                self._link = self._connect()
        except LinkError as error:
            advice = f"; check {USERNAME} and {PASSWORD}" if error.code in _LOGIN else ""
            return Reply("again", f"{error}{advice}")
        # Asked now, as to connect may have taken long.
        left_s = None if letter.until_s is None else letter.until_s - self._steady()
        if left_s is not None and left_s <= 0:
            return Reply("late")
        try:
            code = self._link.publish(self._topic, letter.body, left_s)
        except LinkError as error:
            self._link.drop()
            self._link = None
            if error.code in _MESSAGE_ONLY:
                return Reply("refused", _REFUSALS[error.code])
            return Reply("again", str(error))
        if code is None:
            return Reply("sent")
        if code in _REFUSALS:
            return Reply("refused", _REFUSALS[code])
        return Reply("again", _TROUBLE.get(code, f"reason code 0x{code:02X}"), answered=code not in _BROKERS_OWN)

    def abort(self) -> None:
        """End a `send` in another thread soon."""
        if self._link is not None:
            self._link.abort()

    def close(self) -> None:
        """Say goodbye to the broker; the next `send` connects anew."""
        if self._link is not None:
            link, self._link = self._link, None
            link.close()

    def _connect(self) -> "Link":
        from edgeface.runtime.sinks.mqtt_link import Link, LinkError

        if not self._is_old:
            try:
                return Link(self._access, "5")
            except LinkError as error:
                if not error.may_be_older:
                    raise
                # Some close the connection instead, and so does one that is just being started: it is asked again.
                self._is_old = not error.silent
        link = Link(self._access, "3.1.1")
        if not self._is_warned:
            self._is_warned = True
            logger.warning(
                "the broker of %s knows only MQTT 3.1.1: it cannot say that it denies this topic, so events that it "
                "throws away count as sent, and it may pass on a match too late; use a broker with MQTT 5",
                self.place,
            )
        return link


def _topic(path: str, rest: str) -> str:
    topic = unquote(path.removeprefix("/"))
    if not topic or rest or any(character in topic for character in "+#\0") or topic.startswith("$"):
        raise ConfigError(
            "--mqtt needs a topic after the host, without + # ? and not beginning with $, "
            "such as mqtts://broker.example/door/events"
        )
    if len(topic.encode()) > _MAX_TOPIC:
        raise ConfigError(f"--mqtt: a topic has at most {_MAX_TOPIC} bytes")
    return topic
