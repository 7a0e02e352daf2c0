"""The usual token let in without PyJWT, whose import is a third of a handshake's cold start.

It only ever says yes, and only to what PyJWT says yes to as well: a token of the plain form, signed with
HS256, with whole numbers for its times. Everything else is for PyJWT to judge: every refusal is PyJWT's.
"""

import base64
import hmac
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from roomcast.settings import TokenRules

_PLAIN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")
_HEADERS = {"alg", "typ", "kid"}
_OTHER_KEYS = ("-----BEGIN", "ssh-", "ecdsa-")  # PyJWT takes no public key for a secret


def usual_claims(
    token: str, keys: tuple[str, ...], rules: TokenRules, leeway: float
) -> Mapping[str, Any] | None:
    """The claims of a token that is certainly good; None where PyJWT has to look.

    Args:
        token: as the client has sent it.
        keys: secrets; one of them must have signed it.
        rules: of the stage.
        leeway: seconds by which clocks may differ.
    """
    parts = _PLAIN.fullmatch(token)
    if rules.algorithm != "HS256" or parts is None:
        return None
    try:
        header = json.loads(_decode(parts[1]))
        if not isinstance(header, dict) or header.get("alg") != "HS256" or not header.keys() <= _HEADERS:
            return None
        if not isinstance(header.get("kid", ""), str):
            return None
        signed, signature = token[: parts.end(2)].encode(), _decode(parts[3])
        if not any(
            hmac.compare_digest(hmac.digest(key.encode(), signed, "sha256"), signature)
            for key in keys
            if not any(mark in key for mark in _OTHER_KEYS)
        ):
            return None
        claims = json.loads(_decode(parts[2]))
    except (ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    now = time.time()
    ends: Any = claims.get("exp")
    begins = [claims[name] for name in ("iat", "nbf") if name in claims]
    good = (
        all(type(moment) is int for moment in (ends, *begins))
        and ends > now - leeway
        and all(moment <= now + leeway for moment in begins)
        and (rules.issuer is None or claims.get("iss") == rules.issuer)
    )
    return claims if good else None


def _decode(text: str) -> bytes:
    """The bytes of base64url without padding.

    Raises:
        ValueError: it is not what these bytes are written as.
    """
    found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text.encode():
        raise ValueError("not the one way to write these bytes")
    return found
