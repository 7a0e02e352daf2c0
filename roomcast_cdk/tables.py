"""The tables: who is connected, who is a member of which room, and what the rooms keep."""

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from roomcast import rooms
from roomcast_cdk.findings import accept
from roomcast_cdk.shared import Shared

USER_INDEX = "UserIdIndex"

_KEEPS_NONE = "The stage keeps no data: keep_data is false."


class Tables(Construct):
    """The connections table with its index `UserIdIndex`, the rooms table, and the history table.

    All are on demand and expire their items by `ttl`. Changing a construct id here would make CloudFormation
    replace the table.

    Attributes:
        connections: hash key `connectionId`.
        rooms: hash key `room`, range key `member`.
        history: hash key `stream`, range key `seq`: the messages of the last day.
        environment: their names and the kinds of room, as `roomcast.settings` reads them.
    """

    def __init__(self, scope: Construct, id_: str, *, shared: Shared) -> None:
        super().__init__(scope, id_)
        self._shared = shared
        self.connections = self._table("Connections", hash_key="connectionId", recoverable=False)
        # Keys only: a join changes the item, and must not be written to the index as well.
        self.connections.add_global_secondary_index(
            index_name=USER_INDEX,
            partition_key=_string("userId"),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        self.rooms = self._table("Rooms", hash_key="room", range_key="member", recoverable=True)
        self.history = self._table("History", hash_key="stream", range_key="seq", recoverable=True)
        self.environment = {
            "WEBSOCKET_CONNECTIONS_TABLE": self.connections.table_name,
            "WEBSOCKET_ROOMS_TABLE": self.rooms.table_name,
            "WEBSOCKET_HISTORY_TABLE": self.history.table_name,
            rooms.KEY: shared.app.rooms.with_window(shared.stage.last_value_window).dumps(),
        }

    def grant_connections(self, grantee: iam.IGrantable, *operations: str) -> None:
        """Allow DynamoDB operations on the connections table itself, its index not included."""
        _grant(grantee, operations, self.connections.table_arn)

    def grant_user_index(self, grantee: iam.IGrantable) -> None:
        """Allow to look up the connections of a user."""
        _grant(grantee, ["Query"], f"{self.connections.table_arn}/index/{USER_INDEX}")

    def grant_rooms(self, grantee: iam.IGrantable, *operations: str) -> None:
        """Allow DynamoDB operations on the rooms table."""
        _grant(grantee, operations, self.rooms.table_arn)

    def grant_history(self, grantee: iam.IGrantable, *operations: str) -> None:
        """Allow DynamoDB operations on the history table."""
        _grant(grantee, operations, self.history.table_arn)

    def _table(
        self, id_: str, *, hash_key: str, range_key: str | None = None, recoverable: bool
    ) -> dynamodb.Table:
        stage, key = self._shared.stage, self._shared.key
        table = dynamodb.Table(
            self,
            id_,
            table_name=stage.table_name(id_.lower()),
            partition_key=_string(hash_key),
            sort_key=_numbers(range_key) if range_key == "seq" else _string(range_key) if range_key else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="ttl",
            encryption=(
                dynamodb.TableEncryption.CUSTOMER_MANAGED if key else dynamodb.TableEncryption.DEFAULT
            ),
            encryption_key=key,
            removal_policy=self._shared.removal_of_tables,
            deletion_protection=stage.keep_data,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=recoverable and stage.keep_data
            ),
        )
        self._shared.encrypted(table, "CKV_AWS_119")
        reason = (
            "Clients reconnect: yesterday's connections are of no use." if stage.keep_data else _KEEPS_NONE
        )
        if not (recoverable and stage.keep_data):
            accept(table, reason, "AwsSolutions-DDB3", "CKV_AWS_28")
        return table


def _string(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)


def _numbers(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.NUMBER)


def _grant(grantee: iam.IGrantable, operations: list[str] | tuple[str, ...], resource: str) -> None:
    iam.Grant.add_to_principal(
        grantee=grantee,
        actions=[f"dynamodb:{operation}" for operation in operations],
        resource_arns=[resource],
    )
