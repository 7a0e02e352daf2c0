"""One Lambda function of the stage, with a role and a log group of its own."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.log_group import log_group
from roomcast_cdk.shared import Shared
from roomcast_cdk.stage import Stage


class Function(Construct):
    """A function whose role may write its own logs, and nothing more until somebody grants it.

    Attributes:
        function: the function itself.
        target: what calls go to: the function, or its alias where changes are gradual.
        alias: that alias.
        role: what it runs as.
        logs: where it writes.
        name: the end of its name.
        memory_mb: its memory.

    Args:
        scope: the construct's parent.
        id_: its construct id. Never `Default`, which CDK leaves out of logical ids.
        name: the end of its name; `Connect` is `...-websocketConnect` with the handler `connect.handler`.
        shared: names, memory, retention, code and key.
        description: one sentence for the console.
        environment: what `roomcast.settings` reads.
        timeout: seconds.
        reserved: concurrent executions that are reserved for it.
        gradual: whether its changes are gradual where the stage's are.
        memory_mb: where it needs another amount than the stage's.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        shared: Shared,
        description: str,
        environment: Mapping[str, str],
        timeout: int,
        memory_mb: int | None = None,
        reserved: int | None = None,
        gradual: bool = True,
    ) -> None:
        super().__init__(scope, id_)
        stage = shared.stage
        self.name = name
        self.memory_mb = memory_mb or stage.memory_mb
        self.logs = log_group(self, "Logs", shared=shared)
        watched = {"WEBSOCKET_METRICS": stage.stack_name} if stage.monitoring else {}
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"{stage.function_name(name)} runs as this",
        )
        self.logs.grant_write(self.role)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=stage.function_name(name),
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=shared.code,
            handler=f"{name.lower()}.handler",
            memory_size=self.memory_mb,
            timeout=cdk.Duration.seconds(timeout),
            environment=dict(environment) | watched,
            environment_encryption=shared.key,
            role=self.role,
            reserved_concurrent_executions=reserved,
            runtime_management_mode=_runtime_management(stage),
            log_group=self.logs,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            # Without START, END and REPORT of every invocation: 1 KB of logs costs half as much as a message.
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
        )
        if shared.application:
            # `roomcast dev` runs the application from where it is, so that a saved file counts.
            resource = self.function.node.default_child
            assert isinstance(resource, lambda_.CfnFunction)  # noqa: S101  what CDK documents, for the type checker
            resource.add_metadata("roomcast:application", shared.application)
        self.alias = (
            lambda_.Alias(self, "Live", alias_name="live", version=self.function.current_version)
            if stage.shifts and gradual
            else None
        )
        self.target: lambda_.IFunction = self.alias or self.function
        accept(
            self.function,
            "Python 3.13 is what the tests of this project ran with; AWS supports it until 2029.",
            "AwsSolutions-L1",
            "Serverless-LambdaLatestVersion",
        )
        accept(
            self.function,
            "No DLQ is needed: API Gateway returns the error to the client, SQS retries, and the next "
            "scheduled count replaces a failed one.",
            "Serverless-LambdaDLQ",
            "CKV_AWS_116",
        )
        provider = f" and the identity provider of {stage.jwks_url}" if stage.jwks_url else ""
        accept(self.function, f"It calls only AWS's own endpoints{provider}.", "CKV_AWS_117")
        if reserved is None:
            accept(
                self.function,
                "The stage's throttles bound it; a limit here would refuse what they have admitted.",
                "CKV_AWS_115",
            )
        accept(
            self.function,
            "One function, one or two calls: a trace would show little, and costs more than the message.",
            "Serverless-LambdaTracing",
        )
        shared.encrypted(self.function, "CKV_AWS_173")  # and it holds names, not secrets


def _runtime_management(stage: Stage) -> lambda_.RuntimeManagementMode | None:
    """Otherwise Lambda changes the runtime, its Python and OpenSSL, on a day of its own choice."""
    if stage.runtime_version_arn:
        return lambda_.RuntimeManagementMode.manual(stage.runtime_version_arn)
    return lambda_.RuntimeManagementMode.FUNCTION_UPDATE if stage.keep_data else None
