"""The rights of a backend that sends, and who gets them: roles of this account, or of others."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from roomcast_cdk.fan_out import FanOut
from roomcast_cdk.server_events import grant_server_events
from roomcast_cdk.stage import Stage
from roomcast_cdk.tables import Tables
from roomcast_cdk.websocket_api import WebSocketApi


def grant_send(
    grantee: iam.IRole | iam.ManagedPolicy,
    *,
    stage: Stage,
    tables: Tables,
    api: WebSocketApi,
    fan_out: FanOut,
) -> None:
    """Allow what all methods of `WebSocketService` need, and nothing of the secret that signs tokens."""
    tables.grant_user_index(grantee)
    tables.grant_connections(grantee, "BatchGetItem", "DeleteItem", "Scan", "UpdateItem")
    tables.grant_rooms(grantee, "BatchWriteItem", "DeleteItem", "PutItem", "Query", "UpdateItem")
    tables.grant_history(grantee, "GetItem", "PutItem", "Query", "UpdateItem")
    api.grant_manage_connections(grantee, "DELETE", "POST")
    iam.Grant.add_to_principal(
        grantee=grantee, actions=["sqs:SendMessage"], resource_arns=[fan_out.queue.queue_arn]
    )
    grant_server_events(api, grantee, stage=stage, tables=tables)


def backend_policy(
    scope: Construct, id_: str, *, stage: Stage, tables: Tables, api: WebSocketApi, fan_out: FanOut
) -> iam.ManagedPolicy:
    """These rights as a policy, attached to the stage's `backend_roles`."""
    policy = iam.ManagedPolicy(
        scope,
        id_,
        # Never changed: another description means another policy under another ARN, and roles that somebody
        # has attached this one to would keep it.
        description="Lets a backend send to the browsers of a Roomcast stage",
        roles=[iam.Role.from_role_name(scope, f"Backend-{role}", role) for role in stage.backend_roles],
    )
    grant_send(policy, stage=stage, tables=tables, api=api, fan_out=fan_out)
    return policy


def backend_role(scope: Construct, id_: str, *, stage: Stage, policy: iam.ManagedPolicy) -> iam.Role | None:
    """A role with these rights for backends in the stage's `backend_accounts`; None where it has none."""
    if not stage.backend_accounts:
        return None
    return iam.Role(
        scope,
        id_,
        description="Backends in other accounts send to the browsers of a Roomcast stage as this",
        assumed_by=iam.CompositePrincipal(*map(iam.AccountPrincipal, stage.backend_accounts)),
        managed_policies=[policy],
        max_session_duration=cdk.Duration.hours(12),
    )
