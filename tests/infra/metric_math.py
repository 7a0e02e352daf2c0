"""CloudWatch's metric math, read as PutMetricAlarm reads it: nothing before that call parses an expression.

The grammar, the functions and their types are those of the CloudWatch User Guide ("Using math expressions
with CloudWatch metrics"). What that page does not say is refused here: a sound expression may be refused, but
a wrong one is not accepted. Metrics Insights queries (`SELECT ...`) are refused for that reason.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class MathError(ValueError):
    """An expression that CloudWatch would refuse. The message says why."""


class Type(Enum):
    """What an expression gives."""

    SCALAR = "a number"
    SERIES = "a time series"
    ARRAY = "an array of time series"
    TEXT = "a string"
    WORD = "a keyword"


S, TS, ARRAY = Type.SCALAR, Type.SERIES, Type.ARRAY


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of the request that holds the expressions.

    Attributes:
        namespace: such as `AWS/Usage`, the only one that SERVICE_QUOTA takes.
    """

    namespace: str


Request = Mapping[str, "Metric | str"]
"""The metrics and the expressions of one alarm or one widget, by their ids."""

_Signatures = dict[tuple[Type, ...], Type]

_EACH: _Signatures = {(TS,): TS, (ARRAY,): ARRAY}
"""Functions that change each data point."""
_WHOLE: _Signatures = {(TS,): S, (ARRAY,): TS}
"""Functions that make one value of a series, or one series of an array."""
_SERIES: _Signatures = {(TS,): TS}

_FUNCTIONS: dict[str, _Signatures] = {
    **dict.fromkeys(
        ("ABS", "CEIL", "DIFF", "DIFF_TIME", "FLOOR", "LOG", "LOG10", "RATE", "RUNNING_SUM"), _EACH
    ),
    **dict.fromkeys(("AVG", "DATAPOINT_COUNT", "MAX", "MIN", "STDDEV", "SUM"), _WHOLE),
    **dict.fromkeys(("DATE", "DAY", "EPOCH", "HOUR", "MINUTE", "MONTH", "SERVICE_QUOTA", "YEAR"), _SERIES),
    "ANOMALY_DETECTION_BAND": {(TS,): ARRAY, (TS, S): ARRAY},
    "DB_PERF_INSIGHTS": {(Type.TEXT, Type.TEXT, Type.TEXT): TS},
    "FILL": {
        (TS, S): TS,
        (ARRAY, S): ARRAY,
        (ARRAY, TS): ARRAY,
        (TS, Type.WORD): TS,
        (ARRAY, Type.WORD): ARRAY,
    },
    "FIRST": {(ARRAY,): TS},
    "IF": {
        **{(TS, yes, no): TS for yes in (S, TS) for no in (S, TS)},
        **{(TS, yes): TS for yes in (S, TS)},
        (S, TS): TS,
        (S, TS, TS): TS,
    },
    "INSIGHT_RULE_METRIC": {(Type.TEXT, Type.TEXT): TS, (Type.TEXT, Type.WORD): TS},
    "LAST": {(ARRAY,): TS},
    "METRICS": {(): ARRAY, (Type.TEXT,): ARRAY},
    "METRIC_COUNT": {(ARRAY,): S},
    "PERIOD": {(TS,): S},
    "REMOVE_EMPTY": {(ARRAY,): ARRAY},
    "SEARCH": {(Type.TEXT, Type.TEXT): ARRAY, (Type.TEXT, Type.TEXT, S): ARRAY},
    "SLICE": {(ARRAY, S): ARRAY, (ARRAY, S, S): ARRAY},
    "SORT": {(ARRAY, Type.WORD, Type.WORD): ARRAY, (ARRAY, Type.WORD, Type.WORD, S): ARRAY},
    "TIME_SERIES": {(S,): TS},
}
_WORDS: dict[tuple[str, int], tuple[str, ...]] = {
    ("FILL", 1): ("REPEAT", "LINEAR"),
    ("SORT", 1): ("AVG", "MAX", "MIN", "SUM"),
    ("SORT", 2): ("ASC", "DESC"),
    ("INSIGHT_RULE_METRIC", 1): (
        *("Average", "Maximum", "MaxContributorValue", "Minimum", "SampleCount", "Sum", "UniqueContributors"),
    ),
}
"""The keywords that a function takes, by the position of the argument."""

_OF_A_METRIC_ONLY = {"PERIOD", "SERVICE_QUOTA"}

ADVISED_AGAINST = frozenset(
    {"AVG", "DATAPOINT_COUNT", "MAX", "MIN", "REMOVE_EMPTY", "RUNNING_SUM", "STDDEV", "SUM"}
)
"""Functions of which AWS says: "We recommend that you do not use this function in CloudWatch alarms"."""

MOST_METRICS = 10
"""Of one alarm."""
_ID = re.compile("[a-z][A-Za-z0-9_]*")


class Checked(NamedTuple):
    """An expression that CloudWatch takes.

    Attributes:
        gives: its type.
        functions: every function in it and in the expressions that it names.
    """

    gives: Type
    functions: frozenset[str]


def check(request: Request, id_: str) -> Checked:
    """Read one expression of a request, and those that it names.

    Raises:
        MathError: CloudWatch would refuse it.
    """
    checked = _read(request, id_, ())
    if checked.gives not in (TS, ARRAY):
        raise MathError(f"{id_}: the result is {checked.gives.value}, and must be a time series")
    return checked


def check_alarm(request: Request, watched: str, *, periods: int, of: int) -> None:
    """Read the expression that an alarm watches as PutMetricAlarm does, and ask for what AWS advises.

    Args:
        request: the alarm's metrics and expressions.
        watched: the id of the one that returns data.
        periods: the alarm's EvaluationPeriods.
        of: its DatapointsToAlarm.

    Raises:
        MathError: CloudWatch would refuse the alarm, or AWS advises against the expression.
    """
    metrics = sum(isinstance(entry, Metric) for entry in request.values())
    if metrics > MOST_METRICS:
        raise MathError(f"{metrics} metrics: an alarm takes {MOST_METRICS}")
    gives, functions = check(request, watched)
    if "SEARCH" in functions:
        raise MathError("SEARCH may not be used in an alarm")
    if gives is not TS:
        raise MathError(f"{watched}: the result is {gives.value}, and an alarm watches one time series")
    for function in sorted(functions & ADVISED_AGAINST):
        raise MathError(
            f"AWS advises against {function} in an alarm: it is asked for more data points than it counts"
        )
    if "FILL" in functions and of >= periods:
        raise MathError(
            f"FILL in an alarm of {of} out of {periods} periods: the newest data point may always be the"
            " filler; AWS's workaround is M out of N periods, with M below N"
        )


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKENS = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')|(?P<sign>==|!=|<=|>=|&&|\|\||[-+*/^<>(),\[\]])"
)


def _tokens(expression: str) -> Iterator[_Token]:
    at = 0
    while at < len(expression):
        found = _TOKENS.match(expression, at)
        if not found:
            raise MathError(f"{expression[at]!r} at character {at} is not metric math")
        if found.lastgroup != "space":
            yield _Token(found.lastgroup or "", found[0], at)
        at = found.end()
    yield _Token("end", "the end", at)


def _read(request: Request, id_: str, within: tuple[str, ...]) -> Checked:
    for known in request:
        if not _ID.fullmatch(known):
            raise MathError(
                f"id {known!r} must begin with a lowercase letter and hold letters, digits and '_'"
            )
    if id_ in within:
        raise MathError(f"{id_} refers to itself: {' -> '.join((*within, id_))}")
    entry = request.get(id_)
    if entry is None:
        raise MathError(f"{id_}: no metric or expression has this id")
    if isinstance(entry, Metric):
        return Checked(TS, frozenset())
    parser = _Parser(entry, request, (*within, id_))
    return Checked(parser.whole(), frozenset(parser.functions))


_BINARY: Sequence[tuple[str, ...]] = (
    ("OR", "||"),
    ("AND", "&&"),
    ("==", "!=", "<=", ">=", "<", ">"),
    ("+", "-"),
    ("*", "/"),
    ("^",),
)
"""Operators from the loosest to the tightest. The page gives no precedence: this is the usual one."""
_ARITHMETIC = set("+-*/^")


class _Parser:
    """Reads one expression by recursive descent and types it as it goes."""

    def __init__(self, expression: str, request: Request, within: tuple[str, ...]) -> None:
        self._tokens = list(_tokens(expression))
        self._next = 0
        self._request = request
        self._within = within
        self.functions: set[str] = set()

    def whole(self) -> Type:
        if self._peek().text == "SELECT":
            raise MathError("a Metrics Insights query: its types are not known here")
        gives = self._operators(0)
        if self._peek().kind != "end":
            raise self._unexpected("an operator")
        return gives

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _expect(self, sign: str) -> None:
        if self._peek().text != sign:
            raise self._unexpected(repr(sign))
        self._take()

    def _unexpected(self, wanted: str) -> MathError:
        token = self._peek()
        return MathError(f"{self._within[-1]}: {wanted} wanted at character {token.at}, not {token.text!r}")

    def _operators(self, level: int) -> Type:
        if level == len(_BINARY):
            return self._unary()
        left = self._operators(level + 1)
        while self._peek().text in _BINARY[level] and self._peek().kind in ("sign", "name"):
            operator = self._take().text
            left = self._combined(operator, left, self._operators(level + 1))
        return left

    def _combined(self, operator: str, left: Type, right: Type) -> Type:
        both = {left, right}
        if both <= {S, TS}:
            return TS if TS in both else S
        # An array goes with a number or a series in arithmetic; comparisons know none.
        if operator in _ARITHMETIC and ARRAY in both and both & {S, TS}:
            return ARRAY
        raise MathError(f"{self._within[-1]}: {operator} does not take {left.value} and {right.value}")

    def _unary(self) -> Type:
        if self._peek().text != "-":
            return self._value()
        self._take()
        gives = self._unary()
        if gives not in (S, TS, ARRAY):
            raise MathError(f"{self._within[-1]}: - does not take {gives.value}")
        return gives

    def _value(self) -> Type:
        token = self._peek()
        match token.kind:
            case "number":
                self._take()
                return S
            case "text":
                self._take()
                return Type.TEXT
            case "name" if self._tokens[self._next + 1].text == "(":
                return self._call()
            case "name":
                self._take()
                return self._named(token.text)
        if token.text == "(":
            self._take()
            gives = self._operators(0)
            self._expect(")")
            return gives
        if token.text == "[":
            return self._array()
        raise self._unexpected("a value")

    def _named(self, name: str) -> Type:
        if not _ID.fullmatch(name):
            raise MathError(
                f"{self._within[-1]}: {name} is not a function call, and an id begins with a lowercase letter"
            )
        named = _read(self._request, name, self._within)
        self.functions |= named.functions
        return named.gives

    def _array(self) -> Type:
        self._expect("[")
        elements = [self._operators(0)]
        while self._peek().text == ",":
            self._take()
            elements.append(self._operators(0))
        self._expect("]")
        for element in elements:
            if element not in (TS, ARRAY):
                listed = ", ".join(e.value for e in elements)
                raise MathError(f"{self._within[-1]}: an array holds time series only, not [{listed}]")
        return ARRAY

    def _call(self) -> Type:
        name = self._take().text
        signatures = _FUNCTIONS.get(name)
        if signatures is None:
            hint = " (functions are written in uppercase)" if name.upper() in _FUNCTIONS else ""
            raise MathError(f"{self._within[-1]}: there is no function {name}{hint}")
        self.functions.add(name)
        self._expect("(")
        first = self._next
        arguments: list[Type] = []
        while self._peek().text != ")":
            if arguments:
                self._expect(",")
            arguments.append(self._argument(name, len(arguments)))
        self._expect(")")
        gives = signatures.get(tuple(arguments))
        if gives is None:
            given = ", ".join(argument.value for argument in arguments) or "nothing"
            raise MathError(f"{self._within[-1]}: {name} does not take {given}")
        if name in _OF_A_METRIC_ONLY:
            self._of_a_metric(name, self._tokens[first : self._next - 1])
        return gives

    def _argument(self, function: str, position: int) -> Type:
        token, after = self._peek(), self._tokens[self._next + 1].text
        if (
            token.kind == "name"
            and after in (",", ")")
            and token.text in _WORDS.get((function, position), ())
        ):
            self._take()
            return Type.WORD
        return self._operators(0)

    def _of_a_metric(self, function: str, argument: Sequence[_Token]) -> None:
        entry = self._request.get(argument[0].text) if len(argument) == 1 else None
        if not isinstance(entry, Metric):
            raise MathError(f"{self._within[-1]}: {function} takes a metric, not the result of an expression")
        if function == "SERVICE_QUOTA" and entry.namespace != "AWS/Usage":
            raise MathError(
                f"{self._within[-1]}: SERVICE_QUOTA takes a usage metric, not one of {entry.namespace}"
            )
