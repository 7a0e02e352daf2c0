"""Who is let in: what a handshake brings along becomes a kept connection or a refusal."""

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from roomcast import aws, envelope, origins
from roomcast.connection import Identity, Receiver
from roomcast.errors import AuthError, AwsError, HandshakeError, KeysUnavailableError, ManagementApiError
from roomcast.plain_text import plain
from roomcast.tokens.authentication import authenticate
from roomcast.wiring import Wiring

if TYPE_CHECKING:
    from roomcast.management_api.report import PostReport

SUBPROTOCOL = "landinghub.v1"
"""Offered next to a token in `Sec-WebSocket-Protocol`, and the only one in the reply."""

_BAD_TICKET = "the ticket is unknown, used or too old"
_GOODBYE_SECONDS = 0.7  # for the last event of a connection that is closed for a newer one
_CLOSE_SECONDS = 1.0  # for what is asked of the management API; the function has 10

log = logging.getLogger(__name__)


class Handshake(NamedTuple):
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
    def asks_why(self) -> bool:
        """Whether the client asks to be told why it is refused: a page never sees a handshake's status."""
        return self.query.get("explain") == "1"

    @property
    def subprotocol(self) -> str | None:
        """What to answer with: ours, if the client offers it."""
        return SUBPROTOCOL if SUBPROTOCOL in self.subprotocols else None

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers in `Sec-WebSocket-Protocol`."""
        offered = (self.header("sec-websocket-protocol") or "").split(",")
        return [value.strip() for value in offered if value.strip()]


@aws.within(aws.PATIENCE)
def admit(wiring: Wiring, handshake: Handshake) -> bool:
    """Let a client in and keep its connection.

    Returns:
        Whether it is kept. False where the credentials are refused and the client asks why: it is let in as
        nobody, which gets nothing and joins nothing, and may ask `auth:check` once.

    Raises:
        HandshakeError: 403 for its origin, 401 for its credentials, 429 for one connection too many; 503
            if no key can be read to check the credentials with.
    """
    _check_origin(wiring, handshake.header("origin"))
    try:
        _keep(wiring, handshake)
    except HandshakeError as error:
        if error.status != 401 or not handshake.asks_why:
            raise
        log.warning("let in to ask why connectionId=%s reason=%s", handshake.connection_id, error.reason)
        return False
    return True


def _keep(wiring: Wiring, handshake: Handshake) -> None:
    identity, ticket = _identity(wiring, handshake)
    with wiring.beginning("connected", identity.user_id, handshake.connection_id) as begun:
        kept = wiring.store.connections.connect(handshake.connection_id, identity, ticket)
        if kept == "connected":
            begun.append({})
    if kept == "revoked":
        why = "after the token was issued" if identity.issued_at else "and the token has no iat"
        raise HandshakeError(401, f"the user was revoked, {why}")
    if kept == "no_ticket":
        raise HandshakeError(401, _BAD_TICKET)
    if kept == "connected":
        _keep_to_limit(wiring, handshake.connection_id, identity.user_id)
    log.info(
        "%s connectionId=%s userId=%s role=%s",
        kept,
        plain(handshake.connection_id),
        identity.user_id,
        identity.role,
    )


def _check_origin(wiring: Wiring, origin: str | None) -> None:
    """Only a browser sends an Origin, and it sends one always: so it cannot be left out to get past this."""
    settings = wiring.settings
    if origin is None:
        if settings.browsers_only:
            raise HandshakeError(403, "no Origin")
    elif "*" not in settings.allowed_origins and origins.normal(origin) not in settings.allowed_origins:
        raise HandshakeError(403, f"Origin {origin:.100} is not allowed")


def _identity(wiring: Wiring, handshake: Handshake) -> tuple[Identity, str | None]:
    """Who it is, and the ticket that is used up if they are let in."""
    tokens = [value for value in handshake.subprotocols if value != SUBPROTOCOL]
    if len(tokens) == len(handshake.subprotocols):
        tokens = []  # somebody else's subprotocols
    if "token" in handshake.query:
        tokens.append(handshake.query["token"])
    ticket = handshake.query.get("ticket")
    if len(tokens) + (ticket is not None) > 1:
        raise HandshakeError(401, "more than one token or ticket")
    if ticket is not None:
        identity = wiring.store.tickets.read(ticket)
        if identity is None:
            raise HandshakeError(401, _BAD_TICKET)
        longest = wiring.settings.token_rules.max_lifetime
        if longest is not None and identity.expires_at > identity.issued_at + longest:
            identity = identity._replace(expires_at=identity.issued_at + longest)
        return identity, ticket
    try:
        return authenticate(tokens[0] if tokens else None, wiring.keys, wiring.settings.token_rules), None
    except AuthError as error:
        raise HandshakeError(401, error.reason) from None
    except KeysUnavailableError as error:
        raise HandshakeError(503, error.reason) from None


def _keep_to_limit(wiring: Wiring, connection_id: str, user_id: str) -> None:
    """See that the user has at most the stage's number of connections, this one included.

    Comes after the connection was kept, so that nothing is closed for a handshake that is refused, and
    handshakes at the same time see each other: the user's inbox is read consistently. A fault of AWS lets the
    client in: the next handshake looks again.

    Raises:
        HandshakeError: this one is too many.
    """
    settings, store = wiring.settings, wiring.store
    limit = settings.max_connections
    try:
        with aws.within(2 * _CLOSE_SECONDS):
            found = store.receivers.over_limit(user_id, limit)
            if found is None:
                return
            refuses = settings.when_over_max == "refuse_new"
            over = {r.connection_id: r for r in (found[limit:] if refuses else found[:-limit])}
            mine = over.pop(connection_id, None)
            if refuses:
                # Those whose `$disconnect` was lost take nobody's place.
                others = {r.connection_id: r for r in found if r.connection_id != connection_id}
                gone = _gone(wiring, others, "look") if mine else set()
                if mine and len(others) - len(gone) < limit:
                    mine = None
            else:
                if over:  # or they would come back at once, and close the next
                    wiring.management_api.post(
                        list(over), _replaced().encode(), budget=_GOODBYE_SECONDS, waits_for_slow=False
                    )
                gone = _gone(wiring, over, "delete")
            for closed in gone:
                log.info("closed connectionId=%s userId=%s", closed, user_id)
                store.connections.disconnect(closed, accepted_at=0)
            if mine:
                store.connections.disconnect(connection_id, accepted_at=0)
    except (AwsError, ManagementApiError) as error:
        log.warning("the limit of connections was not looked at userId=%s: %s", user_id, plain(error))
        return
    if mine:
        raise HandshakeError(429, f"the user has {limit} connections")


def _replaced() -> str:
    """The last event of a connection that is closed for a newer one."""
    message = "A newer connection of this user was let in"
    return envelope.build("error", {"code": "connection_limit", "message": message})


def _gone(wiring: Wiring, receivers: Mapping[str, Receiver], how: Literal["look", "delete"]) -> set[str]:
    """Close connections, or only look at them; return those that are not open after that, without those that
    may not be open yet."""
    report: PostReport = getattr(wiring.management_api, how)(receivers, budget=_CLOSE_SECONDS)
    gone = {i for i in report.gone if not receivers[i].young(time.time())}
    return gone | set(report.sent if how == "delete" else ())
