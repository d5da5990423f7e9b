"""Events to an MQTT broker, by paho-mqtt: MQTT 3.1.1, quality of service 1."""

import functools
import secrets
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from edgeface.errors import ConfigError, MissingPackageError
from edgeface.runtime.sinks.courier import Reply
from edgeface.runtime.sinks.credentials import plain_address
from edgeface.runtime.sinks.outbox import Letter

if TYPE_CHECKING:
    from paho.mqtt.client import Client

USERNAME: Final = "EDGEFACE_MQTT_USERNAME"
PASSWORD: Final = "EDGEFACE_MQTT_PASSWORD"

_PORTS: Final = {"mqtts": 8883, "mqtt": 1883}
_KEEP_ALIVE_S: Final = 30
_MAX_TOPIC: Final = 65_535  # bytes


class Mqtt:
    """A topic of a broker. Each event is one message, its JSON the payload, not retained.

    A message counts as sent when the broker has acknowledged it. One at a time is on its way, which keeps the order;
    after a failure the connection is made anew, so that nothing is left in the client to be sent a second time.

    Args:
        url: mqtts://HOST[:PORT]/TOPIC, or mqtt:// where nobody else can listen.
        username: for the broker.
        password: likewise.
        timeout_s: for the connection, and for each acknowledgement.
        context: for TLS; by default certificates are verified as those of a webhook.

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
    ) -> None:
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError as error:
            raise MissingPackageError("paho-mqtt", "mqtt") from error
        self._new_client = functools.partial(paho.Client, CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        parts, self._port = plain_address(url, _PORTS, "--mqtt", f"{USERNAME} and {PASSWORD}")
        self._host = parts.hostname or ""
        self._topic = _topic(parts.path, parts.query or parts.fragment)
        self.place = f"{parts.scheme}://{self._host}:{self._port}/{self._topic}"
        if password is not None and username is None:
            raise ConfigError(f"{PASSWORD} needs {USERNAME} beside it")
        if parts.scheme == "mqtt" and password is not None and self._host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigError(f"--mqtt: {self._host} would get the password in clear; use mqtts://")
        self._username, self._password = username, password
        self._timeout_s = timeout_s
        self._context = None
        if parts.scheme == "mqtts":
            self._context = context or ssl.create_default_context()
        self._client: Client | None = None
        self._settled = threading.Event()  # there is nothing more to wait for

    def send(self, letter: Letter) -> Reply:
        """Publish one event and wait for its acknowledgement; takes at most about three times `timeout_s`."""
        try:
            if self._client is None or not self._client.is_connected():
                self.close()
                if why := self._connect():
                    self.close()
                    return Reply("again", why)
            assert self._client is not None
            self._settled.clear()
            message = self._client.publish(self._topic, letter.body, qos=1)
            in_time = self._settled.wait(self._timeout_s)
            if message.is_published():
                return Reply("sent")
            why = "the connection was lost" if in_time else f"no acknowledgement within {self._timeout_s:g} s"
        except OSError as error:  # also of the look-up of the host and of TLS
            why = error.strerror or f"{type(error).__name__}: {error}"
        except RuntimeError:  # as paho says it, if it notices first
            why = "the connection was lost"
        self.close()
        return Reply("again", why)

    def abort(self) -> None:
        """End a `send` in another thread soon."""
        self._settled.set()

    def close(self) -> None:
        """Say goodbye to the broker; the next `send` connects anew."""
        if self._client is not None:
            client, self._client = self._client, None
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> str | None:
        """Connect and wait for the broker's consent; returns why that failed."""
        answered = threading.Event()
        refusals: list[str] = []

        def on_connect(client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
            if reason.is_failure:
                refusals.append(str(reason))
            answered.set()

        def settle(*_: Any) -> None:
            self._settled.set()

        # Two clients with one name would push each other out.
        client = self._new_client(client_id=f"edgeface-{secrets.token_hex(6)}")
        client.on_connect = on_connect
        client.on_publish = settle
        client.on_disconnect = settle
        client.connect_timeout = self._timeout_s
        if self._username is not None:
            client.username_pw_set(self._username, self._password)
        if self._context is not None:
            client.tls_set_context(self._context)
        self._client = client
        client.connect(self._host, self._port, _KEEP_ALIVE_S)
        client.loop_start()
        if not answered.wait(self._timeout_s):
            return f"no answer within {self._timeout_s:g} s"
        if refusals:
            return f"the broker refuses the connection: {refusals[0]}; check {USERNAME} and {PASSWORD}"
        return None


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
