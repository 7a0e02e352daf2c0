"""What all constructs of a stage share: its settings, its key, its code, and what becomes of its data."""

from dataclasses import dataclass, field

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import IConstruct

from roomcast import App
from roomcast_cdk.findings import accept
from roomcast_cdk.stage import Stage

_AWS_KEY = (
    "Encrypted with an AWS key, which costs nothing; the setting customer_key uses one of the account's own."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One object that the constructs pass on, instead of a parameter for each part.

    Attributes:
        stage: the settings.
        key: encrypts what is stored; None where AWS's own keys do.
        code: what every function runs.
        application: the path of the application in that code, relative to where `cdk` runs.
        app: what it declares.
    """

    stage: Stage
    key: kms.IKey | None
    code: lambda_.Code
    application: str | None = None
    app: App = field(default_factory=App)

    @property
    def removal(self) -> cdk.RemovalPolicy:
        """What happens to data when its resource leaves the stack.

        A creation that fails takes its resources away again: nothing is in them yet, and what was left behind
        would be in the way of the next attempt, or be paid for by nobody's wish.
        """
        keeps = cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
        return keeps if self.stage.keep_data else cdk.RemovalPolicy.DESTROY

    @property
    def removal_of_tables(self) -> cdk.RemovalPolicy:
        """The same for tables and their key, which a failed creation leaves behind.

        Deletion protection would make the rollback itself fail. The next deployment adopts the tables by
        their names (`--import-existing-resources`).
        """
        return cdk.RemovalPolicy.RETAIN if self.stage.keep_data else cdk.RemovalPolicy.DESTROY

    def encrypted(self, construct: IConstruct, rule: str) -> None:
        """Record why the absence of a customer key is right for this construct, where there is none.

        Args:
            construct: holds data. It must have been given `key`.
            rule: checkov's name for "is encrypted with a customer key" on this type.
        """
        if self.key is None:
            accept(construct, _AWS_KEY, rule)
