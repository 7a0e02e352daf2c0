"""MiniStack as the cloud that a stage is deployed into: `python -m tests.e2e.ministack_cloud`.

The port is in `GATEWAY_PORT`. MiniStack has route responses, but its CloudFormation does not know their type
and refuses the whole template for it; here it is taught. It posts a function's answer to the client with or
without one, so what a route response does is not shown by a deployment here.
"""

import json
from typing import Any

from ministack.app import main
from ministack.services import apigateway
from ministack.services.cloudformation import provisioners


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


provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::RouteResponse"] = {"create": _create, "delete": _delete}

if __name__ == "__main__":
    main()
