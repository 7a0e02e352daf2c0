"""The secret that tokens are signed with: made here, or one that is there already."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.shared import Shared


class JwtSecret(Construct):
    """A secret in Secrets Manager that holds the key as a plain string.

    Attributes:
        name: its name, or its ARN where CloudFormation makes it: what `GetSecretValue` takes.
        arn: for a policy.
    """

    def __init__(self, scope: Construct, id_: str, *, shared: Shared) -> None:
        super().__init__(scope, id_)
        stage = shared.stage
        self._key_arn = stage.jwt_secret_key_arn
        if stage.jwt_secret_name:
            self.name = stage.jwt_secret_name
            # Secrets Manager ends an ARN with six random characters, which the name does not have.
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
                # Twice the 32 bytes that HS256 needs, and nothing that an .env file would have to escape. Any
                # later change of these properties would draw a new secret in the place of the one in use.
                generate_secret_string=secretsmanager.SecretStringGenerator(
                    password_length=64, exclude_punctuation=True
                ),
                encryption_key=shared.key,
                removal_policy=shared.removal,
            )
            accept(
                secret,
                "The backends that sign change keys at the same time, so people rotate it; connects go on "
                "meanwhile, since the previous key is taken as well.",
                "AwsSolutions-SMG4",
            )
            shared.encrypted(secret, "CKV_AWS_149")
            self.name = self.arn = secret.secret_arn

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Allow to read the key; not to describe the secret, which CDK's own grant would add."""
        iam.Grant.add_to_principal(
            grantee=grantee, actions=["secretsmanager:GetSecretValue"], resource_arns=[self.arn]
        )
        if self._key_arn:
            stack = cdk.Stack.of(self)
            iam.Grant.add_to_principal(
                grantee=grantee,
                actions=["kms:Decrypt"],
                resource_arns=[self._key_arn],
                conditions={
                    "StringEquals": {"kms:ViaService": f"secretsmanager.{stack.region}.{stack.url_suffix}"}
                },
            )
