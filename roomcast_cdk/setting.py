"""One setting of a stage: its rule, its sentence, and the variable that passes it to functions."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

from roomcast_cdk.rules import Rule

Reader = Literal["clients", "worker"]
"""Which functions read a variable: those that serve clients, or the fan-out worker."""


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
class Setting:
    """What is known of one setting.

    Attributes:
        rule: what its value must be.
        says: what it means, for the documentation; Markdown without a full stop.
        needs: settings without which it makes no sense.
        env: the variable that passes it to functions, if any (`roomcast.settings` reads it).
        reader: which functions those are.
        default_is: the default in words, where it is not a plain value.
    """

    rule: Rule
    says: str
    needs: tuple[str, ...] = ()
    env: str | None = None
    reader: Reader = "clients"
    default_is: str | None = None


def setting(
    rule: Rule,
    says: str,
    *,
    default: Any = MISSING,
    needs: tuple[str, ...] = (),
    env: str | None = None,
    reader: Reader = "clients",
    default_is: str | None = None,
) -> Any:
    """A field of `Stage`; required when it has no default. See `Setting` for the parameters."""
    known = Setting(rule=rule, says=says, needs=needs, env=env, reader=reader, default_is=default_is)
    return field(default=default, metadata={"setting": known})


def as_variable(value: object) -> str:
    """A setting's value as `roomcast.settings` reads it from a variable."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value)
