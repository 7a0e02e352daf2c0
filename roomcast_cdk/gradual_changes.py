"""Gradual changes: CodeDeploy shifts calls to a function's new version, and back if a function raises."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.function import Function
from roomcast_cdk.monitoring.metrics import total

_POLICY = "service-role/AWSCodeDeployRoleForLambdaLimited"


class GradualChanges(Construct):
    """One deployment group for each function; all of them watch one alarm.

    The alarm is separate from FunctionErrors, which takes ten minutes to be sure: here one error within the
    five minutes is enough, since going back costs nothing.

    Args:
        scope: the construct's parent.
        id_: its construct id.
        functions: those with an alias.
    """

    def __init__(self, scope: Construct, id_: str, *, functions: Sequence[Function]) -> None:
        super().__init__(scope, id_)
        minute = cdk.Duration.minutes(1)
        errors = [each.function.metric_errors(period=minute, statistic="Sum") for each in functions]
        alarm = cloudwatch.Alarm(
            self,
            "NewVersionRaised",
            metric=total(errors, "errors of all functions"),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=2,
            datapoints_to_alarm=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="CodeDeploy takes the functions back to their old version. It notifies nobody: "
            "the deployment reports it.",
        )
        application = codedeploy.LambdaApplication(self, "Application")
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("codedeploy.amazonaws.com"),
            description="CodeDeploy shifts calls between versions of the functions as this",
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(_POLICY)],
        )
        accept(
            role,
            "CodeDeploy's own policy for exactly this.",
            f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{_POLICY}]",
        )
        for function in functions:
            assert function.alias is not None, f"{function.name} has no alias to shift"  # noqa: S101
            codedeploy.LambdaDeploymentGroup(
                self,
                function.node.id,
                application=application,
                alias=function.alias,
                role=role,
                deployment_config=codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
                alarms=[alarm],
                auto_rollback=codedeploy.AutoRollbackConfig(
                    deployment_in_alarm=True, failed_deployment=True, stopped_deployment=True
                ),
            )
