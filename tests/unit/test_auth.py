"""Only a token of the stage's own key, algorithm and time lets one user in; all else is an `AuthError`."""

import base64
import hmac
import json
import subprocess
import sys
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast.connection import Identity
from roomcast.errors import AuthError
from roomcast.settings import TokenRules
from roomcast.tokens.authentication import LEEWAY_SECONDS, authenticate, sign_token
from roomcast.tokens.hs256 import usual_claims
from roomcast.tokens.secret_keys import StaticKeys
from tests.builders import OTHER_SECRET, SECRET, token

KEYS = StaticKeys(SECRET)


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    whole = {"userId": "u1", "exp": int(time.time()) + 60, **claims}
    return jwt.encode({k: v for k, v in whole.items() if v is not ...}, secret, algorithm=algorithm)


def raw(header: str, payload: str, signature: str = "") -> str:
    return ".".join(
        [*(base64.urlsafe_b64encode(p.encode()).decode().rstrip("=") for p in (header, payload)), signature]
    )


def raw_signed(payload: str) -> str:
    """A correctly signed token of a payload that no library would write."""
    algorithm = jwt.get_algorithm_by_name("HS256")
    unsigned = raw('{"alg":"HS256","typ":"JWT"}', payload)[:-1]
    signature = algorithm.sign(unsigned.encode(), algorithm.prepare_key(SECRET))
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


PARTS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["HS256", "HS256", "HS256", "HS384", "none", None])},
    optional={
        "typ": st.sampled_from(["JWT", "JWS", 1, None]),
        "kid": st.sampled_from(["k", "", 1, None]),
        "crit": st.sampled_from([[], ["b64"], ["x"]]),
        "b64": st.booleans(),
    },
)
TIMES = st.sampled_from([-3600, -11, -9, 0, 9, 11, 3600]).map(lambda ago: int(time.time()) + ago)
TIME: st.SearchStrategy[Any] = (
    TIMES | TIMES.map(float) | TIMES.map(str) | st.sampled_from([None, True, 0, 10**30, [], "x"])
)
CLAIMS = st.fixed_dictionaries(
    {"exp": TIME | st.just(9_999_999_999)},
    optional={
        "iat": TIME,
        "nbf": TIME,
        "iss": st.sampled_from(["me", "you", None, ["me"]]),
        "aud": st.just("x"),
        "sub": st.sampled_from([1, "u1"]),
    },
)


@given(
    header=PARTS,
    claims=CLAIMS,
    secret=st.sampled_from([SECRET, SECRET, OTHER_SECRET]),
    issuer=st.sampled_from([None, "me"]),
    damage=st.none() | st.tuples(st.integers(0, 300), st.sampled_from("aAZ_-.=+/ ")),
)
def test_the_short_way_lets_nobody_in_whom_pyjwt_refuses(
    header: dict[str, Any],
    claims: dict[str, Any],
    secret: str,
    issuer: str | None,
    damage: tuple[int, str] | None,
) -> None:
    unsigned = raw(json.dumps(header), json.dumps(claims))[:-1]
    signature = hmac.digest(secret.encode(), unsigned.encode(), "sha256")
    text = f"{unsigned}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    if damage:
        at = damage[0] % len(text)
        text = text[:at] + damage[1] + text[at + 1 :]
    found = usual_claims(text, (SECRET,), TokenRules(issuer=issuer), LEEWAY_SECONDS)
    if found is not None:
        options: Any = {"require": ["exp"], "verify_sub": False, "verify_aud": False, "verify_jti": False}
        assert found == jwt.decode(
            text, SECRET, algorithms=["HS256"], issuer=issuer, leeway=LEEWAY_SECONDS, options=options
        )


@pytest.mark.parametrize("claims", [{}, {"iat": int(time.time())}, {"aud": "x", "sub": "y"}])
def test_the_short_way_lets_the_usual_token_in(claims: dict[str, Any]) -> None:
    assert usual_claims(signed(**claims), (OTHER_SECRET, SECRET), TokenRules(), LEEWAY_SECONDS)


def test_a_handshake_with_a_good_token_imports_no_pyjwt() -> None:
    script = (
        "import sys\n"
        "from roomcast.tokens.authentication import authenticate\n"
        "from roomcast.tokens.secret_keys import StaticKeys\n"
        f"print(authenticate({signed()!r}, StaticKeys({SECRET!r})).user_id, 'jwt' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "u1 False\n"


def test_a_good_token_names_its_user() -> None:
    now = int(time.time())
    text = signed(role="admin", name="Ann", email="ann@x.org", iat=now, exp=now + 60)
    assert authenticate(text, KEYS) == Identity(
        "u1", "admin", "Ann", "ann@x.org", now + 60 + LEEWAY_SECONDS, now
    )


@pytest.mark.parametrize("claim", ["userId", "sub", "id"])
def test_the_user_is_in_any_of_three_claims(claim: str) -> None:
    claims: dict[str, Any] = {"userId": ..., claim: "u2"}
    assert authenticate(signed(**claims), KEYS).user_id == "u2"


def test_a_numeric_id_is_taken_as_its_digits() -> None:
    assert authenticate(signed(userId=..., id=42, sub="42"), KEYS).user_id == "42"


@pytest.mark.parametrize("role", [..., None, "user", "editor", "ADMIN", ["admin"], True])
def test_every_role_but_admin_is_a_user(role: object) -> None:
    assert authenticate(signed(role=role), KEYS).role == "user"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("x", id="no JWT"),
        pytest.param("a.b.c", id="no base64"),
        pytest.param("\ud800.b.c", id="surrogate"),
        pytest.param("x" * 5000, id="too long"),
        pytest.param(token(secret=OTHER_SECRET), id="another key"),
        pytest.param(token(ttl=-60), id="expired"),
        pytest.param(raw('{"alg":"none"}', '{"userId":"u1","exp":9999999999}'), id="alg none"),
        pytest.param(raw('{"alg":"None"}', '{"userId":"u1","exp":9999999999}'), id="alg None"),
        pytest.param(signed(SECRET + SECRET, algorithm="HS512"), id="another algorithm, another key"),
        pytest.param(
            jwt.encode({"userId": "u1", "exp": 9999999999}, SECRET * 2, algorithm="HS384"), id="HS384"
        ),
        pytest.param(signed(exp=...), id="no exp"),
        pytest.param(raw_signed('{"userId":"u1","exp":"9999999999"}'), id="exp a string"),
        pytest.param(raw_signed('{"userId":"u1","exp":true}'), id="exp a boolean"),
        pytest.param(raw_signed('{"userId":"u1","exp":1e999}'), id="exp infinite"),
        pytest.param(raw_signed('{"userId":"u1","exp":NaN}'), id="exp no number"),
        pytest.param(raw_signed('{"userId":"u1","exp":{}}'), id="exp an object"),
        pytest.param(raw_signed("[" * 3000 + "]" * 3000), id="deep"),
        pytest.param(raw_signed('"u1"'), id="no object"),
        pytest.param(signed(nbf=int(time.time()) + 600), id="not yet"),
        pytest.param(signed(aud="other"), id="another audience"),
        pytest.param(signed(userId=...), id="no user"),
        pytest.param(signed(userId=""), id="empty user"),
        pytest.param(signed(userId="a b"), id="user outside the grammar"),
        pytest.param(signed(userId="a" * 129), id="user too long"),
        pytest.param(signed(userId=["u1"]), id="user a list"),
        pytest.param(signed(userId=1.5), id="user a fraction"),
        pytest.param(signed(sub="u2"), id="two users"),
        pytest.param(signed(sub={"id": "u1"}), id="a user and an object"),
        pytest.param(signed(userId=True), id="user a boolean"),
        pytest.param(signed(userId=..., sub=False), id="sub a boolean"),
        pytest.param(signed(userId="True", id=True), id="a user and a boolean"),
    ],
)
def test_anything_else_is_refused_with_a_reason_that_hides_the_token(bad: str | None) -> None:
    with pytest.raises(AuthError) as caught:
        authenticate(bad, KEYS)
    assert caught.value.reason
    assert not bad or len(bad) < 4 or bad not in caught.value.reason


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("山田\u3000太郎", "山田\u3000太郎"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # noqa: RUF001
        ("ക്\u200d", "ക്\u200d"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("Jean\u00a0Dupont", "Jean\u00a0Dupont"),
        ("שלום\u200f", "שלום\u200f"),
        ("Co\u00adoperate", "Co\u00adoperate"),
        ("new in Unicode 17: \U000323b0", "new in Unicode 17: \U000323b0"),
        ("Bob\n", "Bob"),
        ("\x1b[31mred\x9b2J\x7f\x00", "[31mred2J"),
        ("half \ud83d", "half "),
        ("x" * 300, "x" * 256),
        (7, ""),
        ({"first": "Ann"}, ""),
        (None, ""),
    ],
)
def test_a_name_never_decides_who_gets_in(given_name: object, kept: str) -> None:
    who = authenticate(
        raw_signed(json.dumps({"userId": "u1", "exp": 9999999999, "name": given_name, "email": given_name})),
        KEYS,
    )
    assert (who.name, who.email) == (kept, kept)
    who.name.encode()  # a lone surrogate would raise


@pytest.mark.parametrize("late", [LEEWAY_SECONDS - 2, -1])
def test_a_token_that_is_let_in_late_is_good_for_what_follows_too(late: int) -> None:
    assert authenticate(token(ttl=-late), KEYS).expires_at > time.time()


def test_what_is_signed_is_let_in() -> None:
    text = sign_token(SECRET, user_id="u1", name="Bob\n" * 100, email="\ud800")
    assert authenticate(text, KEYS).name == ("Bob" * 100)[:256]


def test_an_audience_that_the_stage_does_not_name_is_refused_with_the_setting_in_the_reason() -> None:
    for rules in (TokenRules(), TokenRules(audience="other")):
        with pytest.raises(AuthError, match="jwt_audience"):
            authenticate(signed(aud="authenticated"), KEYS, rules)


def test_a_reason_is_one_plain_line_whatever_the_token_says() -> None:
    header = {"alg": "HS256", "crit": ["\x1b[2J\nadmin let in reason=\u202eok" + "x" * 3000]}
    hostile = [
        raw(json.dumps(header), '{"userId":"u1","exp":9999999999}', "AAAA"),
        raw('{"alg":"\\u001b]0;x"}', "{}", "AAAA"),
        signed(userId="u\x1b[31m\n"),
        signed(iss="\x07\n"),
    ]
    for text in hostile:
        with pytest.raises(AuthError) as caught:
            authenticate(text, KEYS, TokenRules(issuer="us"))
        assert caught.value.reason.isprintable()
        assert len(caught.value.reason) <= 203


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(AuthError):
        authenticate(text, KEYS)


@given(
    st.dictionaries(
        st.sampled_from(["userId", "sub", "id", "exp", "nbf", "iat", "aud", "role", "name"]),
        st.none() | st.text(max_size=9) | st.integers() | st.floats() | st.lists(st.integers(), max_size=2),
    )
)
def test_no_signed_claims_raise_anything_else(claims: dict[str, Any]) -> None:
    try:
        who = authenticate(raw_signed(json.dumps(claims)), KEYS)
    except AuthError:
        return
    assert who.user_id in {str(claims.get(claim)) for claim in ("userId", "sub", "id")}


class RotatingKeys:
    def __init__(self, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        self._keys, self._after, self.reread_count = before, after, 0

    def known(self) -> tuple[str, ...]:
        return self._keys

    def reread(self) -> tuple[str, ...]:
        self.reread_count += 1
        self._keys = self._after
        return self._keys


def test_a_key_that_is_new_is_found_by_reading_again() -> None:
    keys = RotatingKeys((SECRET,), (OTHER_SECRET, SECRET))
    assert authenticate(token(secret=OTHER_SECRET), keys).user_id == "u1"
    assert authenticate(token(secret=SECRET), keys).user_id == "u1"
    assert keys.reread_count == 1


def test_an_expired_token_costs_no_reading_again() -> None:
    keys = RotatingKeys((SECRET,), (SECRET,))
    with pytest.raises(AuthError):
        authenticate(token(ttl=-60), keys)
    assert keys.reread_count == 0


@pytest.mark.parametrize(
    ("rules", "claims", "good"),
    [
        (TokenRules(audience="web"), {"aud": "web"}, True),
        (TokenRules(audience="web"), {"aud": ["web", "app"]}, True),
        (TokenRules(audience="web"), {"aud": "app"}, False),
        (TokenRules(audience="web"), {}, False),
        (TokenRules(issuer="us"), {"iss": "us"}, True),
        (TokenRules(issuer="us"), {"iss": "them"}, False),
        (TokenRules(issuer="us"), {}, False),
        (TokenRules(max_lifetime=60), {"iat": 0}, True),
        (TokenRules(max_lifetime=59), {"iat": 0}, False),
        (TokenRules(max_lifetime=60), {}, False),
        (TokenRules(max_lifetime=60), {"iat": 600}, False),
        (TokenRules(), {"iat": "0"}, False),
        (TokenRules(algorithm="RS256"), {}, False),
    ],
)
def test_a_stage_may_ask_for_more(rules: TokenRules, claims: dict[str, Any], good: bool) -> None:
    now = int(time.time())
    if isinstance(claims.get("iat"), int):
        claims = {**claims, "iat": now + claims["iat"]}
    text = raw_signed(json.dumps({"userId": "u1", "exp": now + 60, **claims}))
    if good:
        assert authenticate(text, KEYS, rules).user_id == "u1"
    else:
        with pytest.raises(AuthError):
            authenticate(text, KEYS, rules)
