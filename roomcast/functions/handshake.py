"""Who is let in: what a handshake brings along becomes a kept connection or a refusal."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from roomcast import origins
from roomcast.connection import Identity
from roomcast.errors import AuthError, HandshakeError, KeysUnavailableError
from roomcast.tokens.authentication import authenticate
from roomcast.wiring import Wiring

SUBPROTOCOL = "landinghub.v1"
"""Offered next to a token in `Sec-WebSocket-Protocol`, and the only one in the reply."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client brings along.

    Attributes:
        connection_id: API Gateway's.
        query: the parameters of the URL.
        headers: the client's, their names in any case.
    """

    connection_id: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    def header(self, name: str) -> str | None:
        """A header's value, whatever the case of its name."""
        return next((value for key, value in self.headers.items() if key.lower() == name), None)

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers in `Sec-WebSocket-Protocol`."""
        offered = (self.header("sec-websocket-protocol") or "").split(",")
        return [value.strip() for value in offered if value.strip()]


def admit(wiring: Wiring, handshake: Handshake) -> str | None:
    """Let a client in and keep its connection.

    Returns:
        The subprotocol to answer with, if it offered ours.

    Raises:
        HandshakeError: 403 for its origin, 401 for its credentials, 429 for one connection too many; 503
            if no key can be read to check the credentials with.
    """
    _check_origin(wiring, handshake.header("origin"))
    identity = _identity(wiring, handshake)
    _make_room(wiring, identity)
    kept = wiring.store.connections.connect(handshake.connection_id, identity)
    if kept == "revoked":
        raise HandshakeError(401, "the user was revoked after the token was issued")
    log.info(
        "%s connectionId=%s userId=%s role=%s", kept, handshake.connection_id, identity.user_id, identity.role
    )
    return SUBPROTOCOL if SUBPROTOCOL in handshake.subprotocols else None


def _check_origin(wiring: Wiring, origin: str | None) -> None:
    """Only a browser sends an Origin, and it sends one always: so it cannot be left out to get past this."""
    settings = wiring.settings
    if origin is None:
        if settings.browsers_only:
            raise HandshakeError(403, "no Origin")
    elif "*" not in settings.allowed_origins and origins.normal(origin) not in settings.allowed_origins:
        raise HandshakeError(403, f"Origin {origin:.100} is not allowed")


def _identity(wiring: Wiring, handshake: Handshake) -> Identity:
    tokens = [value for value in handshake.subprotocols if value != SUBPROTOCOL]
    if len(tokens) == len(handshake.subprotocols):
        tokens = []  # somebody else's subprotocols
    if "token" in handshake.query:
        tokens.append(handshake.query["token"])
    ticket = handshake.query.get("ticket")
    if len(tokens) + (ticket is not None) > 1:
        raise HandshakeError(401, "more than one token or ticket")
    if ticket is not None:
        identity = wiring.store.tickets.take(ticket)
        if identity is None:
            raise HandshakeError(401, "the ticket is unknown, used or too old")
        longest = wiring.settings.token_rules.max_lifetime
        if longest is not None and identity.expires_at > identity.issued_at + longest:
            identity = replace(identity, expires_at=identity.issued_at + longest)
        return identity
    try:
        return authenticate(tokens[0] if tokens else None, wiring.keys, wiring.settings.token_rules)
    except AuthError as error:
        raise HandshakeError(401, error.reason) from None
    except KeysUnavailableError as error:
        raise HandshakeError(503, error.reason) from None


def _make_room(wiring: Wiring, identity: Identity) -> None:
    """See that the user has at most the stage's number of connections, this one included."""
    settings = wiring.settings
    for receiver in wiring.store.receivers.oldest_of_user(
        identity.user_id, keep=settings.max_connections - 1
    ):
        if settings.when_over_max == "refuse_new":
            raise HandshakeError(429, f"the user has {settings.max_connections} connections")
        log.info("closed the oldest connectionId=%s userId=%s", receiver.connection_id, identity.user_id)
        wiring.store.connections.disconnect(receiver.connection_id)
        wiring.management_api.delete(receiver.connection_id)
