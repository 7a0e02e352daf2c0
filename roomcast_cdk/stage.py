"""A stage: everything that differs between one deployment and another, each setting written once.

A field below is the only place that knows a setting: its rule, its default, the variable that passes it to
the functions, and the sentence of `docs/operations.md`. `python -m stacks.reference` writes the page.
"""

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from roomcast_cdk.checks import check_each, check_quotas, check_together
from roomcast_cdk.rules import bus, flag, kinds, log_days, mapping, number, origins, text, texts, whole
from roomcast_cdk.setting import Reader, Setting, StageError, as_variable, setting
from roomcast_dev import quotas

LOCAL = "local"
"""The stage of the local run: the only one that may allow every origin."""

ACCOUNT = "account"
"""In the place of a stage's name: the stack that all stages of an account and region share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage, as `cdk.json` has it under `context.stages.NAME`; the keys there are the names here."""

    name: str
    """The key under `stages`; it ends every name and the URL."""

    keep_data: bool = setting(
        flag(),
        "tables, secret, dead-letter queue and logs outlive the stack; tables have point-in-time recovery; "
        "tables and stack are protected against deletion",
        needs=("account", "region"),
    )
    account: str | None = setting(
        text(r"\d{12}", "an AWS account's 12 digits as a string"),
        "the account that the stage belongs to; credentials of another are refused",
        default=None,
        default_is="that of the credentials; required with `keep_data`",
    )
    region: str | None = setting(
        text(r"[a-z]{2,3}(-[a-z]+)+-\d", "a region such as 'eu-central-1'"),
        "the region that the stage belongs to",
        default=None,
        default_is="that of the shell; required with `keep_data`",
    )
    log_days: int = setting(log_days(), "days that logs are kept", default=30)
    memory_mb: int = setting(
        whole(128, 10_240),
        "memory of the functions for connects and messages; 1,769 MB is one vCPU. "
        "New accounts may be limited to 3,008",
        default=256,
    )
    throttle_rate: int = setting(
        whole(1, 100_000),
        "messages a second from all clients together, and as many disconnects: API Gateway throttles each "
        "route by itself, on a best-effort basis",
        default=500,
    )
    throttle_burst: int = setting(whole(1, 50_000), "how many more it takes at once", default=250)
    connect_rate: int = setting(
        whole(1, 100_000),
        "connects a second, which cost more than messages; clients spread their reconnects to stay under it",
        default=100,
        env="WEBSOCKET_CONNECT_RATE",
    )
    connect_burst: int = setting(whole(1, 50_000), "how many more connects it takes at once", default=100)
    fanout_concurrency: int = setting(
        whole(2, 1000),
        "workers of the fan-out queue that run at once; at most half of `account_concurrency`, so that a "
        "broadcast leaves room for connects",
        default=2,
    )
    fanout_rate: int = setting(
        whole(1, 10_000),
        "posts a second of one worker",
        default=500,
        env="WEBSOCKET_FANOUT_RATE",
        reader="worker",
    )
    fanout_http2: bool = setting(
        flag(), "workers offer HTTP/2", default=False, env="WEBSOCKET_HTTP2", reader="worker"
    )
    gateway_logs: bool = setting(
        flag(),
        "API Gateway writes an access log and its errors; see "
        "[CloudWatch Logs role](#cloudwatch-logs-role-arn-must-be-set)",
        default=False,
    )
    monitoring: bool = setting(flag(), "metrics, dashboard, alarms: about 13 dollars a month", default=False)
    allowed_origins: tuple[str, ...] = setting(
        origins(),
        "front ends whose pages may connect, `https://host[:port]`; apps have schemes of their own, such as "
        "`capacitor://localhost` or `tauri://localhost`",
        env="WEBSOCKET_ALLOWED_ORIGINS",
    )
    browsers_only: bool = setting(
        flag(), "refuse handshakes without an Origin", default=False, env="WEBSOCKET_BROWSERS_ONLY"
    )
    max_connections_per_user: int = setting(
        whole(1, 1000), "connections of one user", default=20, env="WEBSOCKET_MAX_CONNECTIONS_PER_USER"
    )
    over_max_connections: str = setting(
        text("close_oldest|refuse_new", "'close_oldest' or 'refuse_new'"),
        "what happens above that: `close_oldest` or `refuse_new`",
        default="close_oldest",
        env="WEBSOCKET_OVER_MAX_CONNECTIONS",
    )
    actions_per_second: int = setting(
        whole(1, 1000), "actions a second of one connection", default=20, env="WEBSOCKET_ACTIONS_PER_SECOND"
    )
    actions_burst: int = setting(
        whole(1, 10_000), "how many of them may come at once", default=40, env="WEBSOCKET_ACTIONS_BURST"
    )
    sends_per_second: int = setting(
        whole(1, 1000),
        "messages a second that one user may publish, and four times as many at once",
        default=5,
        env="WEBSOCKET_SENDS_PER_SECOND",
    )
    signals_per_second: int = setting(
        whole(1, 1000),
        "signals a second that one user may publish, and four times as many at once",
        default=10,
        env="WEBSOCKET_SIGNALS_PER_SECOND",
    )
    last_value_window: int = setting(
        whole(0, 60), "seconds within which only the newest of several last values is posted", default=0
    )
    jwt_secret_name: str | None = setting(
        text("[A-Za-z0-9/_+=.@-]{1,512}", "the name (not the ARN) of a secret"),
        "an existing secret in Secrets Manager that tokens are signed with",
        default=None,
        default_is="a new secret",
    )
    jwt_secret_key_arn: str | None = setting(
        text(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/.+", "a KMS key's ARN"),
        "the KMS key that this secret is encrypted with, where it is not `aws/secretsmanager`",
        default=None,
        needs=("jwt_secret_name",),
    )
    jwt_algorithm: str = setting(
        text("HS256|RS256|ES256", "'HS256', 'RS256' or 'ES256'"),
        "`HS256` with the secret, or `RS256` or `ES256` with the public keys of `jwks_url`",
        default="HS256",
        env="WEBSOCKET_JWT_ALGORITHM",
    )
    jwks_url: str | None = setting(
        text(r"https?://[^\s/]+(/\S*)?", "an https:// URL"),
        "the JWKS document of the service that signs the tokens; `http://` in the stage `local` only. "
        "Synthesis then downloads the package `cryptography` for Lambda",
        default=None,
        env="WEBSOCKET_JWKS_URL",
    )
    jwt_audience: str | None = setting(
        text(r"\S{1,256}", "1 to 256 characters without a space"),
        "what the claim `aud` must be, or hold as a list; without this, tokens with an `aud` are refused",
        default=None,
        default_is="no `aud`",
        env="WEBSOCKET_JWT_AUDIENCE",
    )
    jwt_issuer: str | None = setting(
        text(r"\S{1,256}", "1 to 256 characters without a space"),
        "what the claim `iss` must be",
        default=None,
        default_is="any",
        env="WEBSOCKET_JWT_ISSUER",
    )
    jwt_claims: Mapping[str, str] | None = setting(
        mapping(
            "user|role|admin|name|email|audience",
            r"\S.{0,255}",
            'an object such as {"user": "user_id"}; its keys: user, role, admin, name, email, audience',
        ),
        "which claims say who the user is, for tokens of a login service: see [Tokens](tokens.md)",
        default=None,
        default_is="`userId`, `sub` or `id`; `role`; `name`; `email`; `aud`",
        env="WEBSOCKET_JWT_CLAIMS",
    )
    jwt_max_lifetime: int | None = setting(
        whole(60, 31_536_000),
        "seconds from `iat` to `exp` at most",
        default=None,
        default_is="no limit",
        env="WEBSOCKET_JWT_MAX_LIFETIME",
    )
    account_requests_per_second: int | None = setting(
        whole(100, 1_000_000),
        "API Gateway's quota for all APIs of the account in the region",
        default=None,
        default_is="10,000; 2,500 in the newer regions",
    )
    fanout_share: float = setting(
        number(0.05, 0.95), "the share of that quota that all workers together may use", default=0.7
    )
    account_concurrency: int = setting(
        whole(10, 1_000_000),
        "Lambda's quota of concurrent executions in the account and region; a new account may start at 10",
        default=1000,
    )
    runtime_version_arn: str | None = setting(
        text(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+::runtime:[0-9a-f]{64}", "the ARN of a runtime version"),
        "the version of Lambda's Python runtime that the functions stay with; "
        "`aws lambda get-function-configuration` shows the one in use",
        default=None,
        default_is="the newest at each deployment with `keep_data`, else the newest",
    )
    reserved_connects: int | None = setting(
        whole(1, 1000),
        "concurrent executions reserved for `$connect`, and as many for `$disconnect`; also their limit. "
        "Lambda wants 100 unreserved ones to be left in the account",
        default=None,
        default_is="none",
    )
    gradual_changes: bool | None = setting(
        flag(),
        "a deployment gives a new version of a function 10 % of the calls for five minutes, and rolls back "
        "if a function raises",
        default=None,
        default_is="`true` with `keep_data` and `monitoring`",
        needs=("monitoring",),
    )
    server_events: tuple[str, ...] = setting(
        kinds(),
        "the kinds of [server events](server-events.md) that other services get by EventBridge",
        default=(),
    )
    event_bus: str = setting(
        bus(),
        "EventBridge's bus that gets them: its name, or its ARN where it is in another account",
        default="default",
        needs=("server_events",),
    )
    alarm_email: str | None = setting(
        text(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
        "who receives alarms, once the address has confirmed the subscription",
        default=None,
        default_is="nobody",
        needs=("monitoring",),
    )
    alarm_topic_arn: str | None = setting(
        text(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:.+", "an SNS topic's ARN"),
        "a topic of your own that alarms notify; its policy must let CloudWatch publish",
        default=None,
        default_is="a new topic",
        needs=("monitoring",),
    )
    customer_key: bool = setting(flag(), "encrypt with a key of your own (1 dollar a month)", default=False)
    customer_key_arn: str | None = setting(
        text(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/.+", "a KMS key's ARN"),
        "that key where it exists already, such as the one that a destroyed stage has left",
        default=None,
        default_is="a new key",
        needs=("customer_key",),
    )
    domain_name: str | None = setting(
        text(r"([a-z0-9-]+\.)+[a-z]{2,}", "a domain name such as 'ws.example.com'"),
        "serve browsers at your own domain",
        default=None,
        default_is="API Gateway's",
        needs=("domain_certificate_arn",),
    )
    domain_certificate_arn: str | None = setting(
        text(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/.+", "an ACM certificate's ARN"),
        "the domain's certificate in ACM, in the stage's region",
        default=None,
        needs=("domain_name",),
    )
    domain_path: str | None = setting(
        text("[A-Za-z0-9_-]{1,300}", "one segment of a path, of A-Z, a-z, 0-9, '_' and '-'"),
        "where below the domain, such as `v1`",
        default=None,
        default_is="at the domain itself",
        needs=("domain_name",),
    )
    hosted_zone_id: str | None = setting(
        text("[A-Z0-9]{1,32}", "the id of a Route 53 hosted zone"),
        "the domain's hosted zone, if it is in this account: the stack then makes the record",
        default=None,
        needs=("domain_name",),
    )
    callback_at_domain: bool = setting(
        flag(),
        "backends post to the domain too, for those in a VPC with an `execute-api` endpoint. Set it only "
        "when the domain's record works",
        default=False,
        needs=("domain_name",),
    )
    backend_roles: tuple[str, ...] = setting(
        texts(r"[A-Za-z0-9+=,.@_-]{1,64}", "a list of role names, without a path"),
        "roles of this account that may send: the stack attaches the policy and detaches it",
        default=(),
        default_is="none",
    )
    backend_accounts: tuple[str, ...] = setting(
        texts(r"\d{12}", "a list of account ids, each 12 digits as a string"),
        "other accounts, whose backends may assume the role of the output `BackendRoleArn`",
        default=(),
        default_is="none",
    )
    tags: Mapping[str, str] | None = setting(
        mapping(r"(?!aws:)[\w .:/=+@-]{1,128}", r"[\w .:/=+@-]{0,256}", "an object of tags and their values"),
        "tags of every resource, besides `roomcast:stage`",
        default=None,
        default_is="none",
    )
    prefix: str = setting(
        text("[a-z][a-z0-9-]{0,19}", "1 to 20 of a-z, 0-9 and '-', the first a letter"),
        "starts every name",
        default="landinghub",
    )

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
        # The longest name is a function's, at most 64 characters: 29 are ours, 35 for prefix and stage.
        if not re.fullmatch("[a-z][a-z0-9-]{0,14}", name):
            raise StageError(at, "a stage's name is 1 to 15 of a-z, 0-9 and '-', the first a letter")
        if name == ACCOUNT:
            raise StageError(at, f"{ACCOUNT!r} is the stack of the account: choose another name")
        if not isinstance(settings, Mapping):
            raise StageError(at, f"must be an object of settings, not {settings!r}")
        known = settings_by_name()
        check_each(at, settings, known)
        check_together(at, settings, known, local=name == LOCAL)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
        }
        stage = cls(name=name, **values)
        check_quotas(at, stage)
        return stage

    @property
    def requests_quota(self) -> int:
        """API Gateway's quota of requests a second: as set, or what a new account has in the region."""
        return self.account_requests_per_second or quotas.requests_per_second(self.region)

    @property
    def shifts(self) -> bool:
        """Whether a new version of a function gets its calls bit by bit."""
        return self.keep_data and self.monitoring if self.gradual_changes is None else self.gradual_changes

    def environment(self, reader: Reader) -> dict[str, str]:
        """The variables that tell functions of this stage's settings; those without a value are left out."""
        told = {
            known.env: as_variable(getattr(self, name))
            for name, (known, _) in settings_by_name().items()
            if known.env and known.reader == reader
        }
        return {variable: value for variable, value in told.items() if value}

    @property
    def stack_name(self) -> str:
        """The name of the CloudFormation stack."""
        return f"{self.prefix}-websocket-{self.name}"

    def table_name(self, what: str) -> str:
        """The name of a table: `connections`, `rooms` or `history`."""
        return f"{self.prefix}-websocket-{what}-{self.name}"

    @property
    def queue_name(self) -> str:
        """The name of the fan-out queue."""
        return f"{self.prefix}-websocket-fanout-{self.name}"

    def function_name(self, what: str) -> str:
        """The name of a function: `Connect`, `Disconnect`, `Default` or `Fanout`."""
        return f"{self.prefix}-backend-{self.name}-websocket{what}"


def settings_by_name() -> dict[str, tuple[Setting, Field[Any]]]:
    """All settings, in the order of the fields above."""
    return {f.name: (f.metadata["setting"], f) for f in fields(Stage) if "setting" in f.metadata}
