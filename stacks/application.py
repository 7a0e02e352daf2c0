"""The AWS resources of the application: the place for its tables, queues and buckets."""

from aws_cdk import aws_lambda as lambda_
from constructs import Construct


def add_resources(scope: Construct, function: lambda_.Function) -> None:
    """Make what the application needs, and let its function use it.

    A table of orders, for example; the function finds its name in the variable `ORDERS_TABLE`:

        orders = dynamodb.TableV2(
            scope,
            "Orders",
            partition_key=dynamodb.Attribute(name="orderId", type=dynamodb.AttributeType.STRING),
        )
        orders.grant(function, "dynamodb:GetItem", "dynamodb:PutItem")
        function.add_environment("ORDERS_TABLE", orders.table_name)

    The test of least privilege takes what is granted here as the application's, and the local run makes the
    tables, queues and buckets too.

    Args:
        scope: the parent of the resources.
        function: runs the application. Variables that start with `WEBSOCKET_` are Roomcast's.
    """
