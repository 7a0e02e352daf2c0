"""What an account needs once for each region, whatever its stages: API Gateway's log role, a budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_iam as iam
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.rules import Rule, text, whole
from roomcast_cdk.setting import StageError

STACK_NAME = "roomcast-account"
_POLICY = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"

_RULES: Mapping[str, Rule] = {
    "monthly_budget_dollars": whole(1, 10_000_000),
    "budget_email": text(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The settings under `context.account` of `cdk.json`.

    Attributes:
        monthly_budget_dollars: an e-mail is sent at 80 % of it, and when the forecast exceeds it. A budget
            counts the whole account: set it for one region only.
        budget_email: to whom.
    """

    monthly_budget_dollars: int | None = None
    budget_email: str | None = None

    @classmethod
    def from_context(cls, settings: object) -> "Account":
        """Check the settings.

        Raises:
            StageError: one is unknown or wrong, or one of the two is missing.
        """
        at = "account"
        if settings is None:
            return cls()
        if not isinstance(settings, Mapping):
            raise StageError(at, f"must be an object of settings, not {settings!r}")
        values: dict[str, Any] = dict(settings)
        for key, value in values.items():
            if key not in _RULES:
                raise StageError(f"{at}.{key}", f"is not a setting; there are {', '.join(_RULES)}")
            if not _RULES[key].holds(value):
                raise StageError(f"{at}.{key}", f"must be {_RULES[key].must_be}, not {value!r}")
        for key in _RULES:
            if values and key not in values:
                raise StageError(f"{at}.{key}", "must be set: a budget needs both")
        return cls(**values)


class AccountStack(cdk.Stack):
    """One account in one region. Deploy it before the first stage with `gateway_logs`."""

    def __init__(self, scope: Construct, id_: str, *, account: Account) -> None:
        super().__init__(scope, id_, description="What all Roomcast stages of an account and region share")
        role = iam.Role(
            self,
            "CloudWatchRole",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            description="API Gateway writes the logs of this account and region as this",
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(_POLICY)],
        )
        setting = apigateway.CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        # It takes some seconds until API Gateway can assume a new role; the policy comes with the role.
        setting.node.add_dependency(role)
        accept(
            role,
            "The policy that API Gateway's documentation asks for; the account's setting is tested with it.",
            f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{_POLICY}]",
        )
        # There is one such setting for all APIs of the region, so both outlive this stack.
        role.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        setting.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        if account.monthly_budget_dollars is not None and account.budget_email is not None:
            self._budget(account.monthly_budget_dollars, account.budget_email)

    def _budget(self, dollars: int, email: str) -> None:
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=dollars, unit="USD"),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[
                        budgets.CfnBudget.SubscriberProperty(address=email, subscription_type="EMAIL")
                    ],
                )
                for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
