"""Public keys: only those for signatures of the stage's algorithm; a failed fetch loses none."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from roomcast.errors import AuthError, KeysUnavailableError
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
    document.hold(key, jwk(OTHER_RSA))
    with pytest.raises(AuthError):
        authenticate(signed(RSA), document.keys(), RS256)


def test_the_public_key_signs_no_hs256_token(document: Document) -> None:
    document.hold(jwk(RSA))
    forged = jwt.encode({"userId": "u1", "exp": int(time.time()) + 60}, jwk(RSA)["n"], "HS256")
    with pytest.raises(AuthError):
        authenticate(forged, document.keys(), RS256)


def test_a_new_key_is_found_at_once_and_a_withdrawn_one_is_refused_after_a_minute(document: Document) -> None:
    document.hold(jwk(RSA))
    keys = document.keys()
    assert authenticate(signed(RSA), keys, RS256)
    document.hold(jwk(OTHER_RSA), jwk(RSA))
    assert authenticate(signed(OTHER_RSA), keys, RS256)
    document.hold(jwk(OTHER_RSA))
    document.now += 61
    with pytest.raises(AuthError):
        authenticate(signed(RSA), keys, RS256)


P384, K1 = (ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP256K1()))
SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def without(key: dict[str, Any], name: str) -> dict[str, Any]:
    return {part: value for part, value in key.items() if part != name}


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(without(jwk(P384), "alg"), id="P-384"),
        pytest.param(without(jwk(K1), "alg"), id="secp256k1"),
        pytest.param({**jwk(EC), "crv": "BP-256"}, id="unknown curve"),
        pytest.param({**jwk(EC), "y": jwk(EC)["x"]}, id="a point off the curve"),
        pytest.param(without(jwk(EC), "y"), id="no y"),
        pytest.param({**jwk(EC), "x": 7}, id="x a number"),
        pytest.param({**jwk(P384), "d": "!"}, id="a broken private part"),
        pytest.param({"kty": "RSA", "x5c": ["MIIB"]}, id="a certificate only"),
        pytest.param({**jwk(RSA), "n": "!"}, id="a bad modulus"),
        pytest.param({"kty": "RSA"}, id="nothing but its kind"),
        pytest.param({**jwk(OTHER_RSA), "key_ops": 7}, id="key_ops a number"),
        pytest.param({**jwk(OTHER_RSA), "alg": {}}, id="alg an object"),
        pytest.param({**jwk(OTHER_RSA), "use": []}, id="use a list"),
        pytest.param(jwk(SHORT_RSA), id="a short key"),
        pytest.param("a string", id="a string"),
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param({}, id="an empty object"),
    ],
)
@pytest.mark.parametrize(("key", "rules"), [(RSA, RS256), (EC, ES256)])
def test_a_key_that_cannot_be_used_is_left_out_and_the_others_work(
    document: Document, odd: object, key: Any, rules: TokenRules
) -> None:
    document.hold(odd, jwk(key, key_ops=None), odd)
    assert authenticate(signed(key, rules.algorithm), document.keys(rules), rules).user_id == "u1"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_short_rsa_key_is_refused(document: Document) -> None:
    document.hold(jwk(SHORT_RSA), jwk(RSA))
    with pytest.raises(AuthError):
        authenticate(signed(SHORT_RSA), document.keys(), RS256)


ANSWERS = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="not HTTP"),
    pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", id="503"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="cut"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", id="cut in a chunk"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", id="too many headers"),
    pytest.param(b"HTTP/1.1 200 " + b"x" * 70000 + b"\r\n\r\n", id="a line too long"),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100000, id="too deep"),
    pytest.param(b'HTTP/1.1 200 OK\r\n\r\n{"keys": []}', id="no keys"),
    pytest.param(b'HTTP/1.1 200 OK\r\n\r\n{"keys": "\xff"}', id="not UTF-8"),
    pytest.param(b"HTTP/1.1 301 Moved\r\nLocation: gopher://[/\r\n\r\n", id="a redirection to nowhere"),
]


class Server:
    """Answers every request with the same bytes, and closes."""

    def __init__(self) -> None:
        self.answer = b""
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/jwks.json"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def hold(self, *keys: object) -> None:
        body = json.dumps({"keys": keys}).encode()
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))
                connection.sendall(self.answer)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_bad_answer_leaves_the_keys_and_is_no_answer_to_a_token(
    server: Server, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    keys = PublicKeys(server.url, "RS256", clock=lambda: now[0])
    server.answer = answer
    with pytest.raises(KeysUnavailableError):  # not an AuthError: the client did nothing wrong
        authenticate(signed(RSA), keys, RS256)
    server.hold(jwk(RSA))
    now[0] += 1
    assert authenticate(signed(RSA), keys, RS256)
    server.answer = answer
    now[0] += 61
    assert authenticate(signed(RSA), keys, RS256)
    with pytest.raises(AuthError):
        authenticate(signed(OTHER_RSA), keys, RS256)
    assert "cannot read the public keys" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_the_document_is_asked_for_with_a_user_agent_of_its_own(server: Server) -> None:
    server.hold(jwk(RSA))
    assert authenticate(signed(RSA), PublicKeys(server.url, "RS256"), RS256)
    assert b"user-agent: roomcast\r\n" in server.requests[0].lower()


def test_forged_tokens_cause_few_fetches_and_hide_no_new_key(server: Server) -> None:
    now = [1000.0]
    keys = PublicKeys(server.url, "RS256", clock=lambda: now[0])
    server.hold(jwk(RSA))
    forged = signed(OTHER_RSA)
    for _ in range(600):  # ten a second for a minute
        now[0] += 0.1
        with pytest.raises(AuthError):
            authenticate(forged, keys, RS256)
    assert len(server.requests) < 30
    server.hold(jwk(EC), jwk(OTHER_RSA))
    now[0] += 5
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
