"""An AWS account: what exists in it, what its services refuse, and what they do by themselves."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

_ACROSS_REGIONS = {"AWS::CloudWatch::Dashboard", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"}

QUEUE_SECONDS = 60
_ROLE_MISSING = "CloudWatch Logs role ARN must be set in account settings to enable logging"


class FailedError(Exception):
    """One resource could not be created, updated or deleted."""


@dataclass
class Physical:
    """A resource that exists.

    Attributes:
        kind: its type.
        region: where; `*` for those that one account has once.
        name: its physical id.
        properties: as they are.
        stack: the id of the stack that it belongs to.
        drift: properties that it had otherwise when a stack adopted it.
    """

    kind: str
    region: str
    name: str
    properties: dict[str, Any]
    stack: str | None = None
    drift: set[str] = field(default_factory=set)


class Cloud:
    """One AWS account.

    Attributes:
        everything: what exists.
        now: the time, which each operation moves on by a second.
        attached: names of policies that a person has attached to a role of their own.
        gateway_role: regions in which API Gateway has been given a role for logs.
    """

    def __init__(self) -> None:
        self.everything: list[Physical] = []
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.attached: set[str] = set()
        self.gateway_role: set[str] = set()
        self._freed: dict[tuple[str, str], datetime] = {}
        self._numbers = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def find(self, kind: str, name: str, region: str) -> Physical | None:
        scope = "*" if kind in _ACROSS_REGIONS else region
        found = [p for p in self.everything if (p.kind, p.region, p.name) == (kind, scope, name)]
        return found[0] if found else None

    def orphans(self, kind: str | None = None) -> list[Physical]:
        """What belongs to no stack."""
        return [p for p in self.everything if p.stack is None and kind in (None, p.kind)]

    def create(
        self, kind: str, name: str, region: str, properties: dict[str, Any], stack: str | None
    ) -> Physical:
        self.now += timedelta(seconds=1)
        if self.find(kind, name, region):
            raise FailedError(f"{name} already exists")
        freed = self._freed.get((region, name))
        if kind == "AWS::SQS::Queue" and freed and self.now - freed < timedelta(seconds=QUEUE_SECONDS):
            raise FailedError(
                "You must wait 60 seconds after deleting a queue before you can create another of its name"
            )
        self.check(kind, region, properties)
        scope = "*" if kind in _ACROSS_REGIONS else region
        made = Physical(kind, scope, name, properties, stack)
        self.everything.append(made)
        if kind == "AWS::ApiGateway::Account":
            self.gateway_role.add(region)
        self.act(region)
        return made

    def check(self, kind: str, region: str, properties: dict[str, Any]) -> None:
        """What a service asks before it takes these properties."""
        if kind == "AWS::ApiGatewayV2::Stage" and _logs(properties) and region not in self.gateway_role:
            raise FailedError(_ROLE_MISSING)

    def delete(self, physical: Physical) -> None:
        self.now += timedelta(seconds=1)
        if physical.properties.get("DeletionProtectionEnabled") is True:
            raise FailedError(
                f"{physical.name} cannot be deleted as it is currently protected against deletion"
            )
        if physical.name in self.attached:
            raise FailedError(f"Cannot delete a policy attached to entities: {physical.name}")
        self.everything.remove(physical)
        if physical.kind == "AWS::SQS::Queue":
            self._freed[physical.region, physical.name] = self.now
        self.act(physical.region)

    def act(self, region: str) -> None:
        """A gateway that writes logs makes the group for them where it is missing."""
        for stage in [
            p for p in self.everything if p.kind == "AWS::ApiGatewayV2::Stage" and p.region == region
        ]:
            api, name = stage.properties["ApiId"], stage.properties["StageName"]
            group = f"/aws/apigateway/{api}/{name}"
            if _logs(stage.properties) and not self.find("AWS::Logs::LogGroup", group, region):
                self.everything.append(
                    Physical("AWS::Logs::LogGroup", region, group, {"LogGroupName": group})
                )


def _logs(stage: dict[str, Any]) -> bool:
    level = stage.get("DefaultRouteSettings", {}).get("LoggingLevel", "OFF")
    return "AccessLogSettings" in stage or level != "OFF"
