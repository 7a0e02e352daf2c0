"""The rights of a backend that sends: one policy, to be attached to the backend's own role."""

from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.fan_out import FanOut
from stacks.stage import Stage
from stacks.tables import Tables
from stacks.websocket_api import WebSocketApi


def backend_policy(
    scope: Construct, id_: str, *, stage: Stage, tables: Tables, api: WebSocketApi, fan_out: FanOut
) -> iam.ManagedPolicy:
    """What every method of `WebSocketService` needs together, and nothing of the secret that signs tokens."""
    policy = iam.ManagedPolicy(
        scope, id_, description=f"Lets a backend send through the realtime backend, stage {stage.name}"
    )
    tables.grant_user_index(policy)
    tables.grant_connections(policy, "BatchGetItem", "DeleteItem", "PutItem", "Scan", "UpdateItem")
    tables.grant_rooms(policy, "BatchWriteItem", "DeleteItem", "PutItem", "Query")
    api.grant_manage_connections(policy, "DELETE", "POST")
    iam.Grant.add_to_principal(
        grantee=policy, actions=["sqs:SendMessage"], resource_arns=[fan_out.queue.queue_arn]
    )
    return policy
