"""One Lambda function of the stage, with a role and a log group of its own."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.accepted import AWS_KEY, accept
from stacks.log_group import log_group
from stacks.stage import Stage


class Function(Construct):
    """A function whose role may write its own logs, and nothing more until somebody grants it.

    Args:
        scope: where it stands.
        id_: its construct id. Never `Default`, which CDK leaves out of the logical ids.
        name: the end of its name; `Connect` is `...-websocketConnect` with the handler `connect.handler`.
        stage: names, memory, retention.
        code: the shared code.
        key: encrypts its environment and its logs, where the stage has one.
        description: one sentence for the console.
        environment: what `roomcast.settings` reads.
        timeout: seconds.
        memory_mb: where it needs another than the stage's.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        stage: Stage,
        code: lambda_.Code,
        key: kms.IKey | None,
        description: str,
        environment: Mapping[str, str],
        timeout: int,
        memory_mb: int | None = None,
    ) -> None:
        super().__init__(scope, id_)
        self.name = name
        self.memory_mb = memory_mb or stage.memory_mb
        self.logs = log_group(self, "Logs", stage=stage, key=key)
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
            code=code,
            handler=f"{name.lower()}.handler",
            memory_size=self.memory_mb,
            timeout=cdk.Duration.seconds(timeout),
            environment=dict(environment) | watched,
            environment_encryption=key,
            role=self.role,
            log_group=self.logs,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            # Without START, END and REPORT of every invocation: 1 KB of logs costs half as much as a message.
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
        )
        accept(
            self.function,
            "Python 3.13 is what the tests of this project ran with; AWS supports it until 2029.",
            "AwsSolutions-L1",
            "Serverless-LambdaLatestVersion",
        )
        accept(
            self.function,
            "API Gateway and SQS keep or answer for what fails; a count that fails is followed by another.",
            "Serverless-LambdaDLQ",
            "CKV_AWS_116",
        )
        accept(self.function, "It calls nothing but AWS's own endpoints.", "CKV_AWS_117")
        accept(
            self.function,
            "The stage's throttles bound it; a limit here would refuse what they have let in.",
            "CKV_AWS_115",
        )
        accept(
            self.function,
            "One function, one or two calls: a trace would tell little, and costs more than the message.",
            "Serverless-LambdaTracing",
        )
        if key is None:
            accept(self.function, f"Holds names, no secret. {AWS_KEY}", "CKV_AWS_173")
