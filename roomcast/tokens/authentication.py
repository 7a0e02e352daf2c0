"""A JWT becomes an `Identity`, or an `AuthError`.

A token is refused unless one of the stage's keys signed it with the one algorithm that the stage has
pinned, it has a numeric `exp` that is not past, and it names one user.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

import jwt

from roomcast import names
from roomcast.connection import Identity
from roomcast.errors import AuthError, InvalidNameError
from roomcast.names import Role
from roomcast.settings import TokenRules

DEFAULT_RULES = TokenRules()
LEEWAY_SECONDS = 10
"""How far the clocks of the signer and of Lambda may be apart."""
MAX_TOKEN_CHARS = 4096
"""API Gateway takes URLs of at most 4,096 characters, so no longer token arrives as `?token=`."""
_MAX_SECONDS = 253_402_300_800  # the end of the year 9999, where Python's dates and PyJWT's end
_MAX_LABEL_CHARS = 256  # of `name` and `email`: they are stored with each connection


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
        keys: read again once if no known key has signed the token, so that a rotated secret is found.
        rules: what else the stage asks for.

    Raises:
        AuthError: nobody is let in. Nothing else is raised, whatever the token.
    """
    if not token:
        raise AuthError("no token")
    if len(token) > MAX_TOKEN_CHARS:
        raise AuthError(f"token over {MAX_TOKEN_CHARS} characters")
    known = keys.known()
    try:
        return _identity(_claims(token, known, rules), rules)
    except jwt.InvalidSignatureError:
        new = tuple(key for key in keys.reread() if key not in known)
    try:
        return _identity(_claims(token, new, rules), rules)
    except jwt.InvalidSignatureError:
        raise AuthError("signed with another key") from None


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
    now: float | None = None,
) -> str:
    """Make a token that `authenticate` takes.

    Args:
        secret: the stage's key.
        user_id: who it is for.
        role: `admin` or `user`.
        name: shown to others.
        email: likewise.
        ttl: seconds until it expires.
        audience: the claim `aud`, for a stage that asks for one.
        issuer: the claim `iss`, likewise.
        now: epoch seconds; the clock when left out.

    Raises:
        InvalidNameError: the user id is outside its grammar.
    """
    issued = int(time.time() if now is None else now)
    claims = {"userId": names.user_id(user_id), "role": role, "name": name, "email": email}
    asked = {"aud": audience, "iss": issuer}
    claims |= {claim: value for claim, value in asked.items() if value is not None}
    return jwt.encode({**claims, "iat": issued, "exp": issued + ttl}, secret, algorithm="HS256")


def _claims(token: str, keys: tuple[Any, ...], rules: TokenRules) -> Mapping[str, Any]:
    """The claims of a token that one of the keys has signed.

    Raises:
        jwt.InvalidSignatureError: none of them has.
        AuthError: anything else is wrong with it.
    """
    for key in keys:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[rules.algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=LEEWAY_SECONDS,
                # `sub` is looked at below, together with `userId` and `id`.
                options={"require": ["exp"], "verify_sub": False},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as error:
            raise AuthError(f"{type(error).__name__}: {error}") from None
        except (ValueError, OverflowError, RecursionError) as error:  # what JSON can hide in a token
            raise AuthError(f"malformed token: {type(error).__name__}") from None
        return claims
    raise jwt.InvalidSignatureError


def _identity(claims: Mapping[str, Any], rules: TokenRules) -> Identity:
    expires_at, issued_at = _seconds(claims, "exp"), 0
    if claims.get("iat") is not None:
        issued_at = _seconds(claims, "iat")
    if rules.max_lifetime is not None and not 0 < expires_at - issued_at <= rules.max_lifetime:
        raise AuthError(f"valid for more than {rules.max_lifetime} seconds, or without iat")
    # LandingHub's backends sign numeric ids too.
    values = [claims[claim] for claim in ("userId", "sub", "id") if claims.get(claim) is not None]
    ids = {str(value) if isinstance(value, str | int) else "" for value in values}
    if len(ids) != 1:
        raise AuthError("userId, sub and id disagree" if ids else "no userId, sub or id")
    try:
        user_id = names.user_id(ids.pop())
    except InvalidNameError as error:
        raise AuthError(str(error)) from None
    role: Role = "admin" if claims.get("role") == "admin" else "user"
    return Identity(user_id, role, _label(claims, "name"), _label(claims, "email"), expires_at, issued_at)


def _seconds(claims: Mapping[str, Any], claim: str) -> int:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_SECONDS:
        raise AuthError(f"{claim} is no number of seconds")
    return int(value)


def _label(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if value is None:
        return ""
    # `isprintable` is false for lone surrogates, which no database takes, and for control characters.
    if not isinstance(value, str) or len(value) > _MAX_LABEL_CHARS or not value.isprintable():
        raise AuthError(f"{claim} is no printable string of at most {_MAX_LABEL_CHARS} characters")
    return value
