"""A stage: everything that differs between one deployment and another, checked once."""

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
        allowed_origins: the front ends whose pages may connect, as `https://host[:port]`.
        prefix: begins every name.
        jwt_secret_name: a secret in Secrets Manager that is there already, instead of one made here.
    """

    name: str
    keep_data: bool
    log_days: int
    memory_mb: int
    throttle_rate: int
    throttle_burst: int
    allowed_origins: tuple[str, ...]
    prefix: str = "landinghub"
    jwt_secret_name: str | None = None

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
                raise StageError(f"{at}.{key}", f"is no setting; there are {', '.join(sorted(_RULES))}")
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
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
        }
        return cls(name=name, **values)

    @property
    def stack_name(self) -> str:
        """The name of the CloudFormation stack."""
        return f"{self.prefix}-websocket-{self.name}"

    def table_name(self, what: str) -> str:
        """The name of a table: `connections` or `rooms`."""
        return f"{self.prefix}-websocket-{what}-{self.name}"

    def function_name(self, what: str) -> str:
        """The name of a function: `Connect`, `Disconnect`, `Default` or `Fanout`."""
        return f"{self.prefix}-backend-{self.name}-websocket{what}"


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
_RULES: Mapping[str, _Rule] = {
    "keep_data": _flag(),
    "log_days": _Rule(
        f"one of {', '.join(map(str, LOG_DAYS))}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value in LOG_DAYS,
    ),
    "memory_mb": _whole(128, 10_240),
    "throttle_rate": _whole(1, 100_000),
    "throttle_burst": _whole(1, 50_000),
    "allowed_origins": _Rule(
        'a list of origins such as ["https://www.example.com"], without a path', _origins
    ),
    "prefix": _text("[a-z][a-z0-9-]{0,19}", "1 to 20 of a-z, 0-9 and '-', the first a letter"),
    "jwt_secret_name": _text("[A-Za-z0-9/_+=.@-]{1,512}", "the name (not the ARN) of a secret"),
}
