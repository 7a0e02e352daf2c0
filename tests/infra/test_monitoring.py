"""What a stage is watched with: every metric exists, every alarm says what to do."""

import json
from collections import Counter
from typing import Any

import pytest
from aws_cdk.assertions import Template

from lambdas import connect, count, default, disconnect
from roomcast import metrics
from roomcast.errors import AwsError, KeysUnavailableError
from roomcast.functions.cold_start import wiring
from roomcast.store.event_numbers import EventNumbers
from roomcast_dev.prices import prices
from tests.builders import chat, connect_event, disconnect_event, message_event, token
from tests.infra import picture
from tests.infra.conftest import ROOT
from tests.infra.resources import Resources
from tests.infra.test_least_privilege import Backend, run_job
from tests.infra.test_least_privilege import backend as backend

PUBLISHED = {
    "AWS/ApiGateway": {
        *("ConnectCount", "MessageCount", "ClientError", "IntegrationError", "ExecutionError"),
        "IntegrationLatency",
    },
    "AWS/DynamoDB": {
        *("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"),
        *("ReadThrottleEvents", "WriteThrottleEvents", "TimeToLiveDeletedItemCount"),
    },
    "AWS/Lambda": {"ClaimedAccountConcurrency", "Duration", "Errors", "Invocations", "Throttles"},
    "AWS/SQS": {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
}
"""What AWS publishes, by its documentation of each service (those that are used here)."""


def named_by_widgets(resources: Resources) -> set[tuple[str, str]]:
    """Namespace and name of each metric in the dashboard, with the shorthand `...` and `.` resolved."""
    found = set()
    for widget in resources.dashboard()["widgets"]:
        before: list[Any] = []
        for line in widget["properties"].get("metrics", []):
            if isinstance(line[0], dict):  # an expression
                continue
            full = [before[i] if part == "." else part for i, part in enumerate(line)]
            if line[0] == "...":
                full = before
            found.add((full[0], full[1]))
            before = full
    return found


def named_by_alarms(resources: Resources) -> set[tuple[str, str]]:
    found = set()
    for alarm in resources.of_type("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        if "MetricName" in properties:
            found.add((properties["Namespace"], properties["MetricName"]))
        for query in properties.get("Metrics", []):
            if "MetricStat" in query:
                metric = query["MetricStat"]["Metric"]
                found.add((metric["Namespace"], metric["MetricName"]))
    return found


def test_every_metric_is_one_that_the_functions_write_or_aws_publishes(
    resources: dict[str, Resources],
) -> None:
    named = named_by_widgets(resources["prod"]) | named_by_alarms(resources["prod"])
    assert len(named) > 20
    known = {(metrics.NAMESPACE, name) for name in metrics.UNITS}
    known |= {(namespace, name) for namespace, names in PUBLISHED.items() for name in names}
    assert named - known == set()


def test_every_metric_that_the_functions_write_is_looked_at(resources: dict[str, Resources]) -> None:
    looked_at = {
        name for namespace, name in named_by_widgets(resources["prod"]) if namespace == metrics.NAMESPACE
    }
    assert looked_at == set(metrics.UNITS)


@pytest.mark.parametrize("stage", ["prod", "own-key", "strict"])
def test_metrics_are_asked_for_under_the_dimension_they_are_written_with(
    resources: dict[str, Resources], stage: str
) -> None:
    (written,) = {resources[stage].environment(name)["WEBSOCKET_METRICS"] for name in ("Connect", "Fanout")}
    body = json.dumps(resources[stage].dashboard())
    assert f'"{metrics.NAMESPACE}", "Connected", "Stack", "{written}"' in body


def test_every_alarm_says_what_to_do_and_tells_the_topic(resources: dict[str, Resources]) -> None:
    prod = resources["prod"]
    (topic,) = prod.of_type("AWS::SNS::Topic")
    every = {id_: alarm["Properties"] for id_, alarm in prod.of_type("AWS::CloudWatch::Alarm").items()}
    # CodeDeploy asks one alarm by itself, and it notifies nobody.
    alarms = {id_: alarm for id_, alarm in every.items() if not id_.startswith("GradualChanges")}
    assert (len(alarms), len(every)) == (11, 12)
    for alarm in alarms.values():
        assert "What to do: " in alarm["AlarmDescription"]
        assert "docs/operations.md#" in alarm["AlarmDescription"]
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]


def test_the_queries_look_for_lines_that_the_code_writes(resources: dict[str, Resources]) -> None:
    code = "".join(path.read_text() for top in ("roomcast", "lambdas") for path in (ROOT / top).rglob("*.py"))
    queries = resources["prod"].of_type("AWS::Logs::QueryDefinition").values()
    assert len(queries) == 3
    text = "\n".join(query["Properties"]["QueryString"] for query in queries)
    for part in ("refused connectionId=", "status=", "reason=", "userId=", "id="):
        assert part in text
        assert f"{part}%" in code
    for query in queries:
        assert len(query["Properties"]["LogGroupNames"]) == 5


def test_an_email_address_is_told_where_the_stage_names_one(templates: dict[str, Template]) -> None:
    templates["prod"].resource_count_is("AWS::SNS::Subscription", 0)
    subscription = {"Protocol": "email", "Endpoint": "ops@example.com"}
    templates["strict"].has_resource_properties("AWS::SNS::Subscription", subscription)


@pytest.mark.parametrize("stage", ["dev", "local"])
def test_a_stage_that_is_not_watched_pays_for_nothing(resources: dict[str, Resources], stage: str) -> None:
    for kind in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::SNS::Topic"):
        assert resources[stage].of_type(kind) == {}
    for name in ("Connect", "Disconnect", "Default", "Fanout"):
        assert "WEBSOCKET_METRICS" not in resources[stage].environment(name)


def test_the_money_is_of_the_price_list(resources: dict[str, Resources]) -> None:
    table = json.loads((ROOT / "roomcast_dev" / "prices.json").read_text())
    prices = table["regions"]["us-east-1"]
    (widget,) = [
        w for w in resources["prod"].dashboard()["widgets"] if "US$" in w["properties"].get("title", "")
    ]
    (expression,) = [
        line[0]["expression"] for line in widget["properties"]["metrics"] if "expression" in line[0]
    ]
    messages = prices["messages"]["tiers"][0][1] / prices["messages"]["per"]
    assert expression.startswith(f"{messages:.18f} * FILL(m0, 0) + ")
    assert len(expression.split(" + ")) == 1 + 5 + 5 + 4 + 4  # messages, calls, time, reads, writes


def test_what_watching_costs_is_counted_in_the_template(resources: dict[str, Resources]) -> None:
    """aws.md 16 and 32: CloudWatch bills the metrics in alarms, and a count reads the whole table."""
    prod = resources["prod"]
    in_alarms = sum(
        sum("MetricStat" in query for query in alarm["Properties"]["Metrics"])
        if "Metrics" in alarm["Properties"]
        else 1
        for alarm in prod.of_type("AWS::CloudWatch::Alarm").values()
    )
    boards = len(prod.of_type("AWS::CloudWatch::Dashboard"))
    dollars = 0.30 * len(metrics.UNITS) + 3 * boards + 0.10 * in_alarms
    page = " ".join((ROOT / "docs" / "costs.md").read_text().split())
    told = (
        f"{len(metrics.UNITS)} metrics at $0.30, a dashboard at $3 and {in_alarms} metrics in alarms "
        f"at $0.10, together ${dollars:.2f} a month"
    )
    assert told in page
    reads = prices().of("us-east-1")["reads"]
    for connections, shown in ((100_000, "$2 a month at 100,000"), (1_000_000, "$23 at a million")):
        units = connections * 0.5 / 8  # half a kilobyte each; eventually consistent
        assert shown.startswith(f"${reads.of(units * 96 * 730 / 24):.0f} ")
        assert shown in page


class NoKeys:
    """Keys that cannot be read."""

    def known(self) -> tuple[str, ...]:
        raise KeysUnavailableError("none")

    reread = known


def _refuse(*_: object) -> int:
    raise AwsError("not now")


def test_every_metric_is_written_when_it_happens(
    backend: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.tell(
        WEBSOCKET_MAX_CONNECTIONS_PER_USER="1",
        WEBSOCKET_OVER_MAX_CONNECTIONS="refuse_new",
        WEBSOCKET_SERVER_EVENTS="roomcast.landinghub.prod:disconnected@audit",
    )
    for id_, query, headers in (
        ("c1=", {"token": token("u1")}, {}),
        ("c2=", {"token": token("u1")}, {}),
        ("c3=", {}, {}),
        ("c4=", {"token": token("u2")}, {"Origin": "https://elsewhere.example"}),
    ):
        connect.handler(connect_event(id_, headers, **query), None)
    with monkeypatch.context() as outage:
        outage.setattr(wiring(), "keys", NoKeys())
        connect.handler(connect_event("c5=", {}, token=token("u3")), None)
        default.handler(message_event(action="auth:refresh", token=token("u1")), None)
    since = {"epoch": "of another life", "seq": 1}
    default.handler(message_event("c1=", action="rooms:join", rooms=[{"room": "user", "since": since}]), None)
    backend.store.members.grant(chat("r1"), "u1")
    default.handler(message_event("c1=", action="chat:join_room", roomId="r1"), None)
    for action, data in (("rooms:send", 1), ("rooms:send", "x" * 32_000), ("rooms:signal", 1)):
        published = message_event("c1=", action=action, room="chat_room_r1", event="e", data=data)
        default.handler(published, None)
    run_job(json.dumps({"version": 1, "to": {"all": True}, "event": "e", "data": {}}))
    count.handler({}, None)
    with monkeypatch.context() as outage:
        outage.setattr(EventNumbers, "take", _refuse)
        disconnect.handler(disconnect_event("c1="), None)

    written: Counter[str] = Counter()
    for line in capsys.readouterr().out.splitlines():
        values = json.loads(line)
        assert values.pop("_aws")["CloudWatchMetrics"][0]["Namespace"] == metrics.NAMESPACE
        assert values.pop("Stack") == "landinghub-websocket-prod"
        assert 0 <= values.pop("PublishToPost", 0) < 60_000
        written.update(values)
    assert written == Counter(
        {"ColdStarts": 1, "Connected": 1, "Disconnected": 1, "Sent": 2, "OpenConnections": 1}
        | {"RefusedCredentials": 1, "RefusedLimit": 1, "RefusedOrigin": 1, "KeysUnavailable": 2}
        | {"Gone": 0, "Failed": 0, "Unknown": 0}
        | {"Published": 1, "Signals": 1, "RefusedPublish": 1}
        | {"EventsLost": 1}
        | {"Appends": 1, "Conflicts": 0, "Gaps": 1, "Recovered": 0, "ReplayBytes": 0}
    )
    assert written.keys() | {"PublishToPost"} == set(metrics.UNITS)


def test_connections_are_counted_every_quarter_of_an_hour(resources: dict[str, Resources]) -> None:
    prod = resources["prod"]
    (rule,) = prod.of_type("AWS::Events::Rule").values()
    assert rule["Properties"]["ScheduleExpression"] == "rate(15 minutes)"
    (target,) = rule["Properties"]["Targets"]
    assert prod.name(target["Arn"]) == "landinghub-backend-prod-websocketCount"


def test_the_picture_in_the_docs_is_of_this_dashboard(resources: dict[str, Resources]) -> None:
    drawn = picture.draw(resources["prod"].dashboard())
    assert picture.PICTURE.read_text() == drawn, "`python -m tests.infra.picture` draws it anew"


def test_every_alarm_has_its_page(resources: dict[str, Resources]) -> None:
    headings = {
        line.removeprefix("### ").lower()
        for line in (ROOT / "docs" / "operations.md").read_text().splitlines()
        if line.startswith("### ")
    }
    alarms = resources["prod"].of_type("AWS::CloudWatch::Alarm")
    pages = {
        alarm["Properties"]["AlarmDescription"].rpartition("#")[2]
        for id_, alarm in alarms.items()
        if not id_.startswith("GradualChanges")
    }
    assert pages <= headings
