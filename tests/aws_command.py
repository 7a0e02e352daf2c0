"""The `aws` commands of the documentation, made into the calls that the AWS command line would make."""

import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator

_GLOBAL = {"region", "profile", "output", "query"}


class AwsCommand(NamedTuple):
    """A command as a call.

    Attributes:
        service: such as `dynamodb`.
        method: of a client of botocore.
        parameters: its keyword arguments.
    """

    service: str
    method: str
    parameters: dict[str, Any]

    def run(self, client: Any) -> Any:
        """Make the call with a client of the service."""
        return getattr(client, self.method)(**self.parameters)


def parse(command: str, *, names: Mapping[str, str] | None = None, stdin: str = "") -> AwsCommand:
    """Read a command as the AWS command line does, and check it against the service's model.

    Args:
        command: begins with `aws`.
        names: what placeholders such as `NAME` stand for.
        stdin: what the command reads.

    Raises:
        AssertionError: there is no such service, operation or option, or a parameter is wrong or missing.
    """
    program, service, operation, *words = shlex.split(command)
    assert program == "aws", command
    model = botocore.session.get_session().get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations, f"{service} has no {operation}: {command}"
    shape = model.operation_model(operations[operation]).input_shape
    assert shape is not None, command
    members = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()}
    parameters: dict[str, Any] = {}
    while words:
        option = words.pop(0)
        assert option.startswith("--"), f"{option!r} belongs to no option: {command}"
        values = []
        while words and not words[0].startswith("--"):
            values.append((names or {}).get(words[0], words[0]))
            words.pop(0)
        name = option.removeprefix("--")
        if name in _GLOBAL:
            continue
        if name.startswith("no-") and name.removeprefix("no-") in members:
            parameters[members[name.removeprefix("no-")][0]] = False
            continue
        assert name in members, f"{service} {operation} has no {option}: {command}"
        member, about = members[name]
        parameters[member] = _value(about, [stdin if v == "file:///dev/stdin" else v for v in values])
    report = ParamValidator().validate(parameters, shape)
    assert not report.has_errors(), f"{command}: {report.generate_report()}"
    return AwsCommand(service, xform_name(operations[operation]), parameters)


def _value(shape: Any, values: list[str]) -> Any:
    match shape.type_name:
        case "boolean":
            return True
        case "integer" | "long":
            return int(values[0])
        case "list":
            return [_value(shape.member, [value]) for value in values]
        case "structure":  # Key=name,Values=a
            fields = dict(part.split("=", 1) for part in values[0].split(","))
            return {name: _value(shape.members[name], [text]) for name, text in fields.items()}
    return values[0]
