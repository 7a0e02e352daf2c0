"""Values that a backend gets, and may return from an endpoint of its own."""

from typing import Any, Self


class Value:
    """Named fields that do not change, compared by what they hold.

    A frozen dataclass in all but the 5 ms of CPU that `dataclasses` takes of a cold start, and an object in
    JSON, where a `NamedTuple` would be a list. `vars` has the fields.
    """

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of a {type(self).__name__} does not change: {value!r}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"

    def _replace(self, **changes: Any) -> Self:
        """The same with other fields, as of a `NamedTuple`."""
        return type(self)(**{**vars(self), **changes})
