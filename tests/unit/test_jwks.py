"""Public keys: only those for signatures of the stage's algorithm; a failed fetch loses none."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from roomcast.errors import AuthError
from roomcast.settings import TokenRules
from roomcast.tokens.authentication import authenticate
from roomcast.tokens.public_keys import PublicKeys

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
RS256 = TokenRules(algorithm="RS256")
ES256 = TokenRules(algorithm="ES256")


def jwk(key: Any, **more: object) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "key_ops": ["verify"], **more}


def signed(key: Any, algorithm: str = "RS256") -> str:
    return jwt.encode({"userId": "u1", "exp": int(time.time()) + 60}, key, algorithm=algorithm)


class Document:
    """A JWKS document at a `file:` URL, and a clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0

    def keys(self, rules: TokenRules = RS256) -> PublicKeys:
        return PublicKeys(self.path.as_uri(), rules.algorithm, clock=lambda: self.now)

    def hold(self, *keys: object) -> None:
        self.path.write_text(json.dumps({"keys": keys}))


@pytest.fixture
def document(tmp_path: Path) -> Document:
    return Document(tmp_path / "jwks.json")


@pytest.mark.parametrize(("key", "rules"), [(RSA, RS256), (EC, ES256)])
def test_a_token_signed_with_the_private_key_is_good(document: Document, key: Any, rules: TokenRules) -> None:
    document.hold(jwk(OTHER_RSA), jwk(EC), jwk(RSA))
    assert authenticate(signed(key, rules.algorithm), document.keys(rules), rules).user_id == "u1"


@pytest.mark.parametrize(
    "key",
    [
        jwk(RSA, use="enc"),
        jwk(RSA, alg="RS512"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(EC),
        {"kty": "oct", "k": "c2VjcmV0"},
        "no key",
        None,
    ],
)
def test_a_key_for_something_else_is_not_used(document: Document, key: object) -> None:
    document.hold(key)
    with pytest.raises(AuthError):
        authenticate(signed(RSA), document.keys(), RS256)


def test_the_public_key_signs_no_hs256_token(document: Document) -> None:
    document.hold(jwk(RSA))
    forged = jwt.encode({"userId": "u1", "exp": int(time.time()) + 60}, jwk(RSA)["n"], "HS256")
    with pytest.raises(AuthError):
        authenticate(forged, document.keys(), RS256)


def test_a_new_key_is_found_but_looked_for_at_most_once_a_minute(document: Document) -> None:
    document.hold(jwk(RSA))
    keys = document.keys()
    assert authenticate(signed(RSA), keys, RS256)
    document.hold(jwk(OTHER_RSA), jwk(RSA))
    with pytest.raises(AuthError):
        authenticate(signed(OTHER_RSA), keys, RS256)
    document.now += 61
    assert authenticate(signed(OTHER_RSA), keys, RS256)


@pytest.mark.parametrize("broken", [None, "", "no JSON", "[]", '{"keys": 1}', '{"keys": [{"kty": "RSA"}]}'])
def test_a_document_that_cannot_be_read_leaves_the_keys(
    document: Document, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    document.hold(jwk(RSA))
    keys = document.keys()
    assert authenticate(signed(RSA), keys, RS256)
    document.now += 61
    document.path.unlink() if broken is None else document.path.write_text(broken)
    with pytest.raises(AuthError):
        authenticate(signed(OTHER_RSA), keys, RS256)
    assert "cannot read the public keys" in caplog.text
    assert authenticate(signed(RSA), keys, RS256)
