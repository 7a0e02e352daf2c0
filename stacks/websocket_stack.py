"""The stack: it composes the constructs and says what a deployment prints."""

import aws_cdk as cdk
from constructs import Construct

from stacks.backend_policy import backend_policy
from stacks.encryption import customer_key
from stacks.fan_out import FanOut
from stacks.jwt_secret import JwtSecret
from stacks.lambda_code import lambda_code
from stacks.monitoring import Monitoring
from stacks.stage import Stage
from stacks.tables import Tables
from stacks.websocket_api import WebSocketApi


class WebSocketStack(cdk.Stack):
    """A whole stage. Needs no AWS account, no network and no Docker to be synthesized."""

    def __init__(self, scope: Construct, id_: str, *, stage: Stage) -> None:
        super().__init__(
            scope,
            id_,
            description=f"Realtime backend, stage {stage.name}: WebSocket API, functions, tables",
            termination_protection=stage.keep_data,
            tags={"roomcast:stage": stage.name},
        )
        key = customer_key(self, "Key", stage=stage)
        tables = Tables(self, "Tables", stage=stage, key=key)
        jwt_secret = JwtSecret(self, "JwtSecret", stage=stage, key=key)
        code = lambda_code(self, public_keys=stage.jwks_url is not None)
        api = WebSocketApi(
            self, "WebSocket", stage=stage, code=code, tables=tables, jwt_secret=jwt_secret, key=key
        )
        fan_out = FanOut(self, "FanOut", stage=stage, code=code, tables=tables, api=api, key=key)
        policy = backend_policy(self, "BackendPolicy", stage=stage, tables=tables, api=api, fan_out=fan_out)
        if stage.monitoring:
            Monitoring(
                self,
                "Monitoring",
                stage=stage,
                tables=tables,
                api=api,
                fan_out=fan_out,
                code=code,
                key=key,
            )
        if any("example.com" in origin for origin in stage.allowed_origins):
            cdk.Annotations.of(self).add_warning_v2(
                "roomcast:allowed-origins",
                f"stages.{stage.name}.allowed_origins still names example.com: your own pages are refused",
            )
        self._output("WebSocketAPIUrl", api.url, "Where browsers connect to")
        self._output("WebSocketCallbackUrl", api.callback_url, "The base of the management API")
        self._output("ConnectionsTableName", tables.connections.table_name, "Who is connected")
        self._output("RoomsTableName", tables.rooms.table_name, "Members and grants of the rooms")
        self._output("JwtSecretName", jwt_secret.name, "The secret that tokens are signed with")
        self._output("FanOutQueueUrl", fan_out.queue.queue_url, "Takes large sends from any backend")
        self._output("DeadLettersQueueUrl", fan_out.dead_letters.queue_url, "Sends that could not be done")
        self._output("BackendPolicyArn", policy.managed_policy_arn, "Lets a backend's role send")
        if api.domain:
            target = api.domain.regional_domain_name
            self._output("DomainTarget", target, "What the domain's CNAME or alias record points to")

    def _output(self, name: str, value: str, description: str) -> None:
        cdk.CfnOutput(self, name, value=value, description=description)
