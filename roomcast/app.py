"""`App`: what an application declares, and how its file is found.

The engine knows rooms, actions and events by these declarations only. The file runs where a stage is
synthesized and in the functions that need its code: it must not read the environment or make a client when it
is imported.
"""

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args, get_type_hints

from roomcast import schema
from roomcast.errors import ActionError, ApplicationError, InvalidDataError
from roomcast.names import HookEvent
from roomcast.rooms import Join, Kind, Presence, Publish, Retention, Room, Rooms

if TYPE_CHECKING:
    from pathlib import Path

NAME = "app"
"""What an application's file calls its `App`."""
ENGINES_OWN = ("auth:", "client:", "presence:", "rooms:")
"""What the engine's own actions and events begin with; `ping`, `pong` and `error` are its own too."""

_MAX_NAME = 128
_STARRED = 0x04 | 0x08  # of a code object: it has `*args` or `**kwargs`
_NAME = re.compile(r"[a-z][A-Za-z0-9_-]*(:[a-z][A-Za-z0-9_-]*)+")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Reply(NamedTuple):
    """What an action answers, where it is not always the same event.

    Attributes:
        event: its name.
        data: its data.
    """

    event: str
    data: object


class Declared:
    """An action of an application.

    Attributes:
        name: what clients ask.
        function: what does it: takes a `Context` and the fields of the message.
        reply: the event that answers.
        error: the event that refuses.
    """

    def __init__(self, name: str, function: Callable[..., Any], reply: str, error: str) -> None:
        self.name = name
        self.function = function
        self.reply = reply
        self.error = error

    @functools.cached_property  # every action asks for it
    def parameters(self) -> Mapping[str, tuple[str, Any, bool]]:
        """The fields of its message, as `schema.fields_of` has them."""
        _, *names = _parameters(self.function).items()
        hints = _hints(self.function)
        return {schema.on_wire(name): (name, hints.get(name, object), required) for name, required in names}

    @property
    def returns(self) -> Any:
        """The annotation of its reply's data."""
        return _hints(self.function).get("return", object)

    def arguments(self, message: Mapping[str, object]) -> dict[str, Any]:
        """The function's arguments from the fields of a message. A field that it does not have is ignored.

        Raises:
            ActionError: `invalid_field`, or what the annotation says.
        """
        arguments = {}
        for key, (name, annotation, required) in self.parameters.items():
            if key not in message and not required:
                continue
            try:
                arguments[name] = schema.check(annotation, message.get(key, schema.MISSING), key)
            except schema.MismatchError as error:
                if error.refusal:
                    raise ActionError(error.refusal.code, error.refusal.message) from None
                raise ActionError("invalid_field", str(error), field=error.at) from None
        return arguments


class Event(NamedTuple):
    """An event of an application.

    Attributes:
        name: its name.
        data: the annotation of its data.
        publish: whether clients may publish it; else only the application and backends send it.
    """

    name: str
    data: Any
    publish: bool = False


class Hook(NamedTuple):
    """What an application does when something has happened.

    Attributes:
        event: when.
        function: what; see `App.on` for what it takes.
        pattern: in which rooms; None: in all of them.
    """

    event: HookEvent
    function: Callable[..., Any]
    pattern: str | None = None

    @property
    def name(self) -> str:
        """The function's name, for the log."""
        return getattr(self.function, "__qualname__", repr(self.function))


class App:
    """An application: its rooms, actions, events and hooks. Nothing here talks to AWS.

    Args:
        reserved: what the events begin with that clients may not publish, in addition to the replies of
            actions and to declared events.
    """

    def __init__(self, *, reserved: tuple[str, ...] = ()) -> None:
        self._reserved = reserved
        self._rooms = Rooms()
        self._actions: dict[str, Declared] = {}
        self._events: dict[str, Event] = {}
        self._hooks: list[Hook] = []

    @property
    def actions(self) -> Mapping[str, Declared]:
        """The declared actions by their names."""
        return MappingProxyType(self._actions)

    @property
    def events(self) -> Mapping[str, Event]:
        """The declared events by their names."""
        return MappingProxyType(self._events)

    @property
    def rooms(self) -> Rooms:
        """The declared kinds of room, and the inboxes."""
        return self._rooms

    def room(
        self,
        pattern: str,
        *,
        join: Join,
        history: Retention | None = None,
        presence: Presence = "none",
        publish: Publish = "none",
        alias: str | None = None,
    ) -> Kind:
        """Declare a kind of room. See `roomcast.rooms.Kind` for the parameters.

        Returns:
            The kind: `kind.room(id)` is one of its rooms.

        Raises:
            ApplicationError: the declaration is malformed, or a name could be of two kinds.
        """
        kind = Kind(pattern, join, history, presence, publish, alias)
        try:
            self._rooms = Rooms([*self._rooms.kinds[:-1], kind])
        except ValueError as error:
            raise ApplicationError(str(error)) from None
        return kind

    def action(
        self, name: str, *, reply: str | None = None, error: str = "error"
    ) -> Callable[[_Function], _Function]:
        """Declare an action: a decorator of the function that does it.

        The function takes a `Context` and the fields of the message, and returns the data of the reply. The
        annotations of its parameters are the validation (`roomcast.schema`): a wrong field never reaches it.
        It refuses with an `ActionError`. What else it raises is a fault: the client gets API Gateway's error,
        and the function's alarm sounds.

        Args:
            name: what clients ask, such as `order:confirm`.
            reply: the event that answers; the action's name when left out.
            error: the event that refuses.

        Raises:
            ApplicationError: the name is the engine's or taken, or an annotation cannot be checked.
        """
        _check_name("action", name)
        for event in (reply, error):
            if event not in (None, "error"):
                _check_name("event", str(event))
        if name in self._actions:
            raise ApplicationError(f"action {name!r}: declared twice")

        def declare(function: _Function) -> _Function:
            declared = Declared(name, function, reply or name, error)
            for key, (_, annotation, _required) in declared.parameters.items():
                schema.check_known(annotation, f"action {name!r}, field {key}")
            if "id" in declared.parameters:
                raise ApplicationError(f"action {name!r}: `id` is the action's own: use ctx.action_id")
            self._actions[name] = declared
            return function

        return declare

    def event(self, name: str, data: Any, *, publish: bool = False) -> None:
        """Declare an event that the application or a backend sends. See `Event` for the parameters.

        What is sent under that name must fit; clients cannot publish it unless `publish` says so.

        Raises:
            ApplicationError: the name is the engine's or taken, or the annotation cannot be checked.
        """
        _check_name("event", name)
        if name in self._events:
            raise ApplicationError(f"event {name!r}: declared twice")
        schema.check_known(data, f"event {name!r}")
        self._events[name] = Event(name, data, publish)

    def on(self, event: HookEvent, *, room: str | None = None) -> Callable[[_Function], _Function]:
        """Declare a hook: a decorator of a function that is called when something has happened.

        `joined` and `left`, by an action: `function(ctx, room)`. `published`: `function(ctx, room, event,
        data)`. `connected`: `function(ctx)`, before the connection can be posted to. `disconnected`:
        `function(ctx)`, when API Gateway says so, which may be late or never, and not of a connection that
        was pruned before.

        A hook has two seconds, and the client waits for its reply meanwhile. What it raises is logged and
        counted, and changes nothing else. What a hook does calls no other hook.

        Args:
            event: when.
            room: the pattern of a declared kind: only in its rooms; for `joined`, `left` and `published`.

        Raises:
            ApplicationError: there is no such event, or no such kind of room.
        """
        if event not in get_args(HookEvent):
            raise ApplicationError(f"hook {event!r}: must be one of {', '.join(get_args(HookEvent))}")
        if room is not None and event in ("connected", "disconnected"):
            raise ApplicationError(f"hook {event!r}: has no room")
        if room is not None and room not in [kind.pattern for kind in self.rooms.kinds]:
            raise ApplicationError(f"hook {event!r}: the room {room!r} is not declared above it")

        def declare(function: _Function) -> _Function:
            self._hooks.append(Hook(event, function, room))
            return function

        return declare

    def hooks_of(self, event: HookEvent, room: Room | None = None) -> list[Hook]:
        """The hooks of an event in the order of their declarations; with a room, those that are for it."""
        patterns = (None, room.kind.pattern) if room else ()
        return [
            hook for hook in self._hooks if hook.event == event and (not room or hook.pattern in patterns)
        ]

    def is_reserved(self, event: str) -> bool:
        """Whether clients may not publish under this name: whoever hears it must be able to believe it."""
        known = self._events.get(event)
        if known is not None:
            return not known.publish
        return event.startswith(self._reserved) or any(
            event in (action.reply, action.error) for action in self._actions.values()
        )

    def check_event(self, event: str, data: object) -> None:
        """See that an event's data is what it was declared to be; an event that nobody declared passes.

        Args:
            event: its name.
            data: as it goes out: dictionaries, not dataclasses.

        Raises:
            InvalidDataError: it is something else; names the field.
        """
        known = self._events.get(event)
        if known is None:
            return
        try:
            schema.check(known.data, data, "data", strict=True)
        except schema.MismatchError as error:
            raise InvalidDataError(event, data, str(error)) from None


def imported(module: str) -> App:
    """The application in a module that Python finds by its name, as on Lambda.

    Raises:
        ApplicationError: there is no such module, or it has no `app`.
    """
    try:
        return _app_in(importlib.import_module(module), module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ApplicationError(f"there is no module {module}") from None


def load(path: "Path") -> App:
    """The application in a file, or in the `__init__.py` of a folder; the file is run anew each time.

    Raises:
        ApplicationError: there is no such file, it cannot be imported, or it has no `app`.
    """
    import importlib.util

    file = path / "__init__.py" if path.is_dir() else path
    inside = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(path.stem, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None or not file.is_file():
        raise ApplicationError(f"there is no application {path}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and a package's own modules look there
    try:
        spec.loader.exec_module(module)
    except ApplicationError:
        raise
    except Exception as error:
        raise ApplicationError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before
    return _app_in(module, str(path))


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ApplicationError(f"{what} {name!r}: must be words with a colon between them: order:confirm")
    if name.startswith(ENGINES_OWN):
        raise ApplicationError(f"{what} {name!r}: names with {', '.join(ENGINES_OWN)} are the engine's")


def _parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """A function's parameters, and whether each is required."""
    code = function.__code__ if isinstance(function, FunctionType) else None
    if code is None or hasattr(function, "__wrapped__") or code.co_flags & _STARRED:
        import inspect  # for what is not plain: to import it takes 5 ms of a cold start

        found = inspect.signature(function).parameters.values()
        return {parameter.name: parameter.default is parameter.empty for parameter in found}
    plain = code.co_varnames[: code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = len(function.__defaults__ or ())
    required = {name: place < len(plain) - defaults for place, name in enumerate(plain)}
    return required | {name: name not in (function.__kwdefaults__ or {}) for name in named}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function, include_extras=True)


def _app_in(module: object, name: str) -> App:
    found = getattr(module, NAME, None)
    if not isinstance(found, App):
        raise ApplicationError(f"{name} has no `{NAME} = App()`")
    return found
