"""What `cdk.json` may say of a stage: every setting by itself, and together with the others."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field
from typing import TYPE_CHECKING, Any

from roomcast_cdk.setting import Setting, StageError

if TYPE_CHECKING:
    from roomcast_cdk.stage import Stage

_ENVIRONMENT_BYTES = 3072
"""Of Lambda's 4 KB for all variables of a function; the rest is for names that CloudFormation fills in."""

Known = Mapping[str, tuple[Setting, Field[Any]]]
"""The settings that there are, by name."""


def check_each(at: str, settings: Mapping[str, object], known: Known) -> None:
    """Check every setting by itself.

    Raises:
        StageError: one is unknown, missing or wrong.
    """
    for key in settings:
        if key not in known:
            raise StageError(f"{at}.{key}", f"is not a setting; {_meant(key, list(known))}")
    for name, (about, declared) in known.items():
        if declared.default is MISSING and name not in settings:
            raise StageError(f"{at}.{name}", f"is missing; it must be {about.rule.must_be}")
    for key, value in settings.items():
        rule = known[key][0].rule
        if not rule.holds(value):
            raise StageError(f"{at}.{key}", f"must be {rule.must_be}, not {value!r}")


def check_together(at: str, settings: Mapping[str, Any], known: Known, *, local: bool) -> None:
    """Check what settings ask of one another, and what only the stage of the local run may say.

    Raises:
        StageError: one misses another that it needs, or two contradict.
    """
    for key, (about, _) in known.items():
        for needed in about.needs if settings.get(key) else ():
            if not settings.get(needed):
                raise StageError(f"{at}.{needed}", f"must be set: {key} needs it")
    if "*" in settings["allowed_origins"] and not local:
        raise StageError(f"{at}.allowed_origins", "'*' is for the stage 'local' only: name the origins")
    if str(settings.get("jwks_url")).startswith("http://") and not local:
        raise StageError(f"{at}.jwks_url", "must be an https:// URL; http:// is for the stage 'local' only")
    if (settings.get("jwt_algorithm", "HS256") != "HS256") != ("jwks_url" in settings):
        raise StageError(f"{at}.jwks_url", "goes with jwt_algorithm RS256 or ES256, and these with it")
    if settings.get("alarm_topic_arn") and settings.get("alarm_email"):
        raise StageError(
            f"{at}.alarm_email", "must not be set: alarm_topic_arn names the topic to subscribe to"
        )
    for key in ("domain_certificate_arn", "customer_key_arn", "jwt_secret_key_arn", "alarm_topic_arn"):
        there = str(settings.get(key) or "").split(":")[3:4]
        if settings.get("region") and there and there[0] != settings["region"]:
            raise StageError(f"{at}.{key}", f"must be in the stage's region {settings['region']}")


def check_quotas(at: str, stage: "Stage") -> None:
    """Check what a stage asks of its account and of Lambda.

    Raises:
        StageError: it asks for more than there is.
    """
    most = int(stage.fanout_share * stage.requests_quota)
    if stage.fanout_concurrency * stage.fanout_rate > most:
        share = f"{stage.fanout_share:g} of the {stage.requests_quota} of account_requests_per_second"
        raise StageError(f"{at}.fanout_rate", f"times fanout_concurrency must be at most {most}, {share}")
    if stage.fanout_concurrency > stage.account_concurrency // 2:
        half = f"{stage.account_concurrency // 2}, half of account_concurrency"
        raise StageError(f"{at}.fanout_concurrency", f"must be at most {half}")
    size = sum(len(name) + len(value.encode()) for name, value in stage.environment("clients").items())
    if size > _ENVIRONMENT_BYTES:
        problem = (
            f"together with the token rules take {size} bytes; Lambda leaves room for {_ENVIRONMENT_BYTES}"
        )
        raise StageError(f"{at}.allowed_origins", problem)


def _meant(key: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
