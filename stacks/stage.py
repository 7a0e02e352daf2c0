"""A stage: everything that differs between one deployment and another, checked once."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, NamedTuple

LOCAL = "local"
"""The stage that runs on a laptop: the only one that may let every origin in."""

LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653)
"""The retention times that CloudWatch Logs takes (and some that it takes beside these)."""


class StageError(ValueError):
    """A stage is unknown or has a wrong value. The message is one line and starts with the key.

    Attributes:
        key: where in `cdk.json` the fault is, such as `stages.prod.log_days`.
        problem: what is wrong with it.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage, as `cdk.json` says it under `context.stages.NAME`; the keys there are the names here.

    Attributes:
        name: the key under `stages`; it ends every name and the URL.
        keep_data: whether the tables and the secret outlive the stack, with point-in-time recovery and
            protection against deletion.
        log_days: days that logs are kept.
        memory_mb: of each function, in MB; 1,769 is one vCPU.
        throttle_rate: connects and messages a second that the stage takes, all clients together.
        throttle_burst: how many more it takes at once.
        connect_rate: of these, connects; a new connection costs more than a message.
        connect_burst: likewise.
        allowed_origins: the front ends whose pages may connect, as `https://host[:port]`.
        fanout_concurrency: workers of the fan-out queue that run at once.
        fanout_rate: posts a second of one worker.
        gateway_logs: whether API Gateway writes an access log and its errors. It can only where the account
            has told it a role to write with (once for each region).
        monitoring: whether there are metrics, a dashboard and alarms, which cost some dollars a month.
        alarm_email: who is told of alarms, once the address has confirmed it.
        account_requests_per_second: API Gateway's quota for all APIs of an account in a region. In newer
            regions it is 2,500; AWS raises it when asked.
        fanout_share: how much of it the workers may take together, 0.05 to 0.95.
        own_cloudwatch_role: whether this stack tells the account that role. It stays when the stack goes.
        customer_key: whether a key of the account's own encrypts what is stored, instead of AWS's.
        domain_name: a domain to serve at, such as `ws.example.com`.
        domain_certificate_arn: its certificate in ACM, in the stack's region.
        domain_path: where below the domain, such as `v1`; directly at it when left out.
        prefix: begins every name.
        jwt_secret_name: a secret in Secrets Manager that is there already, instead of one made here.
        jwt_algorithm: HS256 with the secret, or RS256 or ES256 with the public keys of `jwks_url`.
        jwks_url: the JWKS document of whoever signs the tokens.
        jwt_audience: what the claim `aud` must be.
        jwt_issuer: what the claim `iss` must be.
        jwt_max_lifetime: seconds from `iat` to `exp` at most.
        browsers_only: whether a handshake without an Origin is refused.
        max_connections_per_user: how many a user may have open.
        over_max_connections: `close_oldest` or `refuse_new`.
        actions_per_second: of one connection.
        actions_burst: how many of them may come at once.
    """

    name: str
    keep_data: bool
    log_days: int
    memory_mb: int
    throttle_rate: int
    throttle_burst: int
    connect_rate: int
    connect_burst: int
    fanout_concurrency: int
    fanout_rate: int
    gateway_logs: bool
    monitoring: bool
    allowed_origins: tuple[str, ...]
    alarm_email: str | None = None
    account_requests_per_second: int = 10_000
    fanout_share: float = 0.7
    own_cloudwatch_role: bool = False
    customer_key: bool = False
    domain_name: str | None = None
    domain_certificate_arn: str | None = None
    domain_path: str | None = None
    prefix: str = "landinghub"
    jwt_secret_name: str | None = None
    jwt_algorithm: str = "HS256"
    jwks_url: str | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_max_lifetime: int | None = None
    browsers_only: bool = False
    max_connections_per_user: int = 20
    over_max_connections: str = "close_oldest"
    actions_per_second: int = 20
    actions_burst: int = 40

    @classmethod
    def from_context(cls, name: object, stages: object) -> "Stage":
        """Check what CDK's context says of a stage.

        Args:
            name: the value of the context key `stage`, as `-c stage=NAME` sets it.
            stages: the value of the context key `stages`: stage names and their settings.

        Raises:
            StageError: the stage is unknown, or one of its settings is unknown, missing or wrong.
        """
        if not isinstance(stages, Mapping) or not stages:
            raise StageError("stages", "is missing in the context of cdk.json")
        known = ", ".join(sorted(stages))
        if name is None:
            raise StageError("stage", f"choose one with `-c stage=NAME`; cdk.json has {known}")
        if name not in stages:
            raise StageError("stage", f"there is no {name!r}; cdk.json has {known}")
        return cls.from_settings(str(name), stages[name])

    @classmethod
    def from_settings(cls, name: str, settings: object) -> "Stage":
        """Check the settings of one stage.

        Raises:
            StageError: a setting is unknown, missing or wrong; it names the key.
        """
        at = f"stages.{name}"
        if not _NAME.fullmatch(name):
            raise StageError(at, "a stage's name is 1 to 15 of a-z, 0-9 and '-', the first a letter")
        if not isinstance(settings, Mapping):
            raise StageError(at, f"must be an object of settings, not {settings!r}")
        for key in settings:
            if key not in _RULES:
                raise StageError(f"{at}.{key}", f"is no setting; {_meant(key)}")
        for field in fields(cls):
            if field.name != "name" and field.default is MISSING and field.name not in settings:
                raise StageError(f"{at}.{field.name}", f"is missing; it must be {_RULES[field.name].must_be}")
        for key, value in settings.items():
            rule = _RULES[key]
            if not rule.holds(value):
                raise StageError(f"{at}.{key}", f"must be {rule.must_be}, not {value!r}")
        if "*" in settings["allowed_origins"] and name != LOCAL:
            raise StageError(
                f"{at}.allowed_origins", f"'*' is for the stage {LOCAL!r} alone: name the origins"
            )
        for key, needed in _NEEDS.items():
            if settings.get(key) and not settings.get(needed):
                raise StageError(f"{at}.{needed}", f"must be set: {key} needs it")
        if (settings.get("jwt_algorithm", "HS256") != "HS256") != ("jwks_url" in settings):
            raise StageError(f"{at}.jwks_url", "goes with jwt_algorithm RS256 or ES256, and these with it")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
        }
        stage = cls(name=name, **values)
        most = int(stage.fanout_share * stage.account_requests_per_second)
        if stage.fanout_concurrency * stage.fanout_rate > most:
            share = f"{stage.fanout_share:g} of account_requests_per_second"
            raise StageError(f"{at}.fanout_rate", f"times fanout_concurrency must be at most {most}, {share}")
        return stage

    @property
    def environment(self) -> dict[str, str]:
        """What `roomcast.settings` reads of this: who is let in, and how much a client may do."""
        variables = {
            "WEBSOCKET_ALLOWED_ORIGINS": ",".join(self.allowed_origins),
            "WEBSOCKET_BROWSERS_ONLY": "true" if self.browsers_only else "false",
            "WEBSOCKET_MAX_CONNECTIONS_PER_USER": str(self.max_connections_per_user),
            "WEBSOCKET_OVER_MAX_CONNECTIONS": self.over_max_connections,
            "WEBSOCKET_ACTIONS_PER_SECOND": str(self.actions_per_second),
            "WEBSOCKET_ACTIONS_BURST": str(self.actions_burst),
            "WEBSOCKET_JWT_ALGORITHM": self.jwt_algorithm,
            "WEBSOCKET_JWKS_URL": self.jwks_url or "",
            "WEBSOCKET_JWT_AUDIENCE": self.jwt_audience or "",
            "WEBSOCKET_JWT_ISSUER": self.jwt_issuer or "",
            "WEBSOCKET_JWT_MAX_LIFETIME": str(self.jwt_max_lifetime or ""),
        }
        return {key: value for key, value in variables.items() if value}

    @property
    def stack_name(self) -> str:
        """The name of the CloudFormation stack."""
        return f"{self.prefix}-websocket-{self.name}"

    def table_name(self, what: str) -> str:
        """The name of a table: `connections` or `rooms`."""
        return f"{self.prefix}-websocket-{what}-{self.name}"

    @property
    def queue_name(self) -> str:
        """The name of the fan-out queue."""
        return f"{self.prefix}-websocket-fanout-{self.name}"

    def function_name(self, what: str) -> str:
        """The name of a function: `Connect`, `Disconnect`, `Default` or `Fanout`."""
        return f"{self.prefix}-backend-{self.name}-websocket{what}"


def _meant(key: object) -> str:
    close = difflib.get_close_matches(str(key), _RULES, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(_RULES))}"


class _Rule(NamedTuple):
    must_be: str
    holds: Callable[[Any], bool]


def _flag() -> _Rule:
    return _Rule("true or false", lambda value: isinstance(value, bool))


def _whole(least: int, most: int) -> _Rule:
    def holds(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return _Rule(f"a whole number from {least} to {most}", holds)


def _text(pattern: str, must_be: str) -> _Rule:
    return _Rule(must_be, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)))


def _origins(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(origin, str) and _ORIGIN.fullmatch(origin) for origin in value)
    )


# The longest name is a function's, 64 characters at most: 29 are ours, so 35 are left for prefix and stage.
_NAME = re.compile("[a-z][a-z0-9-]{0,14}")
_ORIGIN = re.compile(r"\*|https?://[a-z0-9.-]+(:\d{1,5})?")
_NEEDS = {
    "domain_name": "domain_certificate_arn",
    "domain_certificate_arn": "domain_name",
    "domain_path": "domain_name",
    "own_cloudwatch_role": "gateway_logs",
    "alarm_email": "monitoring",
}
_RULES: Mapping[str, _Rule] = {
    "keep_data": _flag(),
    "log_days": _Rule(
        f"one of {', '.join(map(str, LOG_DAYS))}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value in LOG_DAYS,
    ),
    "memory_mb": _whole(128, 10_240),
    "throttle_rate": _whole(1, 100_000),
    "throttle_burst": _whole(1, 50_000),
    "connect_rate": _whole(1, 100_000),
    "connect_burst": _whole(1, 50_000),
    "fanout_concurrency": _whole(2, 1000),
    "fanout_rate": _whole(1, 10_000),
    "monitoring": _flag(),
    "alarm_email": _text(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
    "account_requests_per_second": _whole(100, 1_000_000),
    "fanout_share": _Rule(
        "a number from 0.05 to 0.95",
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 0.05 <= value <= 0.95
        ),
    ),
    "gateway_logs": _flag(),
    "own_cloudwatch_role": _flag(),
    "customer_key": _flag(),
    "domain_name": _text(r"([a-z0-9-]+\.)+[a-z]{2,}", "a domain name such as 'ws.example.com'"),
    "domain_certificate_arn": _text(
        r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/.+", "an ACM certificate's ARN"
    ),
    "domain_path": _text("[A-Za-z0-9_-]{1,300}", "one segment of a path, of A-Z, a-z, 0-9, '_' and '-'"),
    "jwt_algorithm": _text("HS256|RS256|ES256", "'HS256', 'RS256' or 'ES256'"),
    "jwks_url": _text(r"https://[^\s/]+(/\S*)?", "an https:// URL"),
    "jwt_audience": _text(r"\S{1,256}", "1 to 256 characters without a space"),
    "jwt_issuer": _text(r"\S{1,256}", "1 to 256 characters without a space"),
    "jwt_max_lifetime": _whole(60, 31_536_000),
    "browsers_only": _flag(),
    "max_connections_per_user": _whole(1, 1000),
    "over_max_connections": _text("close_oldest|refuse_new", "'close_oldest' or 'refuse_new'"),
    "actions_per_second": _whole(1, 1000),
    "actions_burst": _whole(1, 10_000),
    "allowed_origins": _Rule(
        'a list of origins such as ["https://www.example.com"], without a path', _origins
    ),
    "prefix": _text("[a-z][a-z0-9-]{0,19}", "1 to 20 of a-z, 0-9 and '-', the first a letter"),
    "jwt_secret_name": _text("[A-Za-z0-9/_+=.@-]{1,512}", "the name (not the ARN) of a secret"),
}
