"""MiniStack as the cloud that a stage is deployed into: `python -m tests.e2e.ministack_cloud`.

The port is in `GATEWAY_PORT`. MiniStack's CloudFormation does not know some types, and refuses the whole
template for one; here it is taught. Route responses are made as it has them elsewhere; it posts a function's
answer to the client with or without one, so what a route response does is not shown by a deployment here. An
alarm on metric math is made on the first of its metrics. What MiniStack does not have at all is only named,
so that others can refer to it: CodeDeploy (an alias is moved at once), saved queries and budgets.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.app import main
from ministack.services import apigateway
from ministack.services.cloudformation import provisioners

NAMED_ONLY = (
    "AWS::Budgets::Budget",
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::Logs::QueryDefinition",
)


def _create(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    api_id, route_id = properties["ApiId"], properties["RouteId"].rpartition("/")[2]
    body = {"routeResponseKey": properties["RouteResponseKey"]}
    status, _, answer = apigateway._create_route_response(api_id, route_id, body)
    if status >= 400:
        raise ValueError(f"no route response: {answer!r}")
    id_ = json.loads(answer)["routeResponseId"]
    return f"{api_id}/{route_id}/{id_}", {"RouteResponseId": id_}


def _delete(physical_id: str, properties: dict[str, Any]) -> None:
    apigateway._delete_route_response(*physical_id.split("/"))


def _on_first_metric(put: Callable[..., Any]) -> Callable[..., Any]:
    """What makes or changes an alarm, made to take an alarm on metric math too."""

    def put_any(logical_id: str, properties: dict[str, Any], *rest: Any) -> Any:
        measured = [query["MetricStat"] for query in properties.get("Metrics", []) if "MetricStat" in query]
        if measured:
            metric, about = measured[0]["Metric"], measured[0]
            properties = {key: value for key, value in properties.items() if key != "Metrics"} | metric
            properties |= {"Period": about["Period"], "Statistic": about["Stat"]}
        return put(logical_id, properties, *rest)

    return put_any


def _name(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    return f"{stack_name}-{logical_id}", {}


def _forget(physical_id: str, properties: dict[str, Any]) -> None:
    """There is nothing to delete."""


provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::RouteResponse"] = {"create": _create, "delete": _delete}
for _kind in NAMED_ONLY:
    provisioners._RESOURCE_HANDLERS[_kind] = {"create": _name, "delete": _forget}

_alarms = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]
_alarms["create"] = _on_first_metric(_alarms["create"])

if __name__ == "__main__":
    main()
