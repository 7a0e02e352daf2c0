"""The secret that tokens are signed with: made here, or one that is there already."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from stacks.accepted import AWS_KEY, accept
from stacks.stage import Stage


class JwtSecret(Construct):
    """A secret in Secrets Manager that holds the key as a plain string.

    Attributes:
        name: its name, or its ARN where CloudFormation makes it: what `GetSecretValue` takes.
        arn: for a policy.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, key: kms.IKey | None) -> None:
        super().__init__(scope, id_)
        if stage.jwt_secret_name:
            self.name = stage.jwt_secret_name
            # Secrets Manager ends an ARN with six characters of its own, which the name does not tell.
            self.arn = cdk.Stack.of(self).format_arn(
                service="secretsmanager",
                resource="secret",
                resource_name=f"{stage.jwt_secret_name}-??????",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
        else:
            secret = secretsmanager.Secret(
                self,
                "Secret",
                description=f"Signs the tokens of the realtime backend, stage {stage.name}",
                # Twice the 32 bytes that HS256 needs, and nothing that an .env file would have to escape.
                generate_secret_string=secretsmanager.SecretStringGenerator(
                    password_length=64, exclude_punctuation=True
                ),
                encryption_key=key,
                removal_policy=cdk.RemovalPolicy.RETAIN if stage.keep_data else cdk.RemovalPolicy.DESTROY,
            )
            accept(
                secret,
                "The backends that sign change keys at the same time, so people rotate it; connects go on "
                "meanwhile, since the previous key is taken as well.",
                "AwsSolutions-SMG4",
            )
            if key is None:
                accept(secret, AWS_KEY, "CKV_AWS_149")
            self.name = self.arn = secret.secret_arn

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Allow to read the key; not to describe the secret, which CDK's own grant would add."""
        iam.Grant.add_to_principal(
            grantee=grantee, actions=["secretsmanager:GetSecretValue"], resource_arns=[self.arn]
        )
