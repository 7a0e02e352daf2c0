"""A template read as people do: resources by name, and each role's rights as names and actions."""

import json
import re
from typing import Any


class Resources:
    """The resources of one template.

    Args:
        document: the template as a dictionary.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.all: dict[str, dict[str, Any]] = document["Resources"]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a type, by logical id."""
        return {id_: resource for id_, resource in self.all.items() if resource["Type"] == kind}

    def function(self, name: str) -> dict[str, Any]:
        """The properties of the function whose name ends so."""
        functions = self.of_type("AWS::Lambda::Function").values()
        found = [
            f["Properties"] for f in functions if f["Properties"]["FunctionName"].endswith(f"websocket{name}")
        ]
        assert len(found) == 1, f"one function ...websocket{name}, not {len(found)}"
        properties: dict[str, Any] = found[0]
        return properties

    def environment(self, function: str) -> dict[str, str]:
        """The variables of a function."""
        variables = self.function(function)["Environment"]["Variables"]
        return {key: self.name(value) for key, value in variables.items()}

    def rights(self, function: str) -> dict[str, set[str]]:
        """What the role of a function may do: actions by the name of the resource.

        Everything is resolved, so that a right that goes unseen here cannot be: an unknown form fails.
        """
        role = self.function(function)["Role"]["Fn::GetAtt"][0]
        assert not self.all[role]["Properties"].get("ManagedPolicyArns")
        assert not self.all[role]["Properties"].get("Policies")
        policies = self.of_type("AWS::IAM::Policy").values()
        return self._allowed(*(p for p in policies if {"Ref": role} in p["Properties"]["Roles"]))

    def backend_rights(self) -> dict[str, set[str]]:
        """What the policy for backends allows, in the same form."""
        return self._allowed(*self.of_type("AWS::IAM::ManagedPolicy").values())

    def _allowed(self, *policies: dict[str, Any]) -> dict[str, set[str]]:
        rights: dict[str, set[str]] = {}
        for policy in policies:
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                assert set(statement) <= {"Action", "Effect", "Resource"}
                for resource in _list(statement["Resource"]):
                    rights.setdefault(self.name(resource), set()).update(_list(statement["Action"]))
        return rights

    def dashboard(self) -> dict[str, Any]:
        """The dashboard's body, with the names of resources in the place of references."""
        (board,) = self.of_type("AWS::CloudWatch::Dashboard").values()
        body: dict[str, Any] = json.loads(self.name(board["Properties"]["DashboardBody"]))
        return body

    def name(self, value: Any) -> str:
        """A resource as written in a template, by the name that people know it by."""
        return _anywhere(self._plain_name(value))

    def _plain_name(self, value: Any) -> str:
        match value:
            case str():
                return value
            case {"Fn::GetAtt": [id_, "Arn" | "QueueName" | "TopicName"]} | {"Ref": id_}:
                return self._name(id_)
            case {"Fn::Join": [separator, parts]}:
                return str(separator).join(self._plain_name(part) for part in parts)
        raise AssertionError(f"no name known for {value}")

    def _name(self, id_: str) -> str:
        if id_.startswith("AWS::"):
            return f"<{id_.removeprefix('AWS::').lower()}>"
        resource = self.all[id_]
        properties = resource.get("Properties", {})
        for key in ("TableName", "FunctionName", "QueueName"):
            if key in properties:  # an alias has the name of its function
                return self._plain_name(properties[key])
        # CloudFormation names it: known by its place in the tree of constructs.
        path = resource["Metadata"]["aws:cdk:path"].split("/")[1:-1]
        return "/".join(part for part in path if part != "Default")  # as CDK's own ids leave it out


def _anywhere(name: str) -> str:
    """A name without the account and region of a stage that has settled for one."""
    places = {r"\b(?<!\.)0{12}\b": "<accountid>", "us-east-1": "<region>", "arn:aws:": "arn:<partition>:"}
    for found, shown in places.items():
        name = re.sub(found, shown, name)
    return name


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
