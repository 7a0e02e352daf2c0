"""LandingHub's backend as a CDK app: the same table, the same three functions, in Python."""

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration

app = cdk.App()
stack = cdk.Stack(app, "samejob")
table = dynamodb.Table(
    stack,
    "Connections",
    partition_key=dynamodb.Attribute(name="connectionId", type=dynamodb.AttributeType.STRING),
    billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
)
table.add_global_secondary_index(
    index_name="UserIdIndex",
    partition_key=dynamodb.Attribute(name="userId", type=dynamodb.AttributeType.STRING),
)


def route(handler: str) -> apigateway.WebSocketRouteOptions:
    function = lambda_.Function(
        stack,
        f"{handler.capitalize()}Function",
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler=f"handlers.{handler}",
        code=lambda_.Code.from_asset("handlers"),
        timeout=cdk.Duration.seconds(10),
        environment={
            "JWT_SECRET": app.node.get_context("secret"),
            "WEBSOCKET_CONNECTIONS_TABLE": table.table_name,
        },
    )
    return apigateway.WebSocketRouteOptions(integration=WebSocketLambdaIntegration(f"{handler}To", function))


api = apigateway.WebSocketApi(
    stack, "Api", connect_route_options=route("connect"), disconnect_route_options=route("disconnect")
)
api.add_route("$default", integration=route("standard").integration, return_response=True)
apigateway.WebSocketStage(stack, "Stage", web_socket_api=api, stage_name="local", auto_deploy=True)
cdk.CfnOutput(stack, "Table", value=table.table_name)
app.synth()
