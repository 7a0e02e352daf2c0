"""The contract of an application: complete, sound, and up to date in the repository."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import jsonschema
import pytest
import yaml

from roomcast import App, Context, Number, Text
from roomcast_dev.contract import asyncapi, typescript
from tests.builders import APP
from tests.support.packages import npm
from tests.unit.cli.conftest import Roomcast
from tests.unit.cli.conftest import own_directory as own_directory
from tests.unit.cli.conftest import roomcast as roomcast

ROOT = Path(__file__).parents[2]
WRITTEN = {"--asyncapi": "docs/asyncapi.yaml", "--types": "client/demo/contract.d.ts"}
PARSER = "@asyncapi/parser@3.6.6"


class Line(TypedDict):
    sku: Annotated[str, Text(pattern="[A-Z]+")]
    count: NotRequired[Annotated[int, Number(least=1, most=9)]]


@dataclass
class Order:
    order_id: str
    lines: list[Line]
    state: Literal["new", "paid"] = "new"
    parent: "Order | None" = None


app = App()
app.room("order_{order_id}", join="anyone")
app.room("lobby", join="anyone", alias="hall")
app.event("order:paid", Order)
app.event("order:note", dict[str, float | None], publish=True)


@app.action("order:add", reply="order:added", error="order:error")
def add(ctx: Context, order: Order, line: Annotated[str, Text(most=8)] = "") -> Line:
    return {"sku": order.order_id + line}


@app.action("order:clear")
def clear(ctx: Context) -> None: ...


def payload(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A message's payload as a JSON Schema by itself."""
    message = document["components"]["messages"][name]["payload"]
    return {**message, "components": {"schemas": document["components"]["schemas"]}}


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + references(list(node.values()))
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("application", [app, APP], ids=["one", "LandingHub"])
def test_every_reference_leads_somewhere_and_every_schema_is_one(application: App) -> None:
    document = yaml.safe_load(asyncapi(application, "x"))
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    for name in document["components"]["messages"]:
        jsonschema.Draft7Validator.check_schema(payload(document, name))
    messages = set(document["components"]["messages"])
    lists = [operation["messages"] for operation in document["operations"].values()]
    used = {reference.rpartition("/")[2] for reference in references(lists)}
    assert used == messages == set(document["channels"]["connection"]["messages"])


ORDER = {"orderId": "7", "lines": []}
ADD, PAID = {"action": "order:add", "order": ORDER}, {"event": "order:paid", "timestamp": "t"}
NOTE = {"action": "rooms:send", "room": "r", "event": "order:note"}
WRONG = {"code": "c", "message": "m"}


@pytest.mark.parametrize(
    ("name", "message", "fits"),
    [
        ("ask.order.add", ADD | {"id": "1"}, True),
        ("ask.order.add", {"action": "order:add"}, False),
        ("ask.order.add", ADD | {"action": "order:del"}, False),
        ("ask.order.add", ADD | {"order": ORDER | {"lines": [{"sku": "a"}]}}, False),
        ("ask.order.add", ADD | {"order": ORDER | {"lines": [{"sku": "A", "count": 0}]}}, False),
        ("ask.order.add", ADD | {"line": "123456789"}, False),
        ("ask.order.clear", {"action": "order:clear"}, True),
        ("hear.order.clear", {"event": "order:clear", "timestamp": "t", "data": None}, True),
        ("hear.order.paid", PAID | {"data": ORDER}, True),
        ("hear.order.paid", PAID | {"data": {"orderId": "7"}}, False),
        ("hear.order.error", PAID | {"event": "order:error", "data": WRONG}, True),
        ("hear.order.added", PAID | {"event": "order:added", "data": {"sku": "A"}}, True),
        ("publish.order.note", NOTE | {"data": {"a": None}}, True),
        ("publish.order.note", NOTE | {"data": {"a": ""}}, False),
    ],
)
def test_a_message_fits_its_schema_where_the_engine_takes_it(
    name: str, message: dict[str, Any], fits: bool
) -> None:
    schema = payload(yaml.safe_load(asyncapi(app, "x")), name)
    assert jsonschema.Draft7Validator(schema).is_valid(message) is fits


def test_the_types_are_what_a_client_is_made_of() -> None:
    text = typescript(app)
    for line in (
        'rooms: `order_${string}` | "lobby" | `user_${string}` | "hall" | "user";',
        '"order:add": { data: { order: Order; line?: string }; reply: Line };',
        '"order:clear": { data: Record<string, never>; reply: null };',
        "lines: Array<Line>;",
        'state?: "new" | "paid";',
        "parent?: Order | null;",
        "count?: number;",
        '"order:note": Record<string, number | null>;',
    ):
        assert line in text


def test_two_classes_of_one_name_are_two_types() -> None:
    other = App()

    def one() -> type:
        @dataclass
        class Data:
            a: str

        return Data

    other.event("a:a", one())
    other.event("b:b", one())
    assert "interface Data {" in typescript(other)
    assert "interface Data_ {" in typescript(other)


def test_the_written_contract_is_todays() -> None:
    """`make docs` writes it."""
    assert (ROOT / WRITTEN["--asyncapi"]).read_text() == asyncapi(APP, "LandingHub")
    assert (ROOT / WRITTEN["--types"]).read_text() == typescript(APP)


def test_the_command_writes_checks_and_prints(roomcast: Roomcast, tmp_path: Path) -> None:
    file, types = tmp_path / "shop.py", tmp_path / "contract.ts"
    text = "from roomcast import App\napp = App()\napp.event('a:b', str)\n"
    file.write_text(text)
    stale = roomcast("contract", str(file), "--types", str(types), "--check")
    assert (stale.code, stale.err.count("\n")) == (1, 1)
    assert not types.exists()
    assert roomcast("contract", str(file), "--types", str(types)).out == f"{types}: written\n"
    assert roomcast("contract", str(file), "--types", str(types), "--check").code == 0
    assert roomcast("contract", str(file)).out == types.read_text()
    file.write_text(text + "app.event('A', str)\n")
    wrong = roomcast("contract", str(file))
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    assert "event 'A'" in wrong.err


def test_a_wrong_payload_is_a_compile_error(tmp_path: Path) -> None:
    (tmp_path / "contract.ts").write_text(typescript(app))
    uses = """
import type { Contract } from "./contract";
type Actions = Contract["actions"];
type Events = Contract["events"];
declare function send<A extends keyof Actions>(action: A, data: Actions[A]["data"]): void;
declare function on<E extends keyof Events>(event: E, hear: (data: Events[E]) => void): void;
"""
    good = 'send("order:add", { order: { orderId: "7", lines: [{ sku: "A" }] } });\n'
    good += 'on("order:paid", (order) => order.lines[0].count?.toFixed());\n'
    wrong = {
        'send("order:add", { order: { orderId: 7, lines: [] } });': "TS2322",
        'send("order:ad", {});': "TS2345",
        'send("order:clear", { x: 1 });': "TS2322",
        'on("order:paid", (order) => order.total);': "TS2339",
    }
    (tmp_path / "use.ts").write_text(uses + good + "\n".join(wrong))
    tsc = ROOT / "node_modules" / ".bin" / "tsc"
    done = subprocess.run(
        [str(tsc), "--noEmit", "--strict", "--target", "es2022", str(tmp_path / "use.ts")],
        capture_output=True,
        text=True,
        check=False,
    )

    expected = list(wrong.values())
    assert [code for code in expected if code not in done.stdout] == []
    assert done.stdout.count("error TS") == len(wrong)


@pytest.mark.slow
def test_asyncapis_own_parser_has_nothing_to_say(tmp_path: Path) -> None:
    folder = npm("asyncapi", PARSER)
    (tmp_path / "one.yaml").write_text(asyncapi(app, "One"))
    script = """
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("fs");
(async () => {
  const found = [];
  for (const file of process.argv.slice(1)) {
    const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
    const faults = diagnostics.filter(({ severity }) => severity < 2);
    found.push(...faults.map(({ message, path }) => [message, path.join(".")]));
    if (!document) found.push([file, "no document"]);
  }
  console.log(JSON.stringify(found));
})();
"""
    files = [ROOT / WRITTEN["--asyncapi"], tmp_path / "one.yaml"]
    command = ["node", "-e", script, *(str(file) for file in files)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
