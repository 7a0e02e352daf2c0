"""The WebSocket API: three routes, a function behind each, and the stage that serves them."""

import json
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_iam as iam
from aws_cdk import aws_route53 as route53
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration
from constructs import Construct

from roomcast_cdk import server_events
from roomcast_cdk.findings import accept
from roomcast_cdk.function import Function
from roomcast_cdk.jwt_secret import JwtSecret
from roomcast_cdk.log_group import log_group
from roomcast_cdk.shared import Shared
from roomcast_cdk.tables import Tables

_TIMEOUT_SECONDS = 10
"""Well under the 29 s after which API Gateway gives up on an integration."""

_ACCESS_LOG = {
    "requestTime": "$context.requestTime",
    "requestId": "$context.requestId",
    "connectionId": "$context.connectionId",
    "eventType": "$context.eventType",
    "routeKey": "$context.routeKey",
    "status": "$context.status",
    "error": "$context.error.responseType",
    "integrationStatus": "$context.integrationStatus",
    "integrationLatency": "$context.integrationLatency",
    "sourceIp": "$context.identity.sourceIp",
}
"""One line of the access log. No variable holds the query string, so no token gets there."""


class WebSocketApi(Construct):
    """The API with `$connect`, `$disconnect` and `$default`.

    Attributes:
        url: where browsers connect to, `wss://...`.
        callback_url: the base of the management API, `https://...`; API Gateway's own URL even where browsers
            connect to a domain.
        api_id: for the names of its metrics.
        functions: of the three routes.
        default: the last of them, which does what clients ask.
        application: the variable that makes a function run the application's code, where there is one.
        domain: the stage's own domain, where it has one.
    """

    def __init__(
        self, scope: Construct, id_: str, *, shared: Shared, tables: Tables, jwt_secret: JwtSecret
    ) -> None:
        super().__init__(scope, id_)
        stage = shared.stage
        self._shared, self._stage = shared, stage
        self._api = apigateway.WebSocketApi(
            self,
            "Api",
            api_name=stage.stack_name,
            description=f"Realtime backend, stage {stage.name}",
            route_selection_expression="$request.body.action",
        )
        serving = self._serve()
        self.api_id = self._api.api_id
        self.url, self.callback_url = serving.url, serving.callback_url
        self.domain = self._serve_at_domain(serving)
        if self.domain:
            # A mapping stands for API and stage: these URLs do not name the stage again.
            place = "/".join(filter(None, (stage.domain_name, stage.domain_path)))
            self.url = f"wss://{place}"
            # Posts do not wait for a DNS record: the API's own URL serves the same connections.
            if stage.callback_at_domain:
                self.callback_url = f"https://{place}"

        def function(
            id_: str, name: str, description: str, environment: dict[str, str], reserved: int | None = None
        ) -> Function:
            return Function(
                self,
                id_,
                name=name,
                shared=shared,
                description=description,
                environment=tables.environment | server_events.environment(stage) | environment,
                timeout=_TIMEOUT_SECONDS,
                reserved=reserved,
            )

        gate = {
            **stage.environment("clients"),
            "WEBSOCKET_API_ENDPOINT": self.callback_url,
            "WEBSOCKET_JWT_SECRET_NAME": jwt_secret.name,
        }
        connect = function(
            "OnConnect",
            "Connect",
            "Decides who may connect, and stores the connection.",
            gate,
            stage.reserved_connects,
        )
        tables.grant_connections(connect.role, "BatchGetItem", "DeleteItem", "PutItem", "UpdateItem")
        tables.grant_rooms(
            connect.role,
            "BatchWriteItem",
            "ConditionCheckItem",
            "DeleteItem",
            "GetItem",
            "PutItem",
            "Query",
            "UpdateItem",
        )
        jwt_secret.grant_read(connect.role)
        self.grant_manage_connections(connect.role, "DELETE", "GET", "POST")

        disconnect = function(
            "OnDisconnect", "Disconnect", "Deletes a closed connection.", {}, stage.reserved_connects
        )
        tables.grant_connections(disconnect.role, "DeleteItem", "PutItem", "UpdateItem")
        tables.grant_rooms(disconnect.role, "BatchWriteItem", "UpdateItem")

        self.application = (
            {"WEBSOCKET_APPLICATION": Path(shared.application).stem} if shared.application else {}
        )
        default = function(
            "OnMessage", "Default", "Does what a client asks, and replies.", gate | self.application
        )
        tables.grant_connections(default.role, "BatchGetItem", "DeleteItem", "GetItem", "UpdateItem")
        tables.grant_rooms(
            default.role,
            "BatchGetItem",
            "BatchWriteItem",
            "ConditionCheckItem",
            "DeleteItem",
            "GetItem",
            "PutItem",
            "Query",
            "UpdateItem",
        )
        tables.grant_history(default.role, "BatchGetItem", "GetItem", "PutItem", "Query", "UpdateItem")
        jwt_secret.grant_read(default.role)
        self.grant_manage_connections(default.role, "DELETE", "POST")

        for each in (connect, disconnect, default):
            server_events.grant_server_events(self, each.role, stage=stage, tables=tables)
        self.default = default
        self.functions = (connect, disconnect, default)
        routes = (("$connect", connect), ("$disconnect", disconnect), ("$default", default))
        for route_key, target in routes:
            route = self._api.add_route(
                route_key,
                integration=WebSocketLambdaIntegration(target.node.id, target.target),
                return_response=route_key == "$default",  # its function's answer goes to the client
            )
            serving.node.add_dependency(route)  # the stage has settings for routes, which must be there then
            accept(
                route,
                "The function of $connect decides who connects: an authorizer would be one more call, and is "
                "possible only on $connect.",
                "AwsSolutions-APIG4",
            )

    def grant_manage_connections(self, grantee: iam.IRole | iam.ManagedPolicy, *methods: str) -> None:
        """Allow requests to the management API of this stage only.

        Args:
            grantee: who.
            methods: `POST` sends, `GET` looks, `DELETE` closes.
        """
        stack = cdk.Stack.of(self)
        here = ":".join(
            f"<AWS::{name}>" if cdk.Token.is_unresolved(value) else value
            for name, value in (("Region", stack.region), ("AccountId", stack.account))
        )
        partition = "<AWS::Partition>" if cdk.Token.is_unresolved(stack.partition) else stack.partition
        resource = self._api.node.default_child
        assert isinstance(resource, cdk.CfnResource)  # noqa: S101  what CDK documents, for the type checker
        api_id = stack.get_logical_id(resource)
        for method in methods:
            connections = f"{self._stage.name}/{method}/@connections/*"
            arn = stack.format_arn(
                service="execute-api", resource=self._api.api_id, resource_name=connections
            )
            iam.Grant.add_to_principal(
                grantee=grantee, actions=["execute-api:ManageConnections"], resource_arns=[arn]
            )
            accept(
                grantee,
                "All connections of this one stage: which of them is known only when it happens.",
                f"AwsSolutions-IAM5[Resource::arn:{partition}:execute-api:{here}:<{api_id}>/{connections}]",
            )

    def _serve(self) -> apigateway.WebSocketStage:
        stage = self._stage
        serving = apigateway.WebSocketStage(
            self, "Stage", web_socket_api=self._api, stage_name=stage.name, auto_deploy=True
        )
        resource = serving.node.default_child
        assert isinstance(resource, apigateway.CfnStage)  # noqa: S101  what CDK documents, for the type checker
        level = "ERROR" if stage.gateway_logs else "OFF"
        resource.default_route_settings = apigateway.CfnStage.RouteSettingsProperty(
            throttling_rate_limit=stage.throttle_rate,
            throttling_burst_limit=stage.throttle_burst,
            detailed_metrics_enabled=False,  # paid for each route, and no alarm or graph needs them
            logging_level=level,
            data_trace_enabled=False,  # it would print messages and tokens
        )
        resource.route_settings = {
            "$connect": {  # replaces the settings above, so it has all of them
                "ThrottlingRateLimit": stage.connect_rate,
                "ThrottlingBurstLimit": stage.connect_burst,
                "DetailedMetricsEnabled": False,
                "LoggingLevel": level,
                "DataTraceEnabled": False,
            }
        }
        if stage.gateway_logs:
            access = log_group(self, "AccessLog", shared=self._shared)
            # API Gateway would make this group itself, and keep its lines forever.
            execution = f"/aws/apigateway/{self._api.api_id}/{stage.name}"
            serving.node.add_dependency(log_group(self, "ExecutionLog", shared=self._shared, name=execution))
            resource.access_log_settings = apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=cdk.Stack.of(self).format_arn(
                    service="logs",
                    resource="log-group",
                    resource_name=access.log_group_name,
                    arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                ),
                format=json.dumps(_ACCESS_LOG),
            )
        else:
            accept(
                serving,
                "The stage wants no logs of API Gateway, so that it can be deployed into a fresh account.",
                "AwsSolutions-APIG1",
                "Serverless-APIGWAccessLogging",
                "CKV_AWS_95",
            )
        return serving

    def _serve_at_domain(self, serving: apigateway.WebSocketStage) -> apigateway.DomainName | None:
        stage = self._stage
        if stage.domain_name is None or stage.domain_certificate_arn is None:
            return None
        domain = apigateway.DomainName(
            self,
            "Domain",
            domain_name=stage.domain_name,
            certificate=acm.Certificate.from_certificate_arn(
                self, "Certificate", stage.domain_certificate_arn
            ),
            security_policy=apigateway.SecurityPolicy.TLS_1_2,
        )
        apigateway.ApiMapping(
            self,
            "Mapping",
            api=self._api,
            domain_name=domain,
            stage=serving,
            api_mapping_key=stage.domain_path,
        )
        if stage.hosted_zone_id:
            route53.CfnRecordSet(
                self,
                "Record",
                name=stage.domain_name,
                type="A",
                hosted_zone_id=stage.hosted_zone_id,
                alias_target=route53.CfnRecordSet.AliasTargetProperty(
                    dns_name=domain.regional_domain_name, hosted_zone_id=domain.regional_hosted_zone_id
                ),
            )
        return domain
