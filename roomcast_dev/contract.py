"""The contract of an application: AsyncAPI 3 and TypeScript, derived from its declarations. Pure."""

import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml

from roomcast import schema
from roomcast.app import App
from roomcast.rooms import Kind

HEAD = "Written by `roomcast contract` from the application's declarations: change those, and run it again."

_PLAIN = {
    str: ({"type": "string"}, "string"),
    int: ({"type": "integer"}, "number"),
    float: ({"type": "number"}, "number"),
    bool: ({"type": "boolean"}, "boolean"),
    type(None): ({"type": "null"}, "null"),
    None: ({"type": "null"}, "null"),
    object: ({}, "unknown"),
    Any: ({}, "unknown"),
}


def asyncapi(app: App, title: str) -> str:
    """The contract as AsyncAPI 3, in YAML; every payload is a whole envelope."""
    named = _Named()
    receives: dict[str, Any] = {}
    sends: dict[str, Any] = {}
    for name, action in sorted(app.actions.items()):
        receives[f"ask {name}"] = _message(name, _action(name, named.object(action.parameters)))
        data = {action.reply: named.of(action.returns), action.error: _ERROR}
        sends |= {f"hear {event}": _message(event, _event(event, of)) for event, of in data.items()}
    for name, event in app.events.items():
        sends[f"hear {name}"] = _message(name, _event(name, named.of(event.data)))
        if event.publish:
            receives[f"publish {name}"] = _message(name, _published(name, named.of(event.data)))
    sends = dict(sorted(sends.items()))
    document = {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": "1.0.0", "description": HEAD},
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": "localhost:3001", "protocol": "ws"},
            "stage": {
                "host": "{api}.execute-api.{region}.amazonaws.com",
                "pathname": "/{stage}",
                "protocol": "wss",
                "variables": {"api": {}, "region": {}, "stage": {}},
            },
        },
        "channels": {
            "connection": {
                "address": "/",
                "description": "One WebSocket. " + _rooms(app.rooms.kinds),
                "messages": {
                    _key(name): {"$ref": f"#/components/messages/{_key(name)}"}
                    for name in (*receives, *sends)
                },
            }
        },
        "operations": {
            "ask": _operation("receive", "What clients ask.", receives),
            "tell": _operation("send", "What clients hear.", sends),
        },
        "components": {
            "messages": {_key(name): message for name, message in (receives | sends).items()},
            "schemas": named.schemas,
        },
    }
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return f"# {HEAD}\n{text}"


def typescript(app: App) -> str:
    """The contract as TypeScript: the type that `createClient<Contract>()` takes."""
    named = _Types()
    actions, events = {}, {}
    for name, action in sorted(app.actions.items()):
        fields = {
            key: (key, annotation, required) for key, (_, annotation, required) in action.parameters.items()
        }
        actions[name] = f"{{ data: {named.inline(fields)}; reply: {named.of(action.returns)} }}"
        events[action.reply] = named.of(action.returns)
        if action.error != "error":
            events[action.error] = "{ code: string; message: string; [key: string]: unknown }"
    for name, event in app.events.items():
        events[name] = named.of(event.data)
    publish = {name: named.of(event.data) for name, event in app.events.items() if event.publish}
    rooms = [_template(kind) for kind in app.rooms.kinds] + [
        json.dumps(alias) for alias in dict.fromkeys(kind.alias for kind in app.rooms.kinds if kind.alias)
    ]
    return "\n".join(
        [
            f"// {HEAD}",
            "",
            *named.declarations(),
            "export interface Contract {",
            "  /** The rooms that there are, and what a client may call its own. */",
            f"  rooms: {' | '.join(rooms)};",
            "  /** What each action takes, and what its reply holds. */",
            *_block("actions", actions),
            "  /** What each event of the server holds. */",
            *_block("events", dict(sorted(events.items()))),
            "  /** Of these, what clients may publish too. */",
            *_block("publish", publish),
            "}",
            "",
        ]
    )


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # it has no types
    """Writes the same part twice, and not as an alias."""

    def ignore_aliases(self, data: object) -> bool:
        """Nothing has an alias."""
        del data
        return True


_ERROR = {
    "type": "object",
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}


class _Named:
    """JSON Schemas; those of dataclasses and TypedDicts are kept by their names."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}
        self._known: dict[str, Any] = {}

    def of(self, annotation: Any) -> dict[str, Any]:
        """The schema of an annotation."""
        origin, inside = get_origin(annotation), get_args(annotation)
        if annotation in _PLAIN:
            return dict(_PLAIN[annotation][0])
        if origin is Annotated:
            return self.of(inside[0]) | _limits(inside[1:])
        if origin is Literal:
            return {"enum": list(inside)}
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(one) for one in inside]}
        if origin is list:
            return {"type": "array", "items": self.of(inside[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(inside[1])}
        if not schema.is_object(annotation):
            return {}  # what a function answers is not checked, and may be anything
        name = _once(self._known, annotation)
        if name not in self.schemas:
            self.schemas[name] = {}  # it may hold itself
            self.schemas[name] = self.object(schema.fields_of(annotation))
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, fields: Mapping[str, tuple[str, Any, bool]]) -> dict[str, Any]:
        """The schema of an object with these fields."""
        required = [key for key, (_, _, needed) in fields.items() if needed]
        properties = {key: self.of(annotation) for key, (_, annotation, _) in fields.items()}
        return {"type": "object", "properties": properties} | ({"required": required} if required else {})


class _Types:
    """TypeScript types; those of dataclasses and TypedDicts are declared by their names."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._known: dict[str, Any] = {}

    def of(self, annotation: Any) -> str:
        """The type of an annotation."""
        origin, inside = get_origin(annotation), get_args(annotation)
        if annotation in _PLAIN:
            return _PLAIN[annotation][1]
        if origin is Annotated:
            return self.of(inside[0])
        if origin is Literal:
            return " | ".join(json.dumps(one) for one in inside)
        if origin in (typing.Union, types.UnionType):
            return " | ".join(dict.fromkeys(self.of(one) for one in inside))
        if origin is list:
            return f"Array<{self.of(inside[0])}>"
        if origin is dict:
            return f"Record<string, {self.of(inside[1])}>"
        if not schema.is_object(annotation):
            return "unknown"
        name = _once(self._known, annotation)
        if name not in self._bodies:
            self._bodies[name] = ""  # it may hold itself
            self._bodies[name] = "\n".join(
                f"  {line};" for line in self._fields(schema.fields_of(annotation))
            )
        return name

    def inline(self, fields: Mapping[str, tuple[str, Any, bool]]) -> str:
        """An object type with these fields."""
        return f"{{ {'; '.join(self._fields(fields))} }}" if fields else "Record<string, never>"

    def declarations(self) -> Iterable[str]:
        """The types that have a name, as lines."""
        for name, body in self._bodies.items():
            yield from (f"export interface {name} {{", *body.splitlines(), "}", "")

    def _fields(self, fields: Mapping[str, tuple[str, Any, bool]]) -> list[str]:
        return [f"{key}{'' if needed else '?'}: {self.of(of)}" for key, (_, of, needed) in fields.items()]


def _once(known: dict[str, Any], annotation: Any) -> str:
    """A name for a class; two classes that are called alike get different ones."""
    name: str = annotation.__name__
    while known.setdefault(name, annotation) is not annotation:
        name += "_"
    return name


def _limits(rules: Iterable[object]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    found: dict[str, Any]
    for rule in rules:
        match rule:
            case schema.Text():
                found = {
                    "minLength": rule.least or None,
                    "maxLength": rule.most,
                    "pattern": f"^(?:{rule.pattern})$" if rule.pattern else None,
                }
            case schema.Number():
                found = {"minimum": rule.least, "maximum": rule.most}
            case _:
                continue
        limits |= {key: value for key, value in found.items() if value is not None}
    return limits


def _action(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    own = {"action": {"const": name}, "id": {"type": "string", "minLength": 1, "maxLength": 128}}
    return fields | {
        "properties": own | fields["properties"],
        "required": ["action", *fields.get("required", [])],
    }


def _published(name: str, data: dict[str, Any]) -> dict[str, Any]:
    fields = {"room": {"type": "string"}, "event": {"const": name}, "data": data}
    return _action("rooms:send", {"type": "object", "properties": fields, "required": list(fields)})


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "event": {"const": name},
        "data": data,
        "timestamp": {"type": "string", "format": "date-time"},
        "id": {"type": "string"},
        "room": {"type": "string"},
        "seq": {"type": "integer"},
        "epoch": {"type": "string"},
        "replyTo": {"type": "string"},
    }
    return {"type": "object", "properties": properties, "required": ["event", "data", "timestamp"]}


def _message(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "payload": payload}


def _operation(action: str, summary: str, messages: Iterable[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/connection"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/connection/messages/{_key(name)}"} for name in messages],
    }


def _rooms(kinds: Iterable[Kind]) -> str:
    return "Its rooms: " + ", ".join(f"{kind.pattern} ({kind.join})" for kind in kinds) + "."


def _key(name: str) -> str:
    return re.sub("[^A-Za-z0-9_-]", ".", name)


def _template(kind: Kind) -> str:
    return f"`{kind.prefix}${{string}}`" if kind.field else json.dumps(kind.prefix)


def _block(name: str, entries: Mapping[str, str]) -> list[str]:
    return [f"  {name}: {{", *(f"    {json.dumps(key)}: {value};" for key, value in entries.items()), "  };"]
