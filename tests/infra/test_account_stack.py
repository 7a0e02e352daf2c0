"""What an account and region has once (aws.md 18): API Gateway's role for logs, and a budget."""

from typing import Any

import pytest
from aws_cdk.assertions import Template

from roomcast_cdk.account_stack import Account
from roomcast_cdk.setting import StageError
from tests.infra.resources import Resources


def test_api_gateway_is_given_a_role_for_logs_that_outlives_the_stack(
    resources: dict[str, Resources],
) -> None:
    account = resources["account"]
    ((_, setting),) = account.of_type("AWS::ApiGateway::Account").items()
    role_id = setting["Properties"]["CloudWatchRoleArn"]["Fn::GetAtt"][0]
    assert role_id in setting["DependsOn"]
    for resource in (setting, account.all[role_id]):
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
    for name, stage in resources.items():
        assert (name == "account") == bool(stage.of_type("AWS::ApiGateway::Account"))


def test_a_budget_tells_before_the_money_is_spent(templates: dict[str, Template]) -> None:
    templates["account"].has_resource_properties(
        "AWS::Budgets::Budget",
        {
            "Budget": {
                "BudgetType": "COST",
                "TimeUnit": "MONTHLY",
                "BudgetLimit": {"Amount": 100, "Unit": "USD"},
            }
        },
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (3, "account: must be an object of settings, not 3"),
        ({"budget": 3}, "account.budget: is not a setting; there are monthly_budget_dollars, budget_email"),
        (
            {"budget_email": "ops@example.com"},
            "account.monthly_budget_dollars: must be set: a budget needs both",
        ),
        ({"monthly_budget_dollars": 0}, "account.monthly_budget_dollars: must be a whole number from 1 to"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(settings: Any, message: str) -> None:
    with pytest.raises(StageError) as caught:
        Account.from_context(settings)
    assert str(caught.value).startswith(message)


def test_an_account_needs_no_budget() -> None:
    assert Account.from_context(None) == Account()
