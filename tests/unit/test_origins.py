"""Two spellings of one origin are equal, and apps have origins too."""

import pytest

from roomcast import Settings, SettingsError
from roomcast.origins import normal
from tests.unit.test_settings import ENV


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("https://www.example.com", "https://www.example.com"),
        ("HTTPS://WWW.Example.COM", "https://www.example.com"),
        ("https://www.example.com/", "https://www.example.com"),
        ("https://www.example.com:443", "https://www.example.com"),
        ("http://www.example.com:80/", "http://www.example.com"),
        ("http://www.example.com:0443", "http://www.example.com:443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://my-app", "app://my-app"),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ),
        (
            "moz-extension://12345678-1234-1234-1234-123456789abc",
            "moz-extension://12345678-1234-1234-1234-123456789abc",
        ),
    ],
)
def test_an_origin_has_one_normal_form(given: str, same: str) -> None:
    assert normal(given) == same
    assert normal(same) == same


@pytest.mark.parametrize(
    "given",
    [
        *(
            "",
            "null",
            "*",
            "example.com",
            "https://",
            "https:///x",
            "https://a/b",
            "https://a?b",
            "https://a#b",
        ),
        *("https://user@a", "https://a:port", "http://[::g]", "http://[::1", "https://a b", "https://..ü"),
    ],
)
def test_what_is_not_an_origin_has_none(given: str) -> None:
    assert normal(given) is None


def test_the_setting_is_kept_in_normal_form_and_a_wrong_one_is_named() -> None:
    given = "https://WWW.example.com:443/, capacitor://localhost,*"
    settings = Settings.from_env({**ENV, "WEBSOCKET_ALLOWED_ORIGINS": given})
    assert settings.allowed_origins == ("https://www.example.com", "capacitor://localhost", "*")
    with pytest.raises(SettingsError, match=r"'www\.example\.com' is not an origin"):
        Settings.from_env({**ENV, "WEBSOCKET_ALLOWED_ORIGINS": "www.example.com"})


def test_without_the_setting_no_page_is_let_in() -> None:
    assert Settings.from_env(ENV).allowed_origins == ()
