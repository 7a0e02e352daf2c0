"""Settings come from the environment, once, and a wrong one is named."""

import secrets

import pytest

from roomcast import Settings, SettingsError
from roomcast.settings import check_secret
from tests.builders import SECRET

ENV = {"WEBSOCKET_CONNECTIONS_TABLE": "c", "WEBSOCKET_ROOMS_TABLE": "r"}


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (
            "wss://a.execute-api.eu-west-1.amazonaws.com/prod",
            "https://a.execute-api.eu-west-1.amazonaws.com/prod",
        ),
        ("https://ws.example.org", "https://ws.example.org"),
        ("ws://localhost:3001/local/", "http://localhost:3001/local"),
    ],
)
def test_the_endpoint_is_taken_in_the_form_that_the_outputs_have(given: str, url: str) -> None:
    assert Settings.from_env({**ENV, "WEBSOCKET_API_ENDPOINT": given}).callback_url == url


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WEBSOCKET_CONNECTIONS_TABLE", ""),
        ("WEBSOCKET_ROOMS_TABLE", ""),
        ("WEBSOCKET_API_ENDPOINT", "localhost:3001"),
        ("WEBSOCKET_API_ENDPOINT", "ftp://x"),
        ("WEBSOCKET_API_ENDPOINT", "wss://.execute-api.us-east-1.amazonaws.com/prod"),
        ("WEBSOCKET_API_ENDPOINT", "wss://a..b/x"),
        ("WEBSOCKET_API_ENDPOINT", f"wss://{'a' * 64}.example.com"),
        ("WEBSOCKET_API_ENDPOINT", f"wss://{'a.' * 130}com"),
        ("WEBSOCKET_API_ENDPOINT", "wss://${API_ID}.execute-api.us-east-1.amazonaws.com/prod"),
        ("WEBSOCKET_API_ENDPOINT", "wss://b\u00fccher.example.com/prod"),
        ("WEBSOCKET_API_ENDPOINT", "wss://a b/prod"),
        ("WEBSOCKET_API_ENDPOINT", "wss://a%00b/prod"),
        ("WEBSOCKET_API_ENDPOINT", "wss://[::g]/prod"),
        ("WEBSOCKET_API_ENDPOINT", "wss://./prod"),
        ("WEBSOCKET_JWT_ALGORITHM", "none"),
        ("WEBSOCKET_JWT_MAX_LIFETIME", "1h"),
        ("WEBSOCKET_JWT_CLAIMS", "user_id"),
        ("WEBSOCKET_JWT_CLAIMS", '["user_id"]'),
        ("WEBSOCKET_JWT_CLAIMS", '{"user": 7}'),
        ("WEBSOCKET_JWT_CLAIMS", '{"users": "user_id"}'),
        ("WEBSOCKET_ALLOWED_ORIGINS", "www.example.com"),
        ("WEBSOCKET_BROWSERS_ONLY", "yes"),
        ("WEBSOCKET_HTTP2", "1"),
        ("WEBSOCKET_MAX_CONNECTIONS_PER_USER", "0"),
        ("WEBSOCKET_OVER_MAX_CONNECTIONS", "close"),
        ("WEBSOCKET_ACTIONS_PER_SECOND", "-1"),
        ("WEBSOCKET_ACTIONS_BURST", "\u0661"),
        ("JWT_SECRET", "short"),
        ("JWT_SECRET", "x" * 40),
        ("JWT_SECRET", "your-super-secret-jwt-key-change-me-in-production"),
        ("JWT_SECRET", "secretsecretsecretsecretsecretsecret"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_key(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key}: ") as caught:
        Settings.from_env({**ENV, key: value})
    assert caught.value.key == key
    assert not value or key != "JWT_SECRET" or value not in str(caught.value)


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(Settings.from_env({**ENV, "JWT_SECRET": SECRET}))


@pytest.mark.parametrize(
    "secret",
    [
        "a-string-secret-at-least-256-bits-long",
        "qwertyuiopasdfghjklzxcvbnm1234567890",
        "0123456789abcdef0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "zyxwvutsrqponmlkjihgfedcba9876543210",
        "correcthorsecorrecthorsecorrecthorse",
        "this-is-a-private-key-please-use-a-random-value-here",
        "my32characterslongsecretforsigning",
    ],
)
def test_a_secret_that_is_easily_guessed_is_refused(secret: str) -> None:
    with pytest.raises(SettingsError, match="well-known"):
        check_secret("JWT_SECRET", secret)


@pytest.mark.parametrize("secret", ["30971943687a11036948080287830157", "3097194368701103694808028783015a"])
def test_a_random_secret_whose_only_letter_is_a_word_is_taken(secret: str) -> None:
    assert check_secret("JWT_SECRET", secret) == secret


def test_a_random_secret_is_taken() -> None:
    for _ in range(2_000):
        assert check_secret("JWT_SECRET", secrets.token_hex(16))
        assert check_secret("JWT_SECRET", secrets.token_urlsafe(24))
