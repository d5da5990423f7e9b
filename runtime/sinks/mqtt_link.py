"""One connection to an MQTT broker, by paho-mqtt."""

import secrets
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Any, Final, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeface.runtime.outages import outage
from edgeface.runtime.sinks.promptness import forget_unsent, limit_delivery

Version = Literal["5", "3.1.1"]

_PROTOCOLS: Final = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_KEEP_ALIVE_S: Final = 30
_OTHER_VERSION: Final = 0x84  # paho gives this reason code of MQTT 5 for the answer of an older broker too


@dataclass(frozen=True, slots=True)
class Access:
    """Where a broker is, and who comes.

    Attributes:
        host: name or address.
        port: of TCP.
        username: None comes without a name.
        password: likewise.
        context: for TLS; None is without.
        timeout_s: for the connection, and for each answer.
    """

    host: str
    port: int
    username: str | None
    password: str | None
    context: ssl.SSLContext | None
    timeout_s: float


class LinkError(Exception):
    """There is no connection any more, or never was.

    Attributes:
        code: the broker's reason code, where it gave one.
        silent: the broker was there, but closed the connection without a word.
    """

    def __init__(self, why: str, code: int | None = None, *, silent: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.silent = silent

    @property
    def may_be_older(self) -> bool:
        """Whether the broker may be one that does not know the version of MQTT that it was asked for."""
        return self.silent or self.code == _OTHER_VERSION


class Link:
    """A connection that the broker has consented to.

    Args:
        access: where to.
        version: of MQTT.

    Raises:
        LinkError: no connection comes about.
    """

    def __init__(self, access: Access, version: Version) -> None:
        self.version = version
        self._timeout_s = access.timeout_s
        self._changed = threading.Condition()  # guards everything below
        self._consent: Any = None  # reason code of the answer to the connection
        self._receipts: dict[int, Any] = {}  # reason codes by message
        self._farewell: Any = None  # reason code with which the broker ended it
        self._is_over = False
        # Two clients with one name would push each other out.
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"edgeface-{secrets.token_hex(6)}",
            protocol=_PROTOCOLS[version],
            reconnect_on_failure=False,
        )
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.connect_timeout = access.timeout_s
        if access.username is not None:
            client.username_pw_set(access.username, access.password)
        if access.context is not None:
            client.tls_set_context(access.context)
        self._client = client
        try:
            client.connect(access.host, access.port, _KEEP_ALIVE_S)
        except OSError as error:
            raise LinkError(outage(error)) from error
        client.loop_start()
        try:
            self._await_consent()
        except LinkError:
            self.drop()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it seems to be of use still."""
        with self._changed:
            return not self._is_over and self._client.is_connected()

    def publish(self, topic: str, body: bytes, left_s: float | None) -> int | None:
        """Publish one message with quality of service 1, not retained, and wait for its receipt.

        Args:
            topic: of the message.
            body: of the message.
            left_s: for how long it holds. Then nobody is to get it any more, as far as this side and, with MQTT 5, the
                broker can do anything for that.

        Returns:
            The reason code with which the broker refuses the message; None if it took it.

        Raises:
            LinkError: there was no receipt.
        """
        properties = None
        if left_s is not None and self.version == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, int(left_s))  # whole seconds; some take 0 for never
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            limit_delivery(connection, left_s)
        try:
            number = self._client.publish(topic, body, qos=1, retain=False, properties=properties).mid
        except (OSError, RuntimeError) as error:  # as paho says it, if it notices first
            raise LinkError("the connection was lost") from error
        with self._changed:
            self._changed.wait_for(lambda: number in self._receipts or self._is_over, self._timeout_s)
            if number in self._receipts:
                reason = self._receipts.pop(number)
                return reason.value if reason.is_failure else None
            if self._farewell is not None:
                raise LinkError(f"the broker ended the connection: {self._farewell}", self._farewell.value)
            if self._is_over:
                raise LinkError("the connection was lost")
        raise LinkError(f"no acknowledgement within {self._timeout_s:g} s")

    def abort(self) -> None:
        """End a `publish` in another thread soon."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say goodbye to the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def drop(self) -> None:
        """Close it, and let nothing arrive that did not arrive before."""
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            forget_unsent(connection)
        self.close()

    def _await_consent(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._consent is not None or self._is_over, self._timeout_s)
            if self._consent is None:
                if self._farewell is not None:
                    raise LinkError(f"the broker ends the connection: {self._farewell}", self._farewell.value)
                if self._is_over:
                    raise LinkError("the broker closed the connection without an answer", silent=True)
                raise LinkError(f"no answer within {self._timeout_s:g} s")
            if self._consent.is_failure:
                raise LinkError(f"the broker refuses the connection: {self._consent}", self._consent.value)

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._consent = reason
            self._changed.notify_all()

    def _on_publish(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._receipts[number] = reason
            self._changed.notify_all()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            if flags.is_disconnect_packet_from_server:
                self._farewell = reason
            self._is_over = True
            self._changed.notify_all()
