"""A whole realtime backend as one construct, for a stack of any CDK app."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from roomcast import App, ApplicationError, rooms
from roomcast.app import load
from roomcast.names import HookEvent
from roomcast_cdk import backend_access, server_events
from roomcast_cdk.encryption import customer_key
from roomcast_cdk.fan_out import FanOut
from roomcast_cdk.function import Function
from roomcast_cdk.gradual_changes import GradualChanges
from roomcast_cdk.jwt_secret import JwtSecret
from roomcast_cdk.lambda_code import lambda_code
from roomcast_cdk.monitoring import Monitoring
from roomcast_cdk.setting import StageError
from roomcast_cdk.shared import Shared
from roomcast_cdk.stage import Stage
from roomcast_cdk.tables import Tables
from roomcast_cdk.websocket_api import WebSocketApi

PLACEHOLDER_ACCOUNT = "000000000000"
"""The account of `prod` until somebody writes a real one into `cdk.json`. There is no such account."""

_LONGEST_PREFIX = 20
"""What the setting `prefix` may have; see there."""


class RealtimeBackend(Construct):
    """A WebSocket API with its functions, tables, fan-out queue, secret, rights, outputs and alarms.

    A stack may hold several: each has names of its own. Tables, functions, the queue and the parameters of
    Systems Manager are called by the setting `prefix` and the stage; where `prefix` is not set it is made of
    the stack's name and the construct's id, so renaming either gives the backend new, empty tables.

    Outputs of the stack have the construct's id in front: `RealtimeWebSocketAPIUrl`.

    Args:
        scope: a stack, or a construct in one.
        id_: the construct's id.
        settings: those of one stage, by the names of the page Operations, and its name under `stage`; or a
            `Stage`. Left out, they come from `cdk.json`: the stage that `-c stage=NAME` names.
        application: the file or folder with the rooms and actions of this backend, relative to where `cdk`
            runs; None for one without any of its own.

    Raises:
        StageError: a setting is unknown, missing or wrong, or the stack is for another account or region.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Stage | Mapping[str, object] | None = None,
        application: str | Path | None = None,
    ) -> None:
        super().__init__(scope, id_)
        self.stage = stage = self._choose(settings)
        self._check_place()
        for key, value in ({"roomcast:stage": stage.name} | dict(stage.tags or {})).items():
            if cdk.Stack.of(self).tags.tag_values().get(key) != value:
                cdk.Tags.of(self).add(key, value)
        shared = self._shared(application)
        self._tables = tables = Tables(self, "Tables", shared=shared)
        self._jwt_secret = JwtSecret(self, "JwtSecret", shared=shared)
        self._api = api = WebSocketApi(
            self, "WebSocket", shared=shared, tables=tables, jwt_secret=self._jwt_secret
        )
        self._fan_out = fan_out = FanOut(self, "FanOut", shared=shared, tables=tables, api=api)
        self._run_hooks(shared)
        self._policy = backend_access.backend_policy(
            self, "BackendPolicy", stage=stage, tables=tables, api=api, fan_out=fan_out
        )
        self._role = backend_access.backend_role(self, "BackendRole", stage=stage, policy=self._policy)
        if stage.monitoring:
            Monitoring(self, "Monitoring", shared=shared, tables=tables, api=api, fan_out=fan_out)
        if stage.shifts:
            GradualChanges(self, "GradualChanges", functions=(*api.functions, fan_out.worker))
        self._warn()
        self._publish()

    @property
    def url(self) -> str:
        """Where browsers connect, `wss://...`; `?token=` is to be added."""
        return self._api.url

    @property
    def callback_url(self) -> str:
        """The base of the management API, `https://...`."""
        return self._api.callback_url

    @property
    def connections(self) -> dynamodb.Table:
        """The connections table: who is connected."""
        return self._tables.connections

    @property
    def application(self) -> lambda_.Function:
        """The function that runs the application: grant it tables and queues, add variables to it."""
        return self._api.default.function

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `WebSocketService.from_env()` reads, for a function or container of this app."""
        return {
            **self._tables.environment,
            "WEBSOCKET_API_ENDPOINT": self.callback_url,
            "WEBSOCKET_FANOUT_QUEUE_URL": self._fan_out.queue.queue_url,
            "WEBSOCKET_JWT_SECRET_NAME": self._jwt_secret.name,
            **server_events.environment(self.stage),
        }

    def grant_send(self, role: iam.IRole) -> None:
        """Allow a role, of this stack or another, everything that `WebSocketService` does."""
        backend_access.grant_send(
            role, stage=self.stage, tables=self._tables, api=self._api, fan_out=self._fan_out
        )

    def grant_sign(self, grantee: iam.IGrantable) -> None:
        """Allow to read the secret that tokens are signed with: who has it can be any user."""
        self._jwt_secret.grant_read(grantee)

    def _choose(self, settings: Stage | Mapping[str, object] | None) -> Stage:
        if isinstance(settings, Stage):
            return settings
        prefix = {"prefix": self._own_prefix()}
        if settings is None:
            name, stages = (self.node.try_get_context(key) for key in ("stage", "stages"))
            if isinstance(stages, Mapping) and isinstance(stages.get(name), Mapping):
                stages = {**stages, name: prefix | stages[name]}
            return Stage.from_context(name, stages)
        name = settings.get("stage")
        if not isinstance(name, str):
            raise StageError("settings.stage", f"must be the stage's name, such as 'dev', not {name!r}")
        return Stage.from_settings(
            name, prefix | {key: value for key, value in settings.items() if key != "stage"}
        )

    def _own_prefix(self) -> str:
        """A start of names that no other backend of the account has: stack and construct are in it."""
        full = "-".join([cdk.Stack.of(self).stack_name, *self._path()])
        plain = re.sub("[^a-z0-9]+", "-", full.lower()).strip("-")
        if len(plain) <= _LONGEST_PREFIX:
            return plain
        digest = hashlib.sha256(full.encode()).hexdigest()[:6]
        return f"{plain[: _LONGEST_PREFIX - 7].rstrip('-')}-{digest}"

    def _path(self) -> list[str]:
        """The ids from the stack down to here. CDK leaves `Default` out of every name, and so does this."""
        depth = len(cdk.Stack.of(self).node.scopes)
        return [scope.node.id for scope in self.node.scopes[depth:] if scope.node.id != "Default"]

    def _check_place(self) -> None:
        stack, at = cdk.Stack.of(self), f"stages.{self.stage.name}"
        for key, wanted, there in (
            ("account", self.stage.account, stack.account),
            ("region", self.stage.region, stack.region),
        ):
            if wanted and wanted != there:
                found = "leaves it open" if cdk.Token.is_unresolved(there) else f"is for {there}"
                raise StageError(
                    f"{at}.{key}", f"is {wanted}, and the stack {stack.stack_name} {found}: give it an `env`"
                )

    def _shared(self, application: str | Path | None) -> Shared:
        stage = self.stage
        code = lambda_code(self, public_keys=stage.jwks_url is not None, application=application)
        path = None if application is None else os.path.relpath(application)
        try:
            app = App() if application is None else load(Path(application))
        except ApplicationError as error:
            raise StageError("application", str(error)) from error
        shared = Shared(stage=stage, key=None, code=code, application=path, app=app)
        return replace(shared, key=customer_key(self, "Key", stage=stage, removal=shared.removal_of_tables))

    def _run_hooks(self, shared: Shared) -> None:
        """Give `$connect` and `$disconnect` the application and its rights, where it has hooks for them."""
        connect, disconnect, _ = self._api.functions
        hooks: dict[HookEvent, Function] = {"connected": connect, "disconnected": disconnect}
        for event, function in hooks.items():
            if not shared.app.hooks_of(event):
                continue
            for name, value in (self.environment | self._api.application).items():
                function.function.add_environment(name, value)
            self._tables.grant_connections(function.role, "GetItem")
            self.grant_send(function.role)

    def _warn(self) -> None:
        """Say at synthesis what is allowed, and yet can hardly be meant."""
        stage, at = self.stage, f"stages.{self.stage.name}"
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
            "termination-protection": (
                stage.keep_data and not cdk.Stack.of(self).termination_protection,
                f"{at}.keep_data: the tables are protected against deletion, and the stack around them is "
                "not: give it termination_protection=True",
            ),
        }
        for id_, (applies, message) in warnings.items():
            if applies:
                cdk.Annotations.of(self).add_warning_v2(f"roomcast:{id_}", message)

    def _publish(self) -> None:
        """Write what others need to know: outputs for people, parameters for other stacks and pipelines."""
        published = {
            "WebSocketAPIUrl": (self.url, "Where browsers connect to"),
            "WebSocketCallbackUrl": (self.callback_url, "The base of the management API"),
            "ConnectionsTableName": (self.connections.table_name, "Who is connected"),
            "RoomsTableName": (self._tables.rooms.table_name, "Members and grants of the rooms"),
            "HistoryTableName": (self._tables.history.table_name, "What the rooms keep for a day"),
            "Rooms": (self._tables.environment[rooms.KEY], "The kinds of room, for backends"),
            "JwtSecretName": (self._jwt_secret.name, "The secret that tokens are signed with"),
            "FanOutQueueUrl": (self._fan_out.queue.queue_url, "Takes large sends from any backend"),
            "DeadLettersQueueUrl": (
                self._fan_out.dead_letters.queue_url,
                "Sends that could not be done",
            ),
            "BackendPolicyArn": (self._policy.managed_policy_arn, "Lets a backend's role send"),
        }
        for rules in server_events.environment(self.stage).values():
            published["ServerEvents"] = (rules, "What other services get to know, for backends")
        if self._role:
            published["BackendRoleArn"] = (
                self._role.role_arn,
                "What backends in other accounts assume to send",
            )
        if domain := self._api.domain:
            published["DomainTarget"] = (domain.regional_domain_name, "What the domain's record points to")
            published["DomainTargetZoneId"] = (
                domain.regional_hosted_zone_id,
                "That target's hosted zone, for Route 53",
            )
        parameters = Construct(self, "Parameters")
        place = re.sub("[^A-Za-z0-9]", "", "".join(self._path()))
        for name, (value, description) in published.items():
            # A name that tools can know: CDK would end it with a hash of the path.
            cdk.CfnOutput(self, name, value=value, description=description).override_logical_id(
                f"{place}{name}"
            )
            ssm.StringParameter(
                parameters,
                name,
                parameter_name=f"/{self.stage.stack_name}/{name}",
                string_value=value,
                description=description,
            )
