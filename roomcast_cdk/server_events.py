"""Server events: which a stage puts on a bus of EventBridge, and the rights for it, where they are on."""

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from roomcast.names import HookEvent
from roomcast.settings import SERVER_EVENTS_KEY, ServerEventRules
from roomcast_cdk.stage import Stage
from roomcast_cdk.tables import Tables


def environment(stage: Stage) -> dict[str, str]:
    """The variable that functions and backends read; none where it is off."""
    if not stage.server_events:
        return {}
    rules = ServerEventRules(
        source=f"roomcast.{stage.prefix}.{stage.name}",
        kinds=frozenset(cast(tuple[HookEvent, ...], stage.server_events)),
        bus=stage.event_bus,
    )
    return {SERVER_EVENTS_KEY: rules.dumps()}


def grant_server_events(
    scope: Construct, grantee: iam.IRole | iam.ManagedPolicy, *, stage: Stage, tables: Tables
) -> None:
    """Allow to number server events, and to put them on the stage's bus and no other."""
    if not stage.server_events:
        return
    arn = stage.event_bus
    if not arn.startswith("arn:"):
        arn = cdk.Stack.of(scope).format_arn(service="events", resource="event-bus", resource_name=arn)
    iam.Grant.add_to_principal(grantee=grantee, actions=["events:PutEvents"], resource_arns=[arn])
    tables.grant_rooms(grantee, "UpdateItem")
