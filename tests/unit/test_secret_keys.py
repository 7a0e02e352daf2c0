"""The secret: two versions at a time, at most a minute old, and one clear line where it cannot be used."""

from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from roomcast.errors import AuthError, KeysUnavailableError
from roomcast.tokens.authentication import authenticate
from roomcast.tokens.secret_keys import SecretKeys
from tests.builders import OTHER_SECRET, SECRET, token

THIRD_SECRET = "c0ffee00deadbeef5a5a9d1c6a2f8e7b39607182f3a4c1d7"


class Secrets:
    """Secrets Manager with one secret, and a clock."""

    def __init__(self, *versions: dict[str, Any]) -> None:
        self.versions = list(versions)  # the current one last
        self.problem: Exception | None = None
        self.calls = 0
        self.now = 1000.0

    def keys(self) -> SecretKeys:
        return SecretKeys(cast("Any", self), "jwt", clock=lambda: self.now)

    def put(self, secret: str) -> None:
        self.versions.append({"SecretString": secret})

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        if self.problem:
            raise self.problem
        back = {"AWSCURRENT": 1, "AWSPREVIOUS": 2}[VersionStage]
        if len(self.versions) < back:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetSecretValue")
        return self.versions[-back]


def secrets(text: str = SECRET) -> Secrets:
    return Secrets({"SecretString": text})


def test_a_rotation_refuses_nobody_even_after_forged_tokens() -> None:
    manager = secrets()
    keys = manager.keys()
    for _ in range(3):
        with pytest.raises(AuthError):
            authenticate(token(secret=THIRD_SECRET), keys)
    manager.put(OTHER_SECRET)
    for secret in (OTHER_SECRET, SECRET):
        assert authenticate(token(secret=secret), keys)


def test_a_secret_that_was_rotated_away_twice_stops_working_within_a_minute() -> None:
    manager = secrets()
    keys = manager.keys()
    assert authenticate(token(), keys)
    manager.put(OTHER_SECRET)
    manager.put(THIRD_SECRET)
    manager.now += 61
    with pytest.raises(AuthError):
        authenticate(token(), keys)
    for secret in (OTHER_SECRET, THIRD_SECRET):
        assert authenticate(token(secret=secret), keys)


def test_a_flood_of_forged_tokens_is_no_flood_of_calls() -> None:
    manager = secrets()
    keys = manager.keys()
    for _ in range(600):  # ten a second for a minute
        manager.now += 0.1
        with pytest.raises(AuthError):
            authenticate(token(secret=OTHER_SECRET), keys)
    assert manager.calls < 60


@pytest.mark.parametrize(
    "problem",
    [
        ClientError({"Error": {"Code": "ThrottlingException"}}, "GetSecretValue"),
        EndpointConnectionError(endpoint_url="https://secretsmanager"),
    ],
)
def test_an_outage_keeps_the_keys_and_is_no_answer_to_a_token(problem: Exception) -> None:
    manager = secrets()
    keys = manager.keys()
    manager.problem = problem
    with pytest.raises(KeysUnavailableError):
        authenticate(token(), keys)
    calls = manager.calls
    with pytest.raises(KeysUnavailableError):
        authenticate(token(), keys)
    assert manager.calls == calls  # not for every token
    manager.problem = None
    manager.now += 1
    assert authenticate(token(), keys)
    manager.problem = problem
    manager.now += 3600
    assert authenticate(token(), keys)
    with pytest.raises(AuthError):
        authenticate(token(secret=OTHER_SECRET), keys)


def test_a_binary_secret_is_one_clear_line() -> None:
    with pytest.raises(KeysUnavailableError, match="SecretBinary; put the key as text"):
        authenticate(token(), Secrets({"SecretBinary": b"x" * 32}).keys())


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_white_space_around_a_secret_locks_nobody_out(end: str, caplog: pytest.LogCaptureFixture) -> None:
    keys = secrets(SECRET + end).keys()
    for secret in (SECRET, SECRET + end):
        assert authenticate(token(secret=secret), keys)
    assert "white space" in caplog.text
    assert SECRET not in caplog.text
