"""Settings: what the environment says to the functions and to any backend, validated once."""

import json
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, NamedTuple, TypeVar, get_args

from roomcast import callback_url
from roomcast import origins as origins_
from roomcast import rooms as rooms_
from roomcast.callback_url import CallbackUrl
from roomcast.errors import SettingsError
from roomcast.names import HookEvent
from roomcast.rooms import Rooms

Algorithm = Literal["HS256", "RS256", "ES256"]
Choice = TypeVar("Choice", bound=str)

_ORIGINS = "WEBSOCKET_ALLOWED_ORIGINS"
_CLAIMS = "WEBSOCKET_JWT_CLAIMS"
SERVER_EVENTS_KEY = "WEBSOCKET_SERVER_EVENTS"
_KINDS: tuple[HookEvent, ...] = get_args(HookEvent)
MIN_SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key for HS256 is at least as long as the hash."""
_TUTORIAL_WORDS = re.compile(
    "(?:your|my|our|the|a|is|this|in|to|very|long|super|top|secret|signing|change|me|it|please|pass|word|jwt|key|token"
    "|test|dev|development|prod|production|example|default|landinghub|string|at|least|bits?|bytes?|long|min"
    "|minimum|length|char|chars|characters|of|for|with|use|using|do|not|and|or|random|safe|secure|insecure"
    "|strong|private|replace|here|value|app|api|auth|server|admin|user|hello|world|hs|sha|hmac|sign)+"
)
_SHORTEST_WORDS = len("secret")
_WALKS = ("0123456789abcdefghijklmnopqrstuvwxyz", "1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_WALKED = 2 / 3  # of the steps from one character to the next; of random hex digits a fifth are such steps


class ClaimNames(NamedTuple):
    """Which claims of a token say what: each identity provider has its own.

    A name is that of a claim, dots and all (`https://example.com/roles`); where there is no such claim, a dot
    leads into an object (`realm_access.roles`).

    Attributes:
        user: who it is; None: `userId`, `sub` or `id`, which must agree where there are several.
        role: what the user may do: a string, a list of them, or true; None: `role`, a string.
        admin: the value that means `admin`, by itself or in a list; `true` for a claim that is true.
        name: shown to others.
        email: likewise.
        audience: who the token is for.
    """

    user: str | None = None
    role: str | None = None
    admin: str = "admin"
    name: str = "name"
    email: str = "email"
    audience: str = "aud"

    @classmethod
    def parse(cls, key: str, text: str) -> "ClaimNames":
        """Read a JSON object of some of these names.

        Args:
            key: where the text came from, for the error.
            text: the object.

        Raises:
            SettingsError: it is not one.
        """
        try:
            names = json.loads(text)
        except ValueError:
            names = None
        known = cls._fields
        if not isinstance(names, dict) or not all(
            name in known and isinstance(claim, str) and claim for name, claim in names.items()
        ):
            raise SettingsError(
                key, f"must be a JSON object of claim names, whose keys are some of {', '.join(known)}"
            )
        return cls(**names)


class TokenRules(NamedTuple):
    """What a stage requires of a token, in addition to a valid signature and an `exp` that is not past.

    Attributes:
        algorithm: the only one that is taken.
        audience: what `aud` must be or hold; where it is None, a token with an `aud` is refused.
        issuer: what `iss` must be, where it is not None.
        max_lifetime: seconds from `iat` to `exp` at most, where it is not None; then `iat` is required.
        claims: which claims say who the user is.
    """

    algorithm: Algorithm = "HS256"
    audience: str | None = None
    issuer: str | None = None
    max_lifetime: int | None = None
    claims: ClaimNames = ClaimNames()


class ServerEventRules(NamedTuple):
    """Which server events a stage puts on a bus of EventBridge.

    Attributes:
        source: what they come from, `roomcast.PREFIX.STAGE`.
        kinds: which are wanted.
        bus: the bus's name or ARN.
    """

    source: str
    kinds: frozenset[HookEvent]
    bus: str

    @classmethod
    def parse(cls, key: str, text: str) -> "ServerEventRules":
        """Read `SOURCE:KIND,KIND@BUS`, as `dumps` writes it.

        Args:
            key: where the text came from, for the error.
            text: the rules.

        Raises:
            SettingsError: it is not that.
        """
        head, _, bus = text.partition("@")
        source, _, listed = head.partition(":")
        kinds = frozenset(kind for kind in _KINDS if kind in listed.split(","))
        if not source or not bus or len(kinds) != len(set(listed.split(","))):
            raise SettingsError(key, f"must be SOURCE:KINDS@BUS, with kinds of {', '.join(_KINDS)}")
        return cls(source=source, kinds=kinds, bus=bus)

    def dumps(self) -> str:
        """The same as text."""
        return f"{self.source}:{','.join(kind for kind in _KINDS if kind in self.kinds)}@{self.bus}"


class Settings(NamedTuple):
    """What one process needs to know of its stage. Each attribute is read from the variable named with it.

    Attributes:
        connections_table: `WEBSOCKET_CONNECTIONS_TABLE`.
        rooms_table: `WEBSOCKET_ROOMS_TABLE`.
        rooms: `WEBSOCKET_ROOMS`, the kinds of room that the application declares (`roomcast.rooms`); without
            it there are only the users' inboxes.
        application: `WEBSOCKET_APPLICATION`, the module of the application, where the process runs its code.
        history_table: `WEBSOCKET_HISTORY_TABLE`; None: sends are not numbered, and no room keeps a history.
        callback_url: `WEBSOCKET_API_ENDPOINT` as an http(s) URL: the base of the management API. The `wss://`
            form that the stack's outputs give is taken as well.
        fanout_queue_url: `WEBSOCKET_FANOUT_QUEUE_URL`.
        fanout_rate: `WEBSOCKET_FANOUT_RATE`, how many posts a second one worker of the queue makes at most.
        http2: `WEBSOCKET_HTTP2`, `true` or `false`: offer HTTP/2 to the management API.
        jwt_secret: `JWT_SECRET`, at least 32 bytes. Not shown by `repr`.
        jwt_secret_name: `WEBSOCKET_JWT_SECRET_NAME`, the secret's name or ARN in Secrets Manager.
        jwks_url: `WEBSOCKET_JWKS_URL`, where the public keys are with RS256 and ES256.
        token_rules: `WEBSOCKET_JWT_ALGORITHM` (HS256, RS256 or ES256), `WEBSOCKET_JWT_AUDIENCE`,
            `WEBSOCKET_JWT_ISSUER`, `WEBSOCKET_JWT_MAX_LIFETIME` (seconds), `WEBSOCKET_JWT_CLAIMS` (a JSON
            object of `ClaimNames`).
        allowed_origins: `WEBSOCKET_ALLOWED_ORIGINS`, separated by commas, in normal form; `*` allows every
            origin, and where the variable is not set, none is allowed.
        browsers_only: `WEBSOCKET_BROWSERS_ONLY`, `true` or `false`: refuse handshakes without an Origin.
        max_connections: `WEBSOCKET_MAX_CONNECTIONS_PER_USER`.
        when_over_max: `WEBSOCKET_OVER_MAX_CONNECTIONS`: `close_oldest` or `refuse_new`.
        actions_per_second: `WEBSOCKET_ACTIONS_PER_SECOND`, for each connection.
        actions_burst: `WEBSOCKET_ACTIONS_BURST`, how many of them may come at once.
        sends_per_second: `WEBSOCKET_SENDS_PER_SECOND`, what a user may publish; four times as much at once.
        signals_per_second: `WEBSOCKET_SIGNALS_PER_SECOND`, likewise of signals.
        connect_rate: `WEBSOCKET_CONNECT_RATE`, how many connects a second the stage takes.
        server_events: `WEBSOCKET_SERVER_EVENTS`, which server events go to which bus; None: none.
    """

    connections_table: str
    rooms_table: str
    rooms: Rooms = Rooms()
    application: str | None = None
    history_table: str | None = None
    callback_url: str | None = None
    fanout_queue_url: str | None = None
    fanout_rate: int = 600
    http2: bool = False
    jwt_secret: str | None = None
    jwt_secret_name: str | None = None
    jwks_url: str | None = None
    token_rules: TokenRules = TokenRules()
    allowed_origins: tuple[str, ...] = ()
    browsers_only: bool = False
    max_connections: int = 20
    when_over_max: str = "close_oldest"
    actions_per_second: int = 20
    actions_burst: int = 40
    sends_per_second: int = 5
    signals_per_second: int = 10
    connect_rate: int = 500
    server_events: ServerEventRules | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read and check the environment.

        Args:
            environ: where to read; the process's environment when left out.

        Raises:
            SettingsError: a variable is missing or wrong; it names the variable.
        """
        env = os.environ if environ is None else environ
        url = env.get(callback_url.KEY)
        secret = env.get("JWT_SECRET")
        lifetime = env.get("WEBSOCKET_JWT_MAX_LIFETIME")
        events = env.get(SERVER_EVENTS_KEY)
        rules = TokenRules(
            algorithm=_choice(env, "WEBSOCKET_JWT_ALGORITHM", "HS256", "RS256", "ES256"),
            audience=env.get("WEBSOCKET_JWT_AUDIENCE") or None,
            issuer=env.get("WEBSOCKET_JWT_ISSUER") or None,
            max_lifetime=_count(env, "WEBSOCKET_JWT_MAX_LIFETIME", 1) if lifetime else None,
            claims=ClaimNames.parse(_CLAIMS, env.get(_CLAIMS) or "{}"),
        )
        return cls(
            connections_table=_required(env, "WEBSOCKET_CONNECTIONS_TABLE"),
            rooms_table=_required(env, "WEBSOCKET_ROOMS_TABLE"),
            rooms=Rooms.loads(env.get(rooms_.KEY, "")),
            application=env.get("WEBSOCKET_APPLICATION") or None,
            history_table=env.get("WEBSOCKET_HISTORY_TABLE") or None,
            callback_url=CallbackUrl.parse(url).url if url else None,
            fanout_queue_url=env.get("WEBSOCKET_FANOUT_QUEUE_URL") or None,
            fanout_rate=_count(env, "WEBSOCKET_FANOUT_RATE", 600),
            http2=_choice(env, "WEBSOCKET_HTTP2", "false", "true") == "true",
            jwt_secret=check_secret("JWT_SECRET", secret) if secret else None,
            jwt_secret_name=env.get("WEBSOCKET_JWT_SECRET_NAME") or None,
            jwks_url=env.get("WEBSOCKET_JWKS_URL") or None,
            token_rules=rules,
            allowed_origins=_origins(env.get(_ORIGINS, "")),
            browsers_only=_choice(env, "WEBSOCKET_BROWSERS_ONLY", "false", "true") == "true",
            max_connections=_count(env, "WEBSOCKET_MAX_CONNECTIONS_PER_USER", 20),
            when_over_max=_choice(env, "WEBSOCKET_OVER_MAX_CONNECTIONS", "close_oldest", "refuse_new"),
            actions_per_second=_count(env, "WEBSOCKET_ACTIONS_PER_SECOND", 20),
            actions_burst=_count(env, "WEBSOCKET_ACTIONS_BURST", 40),
            sends_per_second=_count(env, "WEBSOCKET_SENDS_PER_SECOND", 5),
            signals_per_second=_count(env, "WEBSOCKET_SIGNALS_PER_SECOND", 10),
            connect_rate=_count(env, "WEBSOCKET_CONNECT_RATE", 500),
            server_events=ServerEventRules.parse(SERVER_EVENTS_KEY, events) if events else None,
        )

    def __repr__(self) -> str:
        secret = "set" if self.jwt_secret else None
        return f"Settings(connections_table={self.connections_table!r}, jwt_secret={secret})"


def check_secret(key: str, secret: str) -> str:
    """Check that a secret is fit to sign tokens with.

    Args:
        key: where it came from, for the error.
        secret: the key as text.

    Returns:
        The secret.

    Raises:
        SettingsError: shorter than 32 bytes, or easily guessed: words of tutorials, something that repeats
            itself, a walk over the keyboard or the alphabet.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        problem = f"must be at least {MIN_SECRET_BYTES} bytes long; `openssl rand -hex 32` makes one"
        raise SettingsError(key, problem)
    letters = re.sub(r"[^a-z]", "", secret.lower())
    # In a few random hex digits of a million the only letter is an `a`, which is a word.
    words = len(letters) >= _SHORTEST_WORDS and _TUTORIAL_WORDS.fullmatch(letters)
    repeats = any(secret[part:] == secret[:-part] for part in range(1, len(secret) // 2 + 1))
    if len(set(secret)) < 8 or repeats or _is_walk(secret.lower()) or words:
        raise SettingsError(
            key, "is a well-known or repeated secret; `openssl rand -hex 32` makes a good one"
        )
    return secret


def _is_walk(text: str) -> bool:
    """Whether most characters are the neighbours of those before them, on the keyboard or in the alphabet."""
    near = {pair for walk in _WALKS for a, b in pairwise(walk) for pair in (a + b, b + a)}
    steps = [a + b for a, b in pairwise(text)]
    return sum(step in near or step[0] == step[1] for step in steps) >= _WALKED * len(steps)


def _required(env: Mapping[str, str], key: str) -> str:
    value = env.get(key)
    if not value:
        raise SettingsError(
            key, "is not set; `roomcast env` writes it for a deployed stage, `roomcast dev` for the local one"
        )
    return value


def _origins(text: str) -> tuple[str, ...]:
    origins = []
    for given in filter(None, map(str.strip, text.split(","))):
        origin = given if given == "*" else origins_.normal(given)
        if origin is None:
            raise SettingsError(_ORIGINS, f"{given!r} is not an origin such as https://www.example.com")
        origins.append(origin)
    return tuple(origins)


def _count(env: Mapping[str, str], key: str, default: int) -> int:
    value = env.get(key) or str(default)
    if not (value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value) > 0):
        raise SettingsError(key, f"{value!r} is not a whole number above 0")
    return int(value)


def _choice(env: Mapping[str, str], key: str, *choices: Choice) -> Choice:
    """One of the choices, the first where the variable is not set."""
    value = env.get(key) or choices[0]
    for choice in choices:
        if value == choice:
            return choice
    raise SettingsError(key, f"{value!r} is not one of {', '.join(choices)}")
