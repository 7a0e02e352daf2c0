"""A CDK app that is not ours, with a route for each thing that the local gateway must do as AWS does.

Two stacks: `plain`, whose handlers do what the client asks, and `guarded`, with another selection
expression, a REQUEST authorizer, MOCK routes, inline code and no `$default`.
"""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_apigatewayv2_authorizers import WebSocketLambdaAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration, WebSocketMockIntegration
from aws_cdk.aws_lambda_event_sources import SqsEventSource


class Plain(cdk.Stack):
    """Routes without an authorizer."""

    def __init__(self, scope: cdk.App, name: str) -> None:
        super().__init__(scope, name)
        table = dynamodb.TableV2(
            self,
            "Events",
            partition_key=dynamodb.Attribute(name="connectionId", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="eventType", type=dynamodb.AttributeType.STRING),
        )
        dead = sqs.Queue(self, "Dead")
        queue = sqs.Queue(
            self,
            "Jobs",
            visibility_timeout=cdk.Duration.seconds(2),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=2),
        )
        code = lambda_.Code.from_asset("functions")

        def function(handler: str, **settings: Any) -> lambda_.Function:
            return lambda_.Function(
                self,
                f"{handler.capitalize()}Function",
                runtime=lambda_.Runtime.PYTHON_3_13,
                handler=f"handlers.{handler}",
                code=code,
                memory_size=192,
                environment={"EVENTS_TABLE": table.table_name, "GREETING": "hello"},
                **settings,
            )

        connect, disconnect = function("connect"), function("disconnect")
        message = function("message", timeout=cdk.Duration.seconds(2))
        broken = function("missing")
        jobs = function("jobs", timeout=cdk.Duration.seconds(1))
        api = apigateway.WebSocketApi(
            self,
            "Api",
            connect_route_options=apigateway.WebSocketRouteOptions(
                integration=WebSocketLambdaIntegration("Connect", connect)
            ),
            disconnect_route_options=apigateway.WebSocketRouteOptions(
                integration=WebSocketLambdaIntegration("Disconnect", disconnect)
            ),
            default_route_options=apigateway.WebSocketRouteOptions(
                integration=WebSocketLambdaIntegration("Message", message), return_response=True
            ),
        )
        api.add_route("silent", integration=WebSocketLambdaIntegration("Silent", message))
        api.add_route(
            "broken", integration=WebSocketLambdaIntegration("Broken", broken), return_response=True
        )
        api.add_route(
            "impatient",
            integration=WebSocketLambdaIntegration("Impatient", message, timeout=cdk.Duration.seconds(1)),
            return_response=True,
        )
        stage = apigateway.WebSocketStage(
            self,
            "Stage",
            web_socket_api=api,
            stage_name="v1",
            auto_deploy=True,
            throttle=apigateway.ThrottleSettings(rate_limit=1, burst_limit=20),
        )
        connect.add_environment("CALLBACK_URL", stage.callback_url)
        jobs.add_event_source(SqsEventSource(queue, batch_size=3, report_batch_item_failures=True))
        cdk.CfnOutput(self, "EventsTable", value=table.table_name)
        cdk.CfnOutput(self, "JobsUrl", value=queue.queue_url)
        cdk.CfnOutput(self, "DeadUrl", value=dead.queue_url)
        cdk.CfnOutput(self, "Url", value=stage.url)
        cdk.CfnOutput(self, "CallbackUrl", value=stage.callback_url)


AUTHORIZER = """
def handler(event, context):
    key = event["queryStringParameters"]["key"]
    if key == "unauthorized":
        raise Exception("Unauthorized")
    if key == "crash":
        raise ValueError("no such key")
    effect = "Deny" if key == "deny" else "Allow"
    resource = "arn:aws:execute-api:*:*:*/*/GET/*" if key == "elsewhere" else event["methodArn"]
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    extra = {"list": [1]} if key == "malformed" else {"big": "x" * 9000} if key == "big" else {}
    return {
        "principalId": "user-7",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"plan": "gold", "seats": 3, "trial": True, **extra},
    }
"""
ECHO = """
import json

def handler(event, context):
    return {"statusCode": 200, "body": json.dumps(event["requestContext"])}
"""


class Guarded(cdk.Stack):
    """Routes behind a REQUEST authorizer."""

    def __init__(self, scope: cdk.App, name: str) -> None:
        super().__init__(scope, name)

        def function(identifier: str, code: str) -> lambda_.Function:
            return lambda_.Function(
                self,
                identifier,
                runtime=lambda_.Runtime.PYTHON_3_13,
                handler="index.handler",
                code=lambda_.Code.from_inline(code),
            )

        echo = function("Echo", ECHO)
        api = apigateway.WebSocketApi(
            self,
            "Api",
            route_selection_expression="$request.body.meta.kind",
            connect_route_options=apigateway.WebSocketRouteOptions(
                integration=WebSocketLambdaIntegration("Connect", echo),
                authorizer=WebSocketLambdaAuthorizer(
                    "Authorizer",
                    function("Check", AUTHORIZER),
                    identity_source=["route.request.querystring.key"],
                ),
            ),
        )
        api.add_route("echo", integration=WebSocketLambdaIntegration("Say", echo), return_response=True)
        mock = WebSocketMockIntegration(
            "Mock", request_templates={"200": '{"statusCode": 200}'}, template_selection_expression="200"
        )
        api.add_route("ping", integration=mock, return_response=True)
        integration = next(
            child for child in api.node.find_all() if getattr(child, "integration_type", "") == "MOCK"
        )
        apigateway.CfnIntegrationResponse(
            self,
            "Pong",
            api_id=api.api_id,
            integration_id=integration.ref,  # type: ignore[attr-defined]
            integration_response_key="$default",
            response_templates={"200": '{"pong": "$context.connectionId"}'},
        )
        api.add_route(
            "quiet",
            integration=WebSocketMockIntegration(
                "Quiet", request_templates={"200": '{"statusCode": 200}'}, template_selection_expression="200"
            ),
        )
        apigateway.WebSocketStage(self, "Stage", web_socket_api=api, stage_name="prod", auto_deploy=True)


app = cdk.App()
Plain(app, "plain")
Guarded(app, "guarded")
app.synth()
