"""What is stored is encrypted: with AWS's keys, or with one key of the account's own where the stage asks."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.stage import Stage

_SERVICES = ("dynamodb", "lambda", "secretsmanager", "sns", "sqs")
"""What stores or reads with the key on behalf of whoever calls it."""


def customer_key(scope: Construct, id_: str, *, stage: Stage, removal: cdk.RemovalPolicy) -> kms.IKey | None:
    """The stage's own key, made here or named by `customer_key_arn`, or None where it uses AWS's.

    As with the keys that AWS manages, whoever may read a table may read it with this key: it can be used only
    through the services that store with it, and only from this account. Roles and backends need no right on
    it. A key that exists already must have such a policy: see `docs/deploying.md`.
    """
    if not stage.customer_key:
        return None
    if stage.customer_key_arn:
        return kms.Key.from_key_arn(scope, id_, stage.customer_key_arn)
    key = kms.Key(
        scope,
        id_,
        alias=f"alias/{stage.stack_name}",
        description=f"Encrypts what the realtime backend stores, stage {stage.name}",
        enable_key_rotation=True,
        removal_policy=removal,
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
                    # In China some services name themselves with .cn and some without.
                    "kms:ViaService": [
                        f"{service}.{stack.region}.{suffix}"
                        for service in _SERVICES
                        for suffix in dict.fromkeys(("amazonaws.com", stack.url_suffix))
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
