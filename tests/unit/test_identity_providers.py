"""Tokens in the shape in which identity providers issue them, each with the settings of docs/tokens.md."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from roomcast.errors import AuthError
from roomcast.settings import ClaimNames, Settings, TokenRules
from roomcast.tokens.authentication import authenticate, sign_token
from roomcast.tokens.secret_keys import StaticKeys
from tests.builders import SECRET
from tests.unit.test_auth import raw_signed

NOW = int(time.time())
UUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
TIMES = {"iat": NOW, "exp": NOW + 3600}

TOKENS: dict[str, dict[str, Any]] = {
    "Cognito, id token": {
        "sub": UUID,
        "cognito:groups": ["editors", "admins"],
        "email_verified": True,
        "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_example",
        "cognito:username": "janedoe",
        "origin_jti": UUID,
        "aud": "1example23456789",
        "event_id": UUID,
        "token_use": "id",
        "auth_time": NOW,
        "jti": UUID,
        "name": "Jane Doe",
        "email": "janedoe@example.com",
        **TIMES,
    },
    "Cognito, access token": {
        "sub": UUID,
        "cognito:groups": ["admins"],
        "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_example",
        "client_id": "1example23456789",
        "origin_jti": UUID,
        "event_id": UUID,
        "token_use": "access",
        "scope": "openid profile email",
        "auth_time": NOW,
        "jti": UUID,
        "username": "janedoe",
        **TIMES,
    },
    "Auth0": {
        "https://example.com/roles": ["admin"],
        "iss": "https://example.eu.auth0.com/",
        "sub": "google-oauth2|107100000000000000001",
        "aud": ["https://api.example.com", "https://example.eu.auth0.com/userinfo"],
        "azp": "my_client_id",
        "scope": "openid profile email",
        "permissions": [],
        **TIMES,
    },
    "Keycloak": {
        "jti": "onrtac:aaaaaaaa",
        "iss": "http://localhost:8080/realms/example",
        "aud": ["roomcast", "account"],
        "sub": UUID,
        "typ": "Bearer",
        "azp": "web",
        "sid": UUID,
        "acr": "1",
        "allowed-origins": ["https://www.example.com"],
        "realm_access": {"roles": ["offline_access", "admin", "uma_authorization"]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        "scope": "email profile",
        "email_verified": True,
        "name": "Jane Doe",
        "preferred_username": "jane",
        "email": "jane@example.com",
        **TIMES,
    },
    "Clerk": {
        "azp": "https://www.example.com",
        "fva": [4, -1],
        "iss": "https://clerk.example.com",
        "jti": "10db7f531a90cb2faea4",
        "nbf": NOW - 10,
        "o": {"id": "org_2abc", "rol": "admin", "slg": "example"},
        "pla": "u:free",
        "sid": "sess_2abc",
        "sts": "active",
        "sub": "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
        "v": 2,
        **TIMES,
    },
    "Firebase": {
        "name": "Jane Doe",
        "admin": True,
        "iss": "https://securetoken.google.com/my-project",
        "aud": "my-project",
        "auth_time": NOW,
        "user_id": "uKmTgW2AbCdEfGhIjKlMnOpQrSt1",
        "sub": "uKmTgW2AbCdEfGhIjKlMnOpQrSt1",
        "email": "jane@example.com",
        "email_verified": True,
        "firebase": {"identities": {"email": ["jane@example.com"]}, "sign_in_provider": "password"},
        **TIMES,
    },
    "Supabase": {
        "iss": "https://abcdefghijkl.supabase.co/auth/v1",
        "sub": UUID,
        "aud": "authenticated",
        "email": "jane@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"], "role": "admin"},
        "user_metadata": {"full_name": "Jane Doe"},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": NOW}],
        "session_id": UUID,
        "is_anonymous": False,
        **TIMES,
    },
    "fastapi-users": {"sub": UUID, "aud": ["fastapi-users:auth"], "exp": NOW + 3600},
    "simplejwt": {"token_type": "access", "jti": "0a1b2c3d", "user_id": 1, "is_staff": True, **TIMES},
}
EXPECTED = {
    "Cognito, id token": (UUID, "admin", "Jane Doe", "janedoe@example.com"),
    "Cognito, access token": (UUID, "admin", "janedoe", ""),
    "Auth0": ("google-oauth2|107100000000000000001", "admin", "", ""),
    "Keycloak": (UUID, "admin", "Jane Doe", "jane@example.com"),
    "Clerk": ("user_2NNEqL2nrIRdJ194ndJqAHwEfxC", "admin", "", ""),
    "Firebase": ("uKmTgW2AbCdEfGhIjKlMnOpQrSt1", "admin", "Jane Doe", "jane@example.com"),
    "Supabase": (UUID, "admin", "Jane Doe", "jane@example.com"),
    "fastapi-users": (UUID, "user", "", ""),
    "simplejwt": ("1", "admin", "", ""),
}
PAGE = (Path(__file__).parents[2] / "docs/tokens.md").read_text(encoding="utf-8")
SETTINGS: dict[str, dict[str, Any]] = {
    name: json.loads(settings)
    for name, settings in re.findall(r"^### ([^\n]+)$.*?```json\n(.+?)```", PAGE, re.MULTILINE | re.DOTALL)
}


def rules(settings: dict[str, Any]) -> TokenRules:
    """What the functions are told of these settings."""
    env = {
        "WEBSOCKET_CONNECTIONS_TABLE": "c",
        "WEBSOCKET_ROOMS_TABLE": "r",
        "WEBSOCKET_JWT_AUDIENCE": settings.get("jwt_audience", ""),
        "WEBSOCKET_JWT_ISSUER": settings.get("jwt_issuer", ""),
        "WEBSOCKET_JWT_CLAIMS": json.dumps(settings.get("jwt_claims", {})),
    }
    return Settings.from_env(env).token_rules


def test_every_provider_has_its_settings_on_the_page() -> None:
    assert list(SETTINGS) == list(TOKENS)


@pytest.mark.parametrize("provider", TOKENS)
def test_a_token_of_a_provider_is_let_in_with_the_settings_of_the_page(provider: str) -> None:
    text = raw_signed(json.dumps(TOKENS[provider]))
    who = authenticate(text, StaticKeys(SECRET), rules(SETTINGS[provider]))
    assert (who.user_id, who.role, who.name, who.email) == EXPECTED[provider]


@pytest.mark.parametrize("provider", TOKENS)
def test_a_token_for_another_audience_or_of_another_issuer_is_refused(provider: str) -> None:
    asked = rules(SETTINGS[provider])
    audience, issuer = asked.claims.audience, "iss"
    for claim, wanted in ((audience, asked.audience), (issuer, asked.issuer)):
        if wanted:
            text = raw_signed(json.dumps({**TOKENS[provider], claim: "other"}))
            with pytest.raises(AuthError):
                authenticate(text, StaticKeys(SECRET), asked)


def test_a_list_of_roles_counts_only_where_the_stage_names_the_claim() -> None:
    text = raw_signed(json.dumps({"userId": "u1", "role": ["admin"], **TIMES}))
    assert authenticate(text, StaticKeys(SECRET)).role == "user"
    named = TokenRules(claims=ClaimNames(role="role"))
    assert authenticate(text, StaticKeys(SECRET), named).role == "admin"


@pytest.mark.parametrize(
    "claims", [ClaimNames(), ClaimNames(user="user_id", role="realm_access.roles", admin="boss", name="n.a")]
)
def test_what_sign_token_makes_is_what_the_stage_reads(claims: ClaimNames) -> None:
    text = sign_token(SECRET, user_id="u1", role="admin", name="Ann", audience="web", claims=claims)
    who = authenticate(text, StaticKeys(SECRET), TokenRules(audience="web", claims=claims))
    assert (who.user_id, who.role, who.name) == ("u1", "admin", "Ann")
