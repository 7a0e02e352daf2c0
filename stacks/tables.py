"""The two tables: who is connected, and who is a member of which room."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.stage import Stage

USER_INDEX = "UserIdIndex"


class Tables(Construct):
    """The connections table with its index `UserIdIndex`, and the rooms table.

    Both are on demand and expire their items by `ttl`. Changing a construct id here would make CloudFormation
    replace the table.

    Attributes:
        connections: hash key `connectionId`.
        rooms: hash key `room`, range key `member`.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage) -> None:
        super().__init__(scope, id_)
        self.connections = self._table("Connections", stage, key="connectionId")
        # Keys only: a join changes the item, and must not be written to the index as well.
        self.connections.add_global_secondary_index(
            index_name=USER_INDEX,
            partition_key=_string("userId"),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        self.rooms = self._table("Rooms", stage, key="room", sort_key="member")

    def grant_connections(self, grantee: iam.IGrantable, *operations: str) -> None:
        """Allow DynamoDB operations on the connections table itself, its index not included."""
        _grant(grantee, operations, self.connections.table_arn)

    def grant_user_index(self, grantee: iam.IGrantable) -> None:
        """Allow to look up the connections of a user."""
        _grant(grantee, ["Query"], f"{self.connections.table_arn}/index/{USER_INDEX}")

    def grant_rooms(self, grantee: iam.IGrantable, *operations: str) -> None:
        """Allow DynamoDB operations on the rooms table."""
        _grant(grantee, operations, self.rooms.table_arn)

    def _table(self, id_: str, stage: Stage, *, key: str, sort_key: str | None = None) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            id_,
            table_name=stage.table_name(id_.lower()),
            partition_key=_string(key),
            sort_key=_string(sort_key) if sort_key else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="ttl",
            removal_policy=cdk.RemovalPolicy.RETAIN if stage.keep_data else cdk.RemovalPolicy.DESTROY,
            deletion_protection=stage.keep_data,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=stage.keep_data
            ),
        )


def _string(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)


def _grant(grantee: iam.IGrantable, operations: list[str] | tuple[str, ...], resource: str) -> None:
    iam.Grant.add_to_principal(
        grantee=grantee,
        actions=[f"dynamodb:{operation}" for operation in operations],
        resource_arns=[resource],
    )
