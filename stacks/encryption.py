"""What is stored is encrypted: with AWS's keys, or with one key of the account's own where the stage asks."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.accepted import accept
from stacks.stage import Stage

_SERVICES = ("dynamodb", "lambda", "secretsmanager", "sns", "sqs")
"""What stores or reads with the key on behalf of whoever calls it."""


def customer_key(scope: Construct, id_: str, *, stage: Stage) -> kms.Key | None:
    """The stage's own key, or None where it uses AWS's.

    As with the keys that AWS manages, whoever may read a table may read it with this key: it can be used
    through the services that store with it, from this account alone. Roles and backends need no right on it.
    """
    if not stage.customer_key:
        return None
    key = kms.Key(
        scope,
        id_,
        alias=f"alias/{stage.stack_name}",
        description=f"Encrypts what the realtime backend stores, stage {stage.name}",
        enable_key_rotation=True,
        removal_policy=cdk.RemovalPolicy.RETAIN if stage.keep_data else cdk.RemovalPolicy.DESTROY,
    )
    stack = cdk.Stack.of(scope)
    use = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:DescribeKey"]
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="ThroughServicesOfThisAccount",
            principals=[iam.AnyPrincipal()],
            actions=[*use, "kms:CreateGrant"],
            resources=["*"],
            conditions={
                "StringEquals": {
                    "kms:CallerAccount": stack.account,
                    "kms:ViaService": [
                        f"{service}.{stack.region}.{stack.url_suffix}" for service in _SERVICES
                    ],
                }
            },
        )
    )
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="LogsOfThisAccount",
            principals=[iam.ServicePrincipal(f"logs.{stack.region}.{stack.url_suffix}")],
            actions=use,
            resources=["*"],
            conditions={
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": stack.format_arn(
                        service="logs",
                        resource="log-group",
                        resource_name="*",
                        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                    )
                }
            },
        )
    )
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AlarmsOfThisAccount",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["kms:Decrypt", "kms:GenerateDataKey*"],
            resources=["*"],
            conditions={"StringEquals": {"aws:SourceAccount": stack.account}},
        )
    )
    accept(
        key, "As AWS's own keys: every statement with * asks for this account and a service.", "CKV_AWS_33"
    )
    return key
