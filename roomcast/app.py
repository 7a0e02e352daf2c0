"""`App`: what an application declares, and how its file is found.

The engine knows rooms, actions and events by these declarations only. The file runs where a stage is
synthesized and in the functions that need its code: it must not read the environment or make a client when it
is imported.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

from roomcast.errors import ApplicationError
from roomcast.rooms import Join, Kind, Presence, Publish, Retention, Rooms

NAME = "app"
"""What an application's file calls its `App`."""


class App:
    """An application: its rooms.

    Nothing here talks to AWS.
    """

    def __init__(self) -> None:
        self._rooms = Rooms()

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


def load(path: Path) -> App:
    """The application in a file, or in the `__init__.py` of a folder; the file is run anew each time.

    Raises:
        ApplicationError: there is no such file, it cannot be imported, or it has no `app`.
    """
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


def _app_in(module: object, name: str) -> App:
    found = getattr(module, NAME, None)
    if not isinstance(found, App):
        raise ApplicationError(f"{name} has no `{NAME} = App()`")
    return found
