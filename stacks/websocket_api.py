"""The WebSocket API: three routes, a function behind each, and the stage that serves them."""

from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration
from constructs import Construct

from stacks.function import Function
from stacks.jwt_secret import JwtSecret
from stacks.stage import Stage
from stacks.tables import Tables

_TIMEOUT_SECONDS = 10
"""Well under the 29 s after which API Gateway gives up on an integration."""


class WebSocketApi(Construct):
    """The API with `$connect`, `$disconnect` and `$default`.

    Attributes:
        url: where browsers connect to, `wss://...`.
        callback_url: the base of the management API, `https://...`.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
        code: lambda_.Code,
        tables: Tables,
        jwt_secret: JwtSecret,
    ) -> None:
        super().__init__(scope, id_)
        environment = {
            "WEBSOCKET_CONNECTIONS_TABLE": tables.connections.table_name,
            "WEBSOCKET_ROOMS_TABLE": tables.rooms.table_name,
        }
        connect = Function(
            self,
            "OnConnect",
            name="Connect",
            stage=stage,
            code=code,
            description="Checks the token of a new connection and keeps the connection.",
            environment=environment
            | {
                "WEBSOCKET_JWT_SECRET_NAME": jwt_secret.name,
                "WEBSOCKET_ALLOWED_ORIGINS": ",".join(stage.allowed_origins),
            },
            timeout=_TIMEOUT_SECONDS,
        )
        tables.grant_connections(connect.role, "PutItem")
        jwt_secret.grant_read(connect.role)
        disconnect = Function(
            self,
            "OnDisconnect",
            name="Disconnect",
            stage=stage,
            code=code,
            description="Forgets a closed connection and its memberships.",
            environment=environment,
            timeout=_TIMEOUT_SECONDS,
        )
        tables.grant_connections(disconnect.role, "DeleteItem", "PutItem")
        tables.grant_rooms(disconnect.role, "BatchWriteItem")
        default = Function(
            self,
            "OnMessage",
            name="Default",
            stage=stage,
            code=code,
            description="Does what a client asks, and answers by its return value.",
            environment=environment,
            timeout=_TIMEOUT_SECONDS,
        )
        tables.grant_connections(default.role, "GetItem", "UpdateItem")
        tables.grant_rooms(default.role, "ConditionCheckItem", "DeleteItem", "PutItem")

        api = apigateway.WebSocketApi(
            self,
            "Api",
            api_name=stage.stack_name,
            description=f"Realtime backend, stage {stage.name}",
            route_selection_expression="$request.body.action",
            connect_route_options=_route("ConnectIntegration", connect),
            disconnect_route_options=_route("DisconnectIntegration", disconnect),
            # The one route whose function's answer goes to the client.
            default_route_options=_route("DefaultIntegration", default, return_response=True),
        )
        serving = apigateway.WebSocketStage(
            self,
            "Stage",
            web_socket_api=api,
            stage_name=stage.name,
            auto_deploy=True,
            # Both always: detailed metrics without throttles would leave the throttle at 0.
            detailed_metrics_enabled=True,
            throttle=apigateway.ThrottleSettings(
                rate_limit=stage.throttle_rate, burst_limit=stage.throttle_burst
            ),
        )
        self.url = serving.url
        self.callback_url = serving.callback_url


def _route(
    id_: str, function: Function, *, return_response: bool = False
) -> apigateway.WebSocketRouteOptions:
    return apigateway.WebSocketRouteOptions(
        integration=WebSocketLambdaIntegration(id_, function.function), return_response=return_response
    )
