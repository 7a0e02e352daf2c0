"""The stack: it composes the constructs, and publishes what others need to know of a deployment."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from roomcast_cdk import backend_access
from roomcast_cdk.encryption import customer_key
from roomcast_cdk.fan_out import FanOut
from roomcast_cdk.gradual_changes import GradualChanges
from roomcast_cdk.jwt_secret import JwtSecret
from roomcast_cdk.lambda_code import lambda_code
from roomcast_cdk.monitoring import Monitoring
from roomcast_cdk.shared import Shared
from roomcast_cdk.stage import Stage
from roomcast_cdk.tables import Tables
from roomcast_cdk.websocket_api import WebSocketApi

PLACEHOLDER_ACCOUNT = "000000000000"
"""The account of `prod` until somebody writes a real one into `cdk.json`. There is no such account."""


class WebSocketStack(cdk.Stack):
    """A whole stage. Needs no AWS account, no network and no Docker to be synthesized.

    A stack whose data is kept is protected against deletion. CloudFormation protects it from the start, so a
    first deployment that fails leaves a protected stack without anything in it; `roomcast deploy` lifts that.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage) -> None:
        super().__init__(
            scope,
            id_,
            description=f"Realtime backend, stage {stage.name}: WebSocket API, functions, tables",
            env=cdk.Environment(account=stage.account, region=stage.region),
            termination_protection=stage.keep_data,
            tags={"roomcast:stage": stage.name} | dict(stage.tags or {}),
        )
        self._stage = stage
        shared = self._shared()
        self._tables = tables = Tables(self, "Tables", shared=shared)
        jwt_secret = JwtSecret(self, "JwtSecret", shared=shared)
        self._api = api = WebSocketApi(self, "WebSocket", shared=shared, tables=tables, jwt_secret=jwt_secret)
        self._fan_out = fan_out = FanOut(self, "FanOut", shared=shared, tables=tables, api=api)
        policy = backend_access.backend_policy(
            self, "BackendPolicy", stage=stage, tables=tables, api=api, fan_out=fan_out
        )
        role = backend_access.backend_role(self, "BackendRole", stage=stage, policy=policy)
        if stage.monitoring:
            Monitoring(self, "Monitoring", shared=shared, tables=tables, api=api, fan_out=fan_out)
        if stage.shifts:
            GradualChanges(self, "GradualChanges", functions=(*api.functions, fan_out.worker))
        self._warn()
        self._parameters = Construct(self, "Parameters")
        self._publish("WebSocketAPIUrl", api.url, "Where browsers connect to")
        self._publish("WebSocketCallbackUrl", api.callback_url, "The base of the management API")
        self._publish("ConnectionsTableName", tables.connections.table_name, "Who is connected")
        self._publish("RoomsTableName", tables.rooms.table_name, "Members and grants of the rooms")
        self._publish("HistoryTableName", tables.history.table_name, "What the rooms keep for a day")
        self._publish("JwtSecretName", jwt_secret.name, "The secret that tokens are signed with")
        self._publish("FanOutQueueUrl", fan_out.queue.queue_url, "Takes large sends from any backend")
        self._publish("DeadLettersQueueUrl", fan_out.dead_letters.queue_url, "Sends that could not be done")
        self._publish("BackendPolicyArn", policy.managed_policy_arn, "Lets a backend's role send")
        if role:
            self._publish("BackendRoleArn", role.role_arn, "What backends in other accounts assume to send")
        if api.domain:
            self._publish(
                "DomainTarget", api.domain.regional_domain_name, "What the domain's record points to"
            )
            self._publish(
                "DomainTargetZoneId",
                api.domain.regional_hosted_zone_id,
                "That target's hosted zone, for Route 53",
            )

    def grant_send(self, role: iam.IRole) -> None:
        """Allow a role, of this stack or another, everything that `WebSocketService` does."""
        backend_access.grant_send(role, tables=self._tables, api=self._api, fan_out=self._fan_out)

    def _shared(self) -> Shared:
        stage = self._stage
        code = lambda_code(self, public_keys=stage.jwks_url is not None)
        shared = Shared(stage=stage, key=None, code=code)
        key = customer_key(self, "Key", stage=stage, removal=shared.removal_of_tables)
        return Shared(stage=stage, key=key, code=code)

    def _warn(self) -> None:
        """Say at synthesis what is allowed, and yet can hardly be meant."""
        stage, at = self._stage, f"stages.{self._stage.name}"
        warnings = {
            "allowed-origins": (
                any("example.com" in origin for origin in stage.allowed_origins),
                f"{at}.allowed_origins still names example.com: your own pages are refused",
            ),
            "account": (
                stage.account == PLACEHOLDER_ACCOUNT,
                f"{at}.account is a placeholder: write your account's 12 digits, and check the region",
            ),
            "alarm-address": (
                stage.monitoring and not (stage.alarm_email or stage.alarm_topic_arn),
                f"{at} has alarms that notify nobody: set alarm_email or alarm_topic_arn",
            ),
        }
        for id_, (applies, message) in warnings.items():
            if applies:
                cdk.Annotations.of(self).add_warning_v2(f"roomcast:{id_}", message)

    def _publish(self, name: str, value: str, description: str) -> None:
        """An output of the stack for people, and a parameter for other stacks and pipelines."""
        cdk.CfnOutput(self, name, value=value, description=description)
        ssm.StringParameter(
            self._parameters,
            name,
            parameter_name=f"/{self._stage.stack_name}/{name}",
            string_value=value,
            description=description,
        )
