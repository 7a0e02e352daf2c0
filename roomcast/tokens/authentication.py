"""A JWT becomes an `Identity`, or an `AuthError`.

A token is refused unless one of the stage's keys signed it with the one algorithm that the stage has
pinned, it has a numeric `exp` that is not past, and it names one user.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from roomcast import names
from roomcast.connection import Identity
from roomcast.errors import AuthError, InvalidNameError
from roomcast.names import Role
from roomcast.plain_text import label
from roomcast.settings import ClaimNames, TokenRules
from roomcast.tokens.hs256 import usual_claims

DEFAULT_RULES = TokenRules()
LEEWAY_SECONDS = 10
"""How far the clocks of the signer and of Lambda may be apart: a token is valid for this much longer, at the
handshake and after it."""
MAX_TOKEN_CHARS = 4096
"""API Gateway takes URLs of at most 4,096 characters, so no longer token arrives as `?token=`."""
_MAX_SECONDS = 253_402_300_800  # the end of the year 9999, where Python's dates and PyJWT's end


class Keys(Protocol):
    """The keys that tokens may be signed with, newest first: a secret's text, or PyJWT's public keys."""

    def known(self) -> tuple[Any, ...]:
        """The keys as last read."""

    def reread(self) -> tuple[Any, ...]:
        """The keys after looking for new ones, or the same where it is too early to look again."""


def authenticate(token: str | None, keys: Keys, rules: TokenRules = DEFAULT_RULES) -> Identity:
    """Decide who a token belongs to.

    Args:
        token: the compact JWT as the client sent it; None or empty where it sent none.
        keys: read again if no known key has signed the token, so that a rotated secret is found.
        rules: what else the stage asks for.

    Raises:
        AuthError: nobody is let in.
        KeysUnavailableError: there is no key to check it with. Nothing else is raised, whatever the token.
    """
    if not token:
        raise AuthError("no token")
    if len(token) > MAX_TOKEN_CHARS:
        raise AuthError(f"token over {MAX_TOKEN_CHARS} characters")
    known = keys.known()
    claims = _claims(token, known, rules)
    if claims is None:
        claims = _claims(token, tuple(key for key in keys.reread() if key not in known), rules)
    if claims is None:
        raise AuthError("signed with another key")
    return _identity(claims, rules)


def sign_token(
    secret: str,
    *,
    user_id: str,
    role: Role = "user",
    name: str = "",
    email: str = "",
    ttl: int = 3600,
    audience: str | None = None,
    issuer: str | None = None,
    claims: ClaimNames = ClaimNames(),  # noqa: B008  frozen
    now: float | None = None,
) -> str:
    """Sign a token that lets a user in, for a stage with the algorithm `HS256`.

    A backend whose login service signs tokens itself needs none of these. `WebSocketService.create_ticket`
    needs no secret, and a ticket in a log does no harm.

    Args:
        secret: the stage's key: `JWT_SECRET`, or the secret that `WEBSOCKET_JWT_SECRET_NAME` names.
        user_id: who it is for.
        role: `admin` or `user`.
        name: shown to others.
        email: likewise.
        ttl: seconds until it expires.
        audience: the claim `aud`, for a stage that asks for one.
        issuer: the claim `iss`, likewise.
        claims: which claims the stage reads.
        now: epoch seconds; the clock when left out.

    Raises:
        InvalidNameError: the user id is outside its grammar.
    """
    issued = int(time.time() if now is None else now)
    about: dict[str, object] = {
        claims.user or "userId": names.user_id(user_id),
        claims.role or "role": claims.admin if role == "admin" else "user",
        claims.name: label(name),
        claims.email: label(email),
    }
    asked = {claims.audience: audience, "iss": issuer}
    about |= {claim: value for claim, value in asked.items() if value is not None}
    import jwt

    return jwt.encode({**about, "iat": issued, "exp": issued + ttl}, secret, algorithm="HS256")


def _claims(token: str, keys: tuple[Any, ...], rules: TokenRules) -> Mapping[str, Any] | None:
    """The claims of a token that one of the keys has signed; None where none of them has.

    Raises:
        AuthError: anything else is wrong with it.
    """
    usual = usual_claims(token, keys, rules, LEEWAY_SECONDS)
    if usual is not None:
        return usual
    import jwt  # for other algorithms, and for every refusal

    for key in keys:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[rules.algorithm],
                issuer=rules.issuer,
                leeway=LEEWAY_SECONDS,
                # `_identity` looks at the user and at the audience.
                options={"require": ["exp"], "verify_sub": False, "verify_aud": False, "verify_jti": False},
            )
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
            continue
        except jwt.ExpiredSignatureError as error:
            raise AuthError(f"{type(error).__name__}: {error}", "expired") from None
        except jwt.PyJWTError as error:
            raise AuthError(f"{type(error).__name__}: {error}") from None
        # What JSON can hide in a token.
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise AuthError(f"malformed token: {type(error).__name__}") from None
        return claims
    return None


def _identity(claims: Mapping[str, Any], rules: TokenRules) -> Identity:
    ends, issued_at = _seconds(claims, "exp"), 0
    if claims.get("iat") is not None:
        issued_at = _seconds(claims, "iat")
    if rules.max_lifetime is not None and not 0 < ends - issued_at <= rules.max_lifetime:
        raise AuthError(
            f"valid for more than {rules.max_lifetime} seconds (jwt_max_lifetime), or without iat"
        )
    _check_audience(claims, rules)
    wanted = rules.claims
    roles = [claims.get("role")] if wanted.role is None else _texts(_find(claims, wanted.role))
    role: Role = "admin" if wanted.admin in roles else "user"
    return Identity(
        _user_id(claims, wanted),
        role,
        label(_find(claims, wanted.name)),
        label(_find(claims, wanted.email)),
        # Events and actions end when the handshake would refuse the token, not before.
        expires_at=ends + LEEWAY_SECONDS,
        issued_at=issued_at,
    )


def _check_audience(claims: Mapping[str, Any], rules: TokenRules) -> None:
    name = rules.claims.audience
    value = _find(claims, name)
    if rules.audience is None:
        if value:
            raise AuthError(f"the token has the claim {name}, and the stage names no jwt_audience")
    elif rules.audience not in _texts(value):
        raise AuthError(f"the claim {name} is not the stage's jwt_audience")


def _user_id(claims: Mapping[str, Any], wanted: ClaimNames) -> str:
    names_ = ("userId", "sub", "id") if wanted.user is None else (wanted.user,)
    values = [value for name in names_ if (value := _find(claims, name)) is not None]
    # LandingHub's backends sign numeric ids too.
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        raise AuthError(f"{', '.join(names_)} must be a string or a whole number")
    ids = {str(value) for value in values}
    if len(ids) != 1:
        together = " or ".join(names_)
        raise AuthError(f"{', '.join(names_)} disagree" if ids else f"no {together}: see jwt_claims")
    try:
        return names.user_id(ids.pop())
    except InvalidNameError as error:
        raise AuthError(str(error)) from None


def _find(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that whole name, or the one that its dots lead to; None where there is neither."""
    if name in claims:
        return claims[name]
    for at, character in enumerate(name):
        inner = claims.get(name[:at]) if character == "." else None
        if isinstance(inner, dict) and (found := _find(inner, name[at + 1 :])) is not None:
            return found
    return None


def _texts(value: Any) -> list[str]:
    """The strings of a claim that is a string, a list or true."""
    if value is True:
        return ["true"]
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _seconds(claims: Mapping[str, Any], claim: str) -> int:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_SECONDS:
        raise AuthError(f"{claim} is not a number of seconds")
    return int(value)
