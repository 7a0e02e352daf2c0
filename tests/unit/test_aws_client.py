"""The lean client asks and answers as botocore's service model says, for every operation that it has."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Any
from unittest import mock

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roomcast import aws
from roomcast.aws_client.client import JsonClient, make
from roomcast.aws_client.credentials import StaticCredentials
from roomcast.aws_client.http import Answer
from roomcast.aws_client.signing import JsonSigner
from roomcast.errors import AwsError, AwsRefusedError

URL = "https://aws.test"
OPERATIONS = [
    *(("dynamodb", f"{kind}Item") for kind in ("BatchGet", "BatchWrite", "Delete", "Get", "Put", "Update")),
    *(("dynamodb", name) for name in ("DescribeTable", "Query", "Scan")),
    *(("dynamodb", f"Transact{kind}Items") for kind in ("Get", "Write")),
    *(("sqs", name) for name in ("ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage")),
    *(("sqs", name) for name in ("GetQueueAttributes", "GetQueueUrl", "SendMessage", "SendMessageBatch")),
    ("secretsmanager", "GetSecretValue"),
    ("events", "PutEvents"),
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
METADATA = "ResponseMetadata"


class Script:
    """Takes a request down, and gives an answer back."""

    def __init__(self, status: int = 200, body: bytes = b"{}", **headers: str) -> None:
        self.answer = Answer(status, headers, body)
        self.head: dict[str, str] = {}
        self.body = b""

    def exchange(self, request: bytes) -> Answer:
        head, _, self.body = request.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        self.head = dict(line.split(": ", 1) for line in lines)
        return self.answer


def client(service: str, connections: Any) -> JsonClient:
    return JsonClient(
        service,
        endpoint_url=URL,
        region="us-east-1",
        credentials=StaticCredentials("AKID", "SECRET"),
        connections=connections,
    )


def call(operation: str, connections: Any, service: str = "dynamodb", **arguments: Any) -> Any:
    return getattr(client(service, connections), method(operation))(**arguments)


def method(name: str) -> str:
    return botocore.xform_name(name)


@cache
def model(service: str, operation: str) -> OperationModel:
    return botocore.session.get_session().get_service_model(service).operation_model(operation)


def values(shape: Shape | None, depth: int = 0) -> st.SearchStrategy[Any]:
    """JSON values of a shape; no blobs and no dates, which the client does not have."""
    found: Any = shape
    if found is None:
        return st.just({})
    if found.type_name == "structure":
        known = {name: inner for name, inner in found.members.items() if _is_plain(inner)}
        required = {name: values(known[name], depth + 1) for name in found.required_members}
        others = {} if depth > 4 else {n: values(s, depth + 1) for n, s in known.items() if n not in required}
        return st.fixed_dictionaries(required, optional=others)
    if found.type_name == "list":
        most = 0 if depth > 4 else 2
        return st.lists(values(found.member, depth + 1) if most else st.nothing(), max_size=most)
    if found.type_name == "map":
        most = 0 if depth > 4 else 2
        inner = values(found.value, depth + 1) if most else st.nothing()
        return st.dictionaries(TEXT, inner, max_size=most)
    if found.type_name in ("integer", "long"):
        return st.integers(0, 1000)
    if found.type_name == "boolean":
        return st.booleans()
    if found.type_name in ("double", "float"):
        return st.integers(0, 1000).map(float)
    return TEXT


def _is_plain(shape: Any) -> bool:
    if shape.type_name == "list":
        return _is_plain(shape.member)
    if shape.type_name == "structure":
        return all(_is_plain(shape.members[name]) for name in shape.required_members)
    return shape.type_name not in ("blob", "timestamp")


@cache
def inputs(service: str, operation: str) -> st.SearchStrategy[Any]:
    return values(model(service, operation).input_shape)


@cache
def outputs(service: str, operation: str) -> st.SearchStrategy[Any]:
    return values(model(service, operation).output_shape)


generated = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@generated
@given(data=st.data())
def test_a_request_is_what_botocore_writes(service: str, operation: str, data: st.DataObject) -> None:
    arguments = data.draw(inputs(service, operation))
    sent = Script()
    call(operation, sent, service, **arguments)
    shape = model(service, operation)
    written = create_serializer("json", include_validation=False).serialize_to_request(arguments, shape)
    assert json.loads(sent.body) == json.loads(written["body"])
    assert sent.head["x-amz-target"] == written["headers"]["X-Amz-Target"]
    assert sent.head["content-type"] == written["headers"]["Content-Type"]


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@generated
@given(data=st.data())
def test_an_answer_is_what_botocore_reads(service: str, operation: str, data: st.DataObject) -> None:
    body = json.dumps(data.draw(outputs(service, operation))).encode()
    answered = call(operation, Script(body=body), service)
    shape: Any = model(service, operation).output_shape
    wire = {"status_code": 200, "headers": {}, "body": body}
    expected = create_parser("json").parse(wire, shape)
    assert answered.pop(METADATA)["HTTPStatusCode"] == expected.pop(METADATA)["HTTPStatusCode"]
    assert answered == expected


@pytest.mark.parametrize(
    ("service", "status", "headers", "body"),
    [
        ("dynamodb", 400, {}, {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException"}),
        (
            "dynamodb",
            400,
            {},
            {
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "message": "no",
                "Item": {"a": {"S": "b"}},
            },
        ),
        (
            "dynamodb",
            400,
            {},
            {
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "cancelled",
                "CancellationReasons": [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": {}}],
            },
        ),
        (
            "sqs",
            400,
            {"x-amzn-query-error": "AWS.NonExistentQueue;Sender"},
            {"__type": "x#Y"},
        ),
        ("secretsmanager", 400, {}, {"__type": "ResourceNotFoundException", "Message": "nothing"}),
        ("dynamodb", 400, {}, {"__type": "AccessDenied:http://internal/", "message": None}),
    ],
)
def test_a_refusal_is_what_botocore_reads(
    service: str, status: int, headers: dict[str, str], body: dict[str, Any]
) -> None:
    asked = client(service, Script(status, json.dumps(body).encode(), **headers))
    operation = {"dynamodb": "UpdateItem", "sqs": "SendMessage", "secretsmanager": "GetSecretValue"}[service]
    with pytest.raises(AwsRefusedError) as caught:
        getattr(asked, method(operation))()
    assert isinstance(caught.value, ClientError)
    wire = {"status_code": status, "headers": headers, "body": json.dumps(body).encode()}
    shape: Any = model(service, operation).output_shape
    expected = create_parser("json").parse(wire, shape)
    error = dict(caught.value.response["Error"])
    if service == "sqs":
        assert error["Code"] == "AWS.NonExistentQueue"
    else:
        assert error["Code"] == expected["Error"]["Code"]
    assert error["Message"] == (expected["Error"]["Message"] or "")
    for key in ("Item", "CancellationReasons"):
        assert caught.value.response.get(key) == body.get(key)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'"x"'])
def test_a_refusal_that_is_not_json_has_the_status_as_its_code(body: bytes) -> None:
    with pytest.raises(AwsRefusedError) as caught:
        call("GetItem", Script(503, body))
    assert caught.value.response["Error"]["Code"] == "503"
    assert aws.is_retryable(caught.value)


@given(
    body=st.binary(max_size=200),
    secret_key=st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=80),
    token=st.none() | st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001  hypothesis adds UTC
)
def test_a_request_is_signed_as_botocore_signs_it(
    body: bytes, secret_key: str, token: str | None, moment: datetime
) -> None:
    now = moment.replace(tzinfo=UTC)
    signer = JsonSigner("sqs", "eu-west-1", "sqs.test:81", "/", "application/x-amz-json-1.0", now.timestamp)
    head, _, sent = signer.write("AmazonSQS.X", body, StaticCredentials("AKID", secret_key, token)).partition(
        b"\r\n\r\n"
    )
    headers = {"X-Amz-Target": "AmazonSQS.X", "Content-Type": "application/x-amz-json-1.0"}
    wire = AWSRequest("POST", "https://sqs.test:81/", data=body, headers=headers)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)):
        SigV4Auth(Credentials("AKID", secret_key, token), "sqs", "eu-west-1").add_auth(wire)
    assert sent == body
    assert f"authorization: {wire.headers['Authorization']}" in head.decode().split("\r\n")


def test_a_clock_that_is_wrong_is_set_by_the_answer_once() -> None:
    body = b'{"__type": "com.amazon.coral.service#InvalidSignatureException"}'
    script = Script(400, body, date="Mon, 01 Jan 2035 00:00:00 GMT")
    dates: list[str] = []
    real = script.exchange

    def exchange(request: bytes) -> Answer:
        refused = real(request)
        dates.append(script.head["x-amz-date"])
        return refused if len(dates) == 1 else Answer(200, {}, b"{}")

    with mock.patch.object(script, "exchange", exchange):
        call("GetItem", script)
    assert [date[:4] for date in dates][1:] == ["2035"]


def test_a_signature_that_is_refused_by_a_clock_like_ours_is_refused_once() -> None:
    body = b'{"__type": "com.amazon.coral.service#InvalidSignatureException"}'
    today = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    script = Script(400, body, date=today)
    with (
        mock.patch.object(script, "exchange", wraps=script.exchange) as asked,
        pytest.raises(AwsRefusedError, match="InvalidSignature"),
    ):
        call("GetItem", script)
    assert asked.call_count == 1


@pytest.mark.parametrize("answer", [Script(200, b"{"), Script(200, b"{}", **{"x-amz-crc32": "1"})])
def test_an_answer_that_was_damaged_is_asked_for_again(answer: Script) -> None:
    with pytest.raises(AwsError) as caught:
        call("GetItem", answer)
    assert aws.is_retryable(caught.value)


PLAIN = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> pytest.MonkeyPatch:
    """Keys, a region, no files."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def _made(service: str = "dynamodb") -> JsonClient | None:
    return make(service, connect_timeout=1, read_timeout=1)


@pytest.mark.parametrize("service", ["dynamodb", "sqs", "secretsmanager", "events"])
@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1"])
def test_the_endpoint_is_botocores(environment: pytest.MonkeyPatch, service: str, region: str) -> None:
    environment.setenv("AWS_REGION", region)
    made = _made(service)
    assert made is not None
    theirs: Any = botocore.session.get_session().create_client(service, region_name=region)
    assert made.endpoint_url == theirs.meta.endpoint_url


def test_an_endpoint_in_the_environment_is_followed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://all.test")
    environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://secrets.test")
    environment.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://events.test")
    urls = {s: made.endpoint_url for s in ("sqs", "secretsmanager", "events") if (made := _made(s))}
    assert urls == {
        "sqs": "http://all.test",
        "secretsmanager": "http://secrets.test",
        "events": "http://events.test",
    }
    environment.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    made = _made("sqs")
    assert made
    assert made.endpoint_url == "https://sqs.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    "setting",
    [
        {"HTTPS_PROXY": "http://proxy.test"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_REGION": "us-iso-east-1"},
        {"AWS_REGION": "eusc-de-east-1"},
        {"AWS_ACCESS_KEY_ID": ""},
    ],
)
def test_what_only_botocore_knows_is_left_to_it(
    environment: pytest.MonkeyPatch, setting: dict[str, str]
) -> None:
    assert _made()
    for name, value in setting.items():
        environment.setenv(name, value)
    assert _made() is None
    assert hasattr(aws.client("dynamodb"), "meta")


def test_keys_of_a_profile_are_found_by_botocore(environment: pytest.MonkeyPatch, tmp_path: Any) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_REGION")
    (tmp_path / "config").write_text(
        "[profile here]\nregion = ap-south-1\naws_access_key_id = k\naws_secret_access_key = s\n"
    )
    environment.setenv("AWS_PROFILE", "here")
    made = _made()
    assert made is not None
    assert made.endpoint_url == "https://dynamodb.ap-south-1.amazonaws.com"
    (tmp_path / "config").write_text((tmp_path / "config").read_text() + "endpoint_url = http://x.test\n")
    assert _made() is None  # an endpoint in a profile is botocore's to read


def test_botocore_is_not_imported_until_it_is_needed() -> None:
    script = (
        "import sys\n"
        "from roomcast import aws, errors\n"
        "client = aws.client('dynamodb')\n"
        "try:\n"
        "    with aws.within(0.01): aws.call(client.get_item)\n"
        "except errors.AwsError as error: print(error)\n"
        "print('botocore' in sys.modules)\n"
    )
    environ = PLAIN | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_CONFIG_FILE": "/nowhere"}
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ
    ).stdout
    assert shown == "http://127.0.0.1:1: [Errno 111] Connection refused\nFalse\n"
