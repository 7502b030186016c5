"""No secret that a process was given for Kafka is in anything that it says: logs, errors, tracebacks, reprs.

What do these tests do? They give secrets in every way that there is, make things fail, and look for the secrets.
"""

from __future__ import annotations

import ast
import io
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane import Fairlane, Settings, logs
from fairlane.cli.options import parse_properties
from fairlane.consumer.config import WorkerConfig
from fairlane.topics import secrets
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection, parse_queue_url
from fairlane.topics.errors import KafkaUnreachable, UsageError
from fairlane.topics.oauth import TokenSource
from fairlane.topics.properties_file import read_properties

ROOT = Path(__file__).resolve().parent.parent
SECRET = "correct-horse-battery"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
NAMES = (
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
)


@pytest.fixture(autouse=True)
def _none_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_kept", ())


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_property_is_shown_nowhere(name: str) -> None:
    properties = {name: SECRET, "sasl.username": "ann"}
    connection = Connection("h:9092", properties)
    app = Fairlane("shop", settings=Settings(kafka=properties))
    for each in (connection, app, app.settings, WorkerConfig(connection, "shop", connect={"kafka": properties})):
        assert SECRET not in f"{each!r} {each}"
    assert "'ann'" in repr(connection)
    assert f"'{name}': '***'" in repr(connection)
    assert connection.producer()[name] == SECRET, "librdkafka has it"


@pytest.mark.parametrize(
    "name", ["sasl.username", "ssl.ca.location", "ssl.key.location", "sasl.oauthbearer.token.endpoint.url", "client.id"]
)
def test_what_is_no_secret_is_shown(name: str) -> None:
    assert secrets.shown({name: "x"}) == {name: "x"}


def test_a_short_secret_is_not_shown_with_its_properties_though_texts_are_not_searched_for_it() -> None:
    assert repr(Connection("h:9092", {"sasl.password": "kafka"})) == "Connection('h:9092', {'sasl.password': '***'})"
    assert secrets.redacted("fairlane kafka start") == "fairlane kafka start"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_whatever_is_logged_by_whomever_has_no_secret(log_format: logs.LogFormat) -> None:
    Connection("h:9092", {"sasl.password": f'{SECRET}"\\\n', "ssl.key.pem": KEY})
    out = io.StringIO()
    logs.configure(log_format, "debug", out)
    try:
        log = logging.getLogger("shop")
        log.warning("the login %r failed", f'{SECRET}"\\\n', extra={"password": f'{SECRET}"\\\n'})
        log.warning("the key is %s", KEY.splitlines()[1])
        librdkafka_log.warning("sasl: %s", f'{SECRET}"\\\n')
        try:
            raise ValueError(KEY)
        except ValueError:
            log.exception("no key")
        log.warning("see https://ann:pw@example.com/x")
    finally:
        logs.configure("text", "info")
    said = out.getvalue()
    assert "the login" in said
    assert SECRET not in said
    assert KEY.splitlines()[1] not in said
    assert "ann:pw" not in said
    assert "https://***@example.com/x" in said


def test_librdkafkas_log_has_none_whoever_writes_it(caplog: pytest.LogCaptureFixture) -> None:
    Connection("h:9092", {"sasl.password": SECRET})
    with caplog.at_level(logging.DEBUG, "fairlane"):
        librdkafka_log.debug("authenticating with %s", SECRET)
    assert caplog.messages == ["authenticating with ***"]


def test_a_token_is_a_secret_from_the_moment_it_is_given() -> None:
    source = TokenSource(lambda config: (f"token-of-{config}", 1.0))
    assert source("ann") == ("token-of-ann", 1.0)
    assert secrets.redacted("sent token-of-ann") == "sent ***"
    assert "token-of-ann" not in repr(source)


def test_a_function_that_gives_no_token_says_why(caplog: pytest.LogCaptureFixture) -> None:
    def closed(_config: str) -> tuple[str, float]:
        raise RuntimeError("the vault is closed")

    with pytest.raises(RuntimeError):
        TokenSource(closed)("")
    assert caplog.messages == ["no token for Kafka: oauth_cb failed: RuntimeError: the vault is closed"]


def test_a_function_for_tokens_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_login.py").write_text("def token(config):\n    return 'a-long-token', 5.0\n")
    monkeypatch.chdir(tmp_path)
    assert TokenSource("shop_login:token")("") == ("a-long-token", 5.0)
    with pytest.raises(UsageError, match="no function"):
        TokenSource("shop_login:nothing")("")
    with pytest.raises(UsageError, match="Write module:function"):
        Connection("h:9092", {"oauth_cb": "shop_login"})


@pytest.mark.parametrize(
    "url", [f"kafka://ann:{SECRET}@h:9092/shop", f"https://ann:{SECRET}@h/shop", f"kafka://{SECRET}@h,i/shop"]
)
def test_credentials_in_a_queue_url_are_refused_and_not_repeated(url: str) -> None:
    for refusing in (lambda: parse_queue_url(url), lambda: Settings(queue_url=url), lambda: Connection(url)):
        with pytest.raises(UsageError, match="Credentials do not go there") as caught:
            refusing()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [SECRET, f"sasl.password:{SECRET}", f"={SECRET}", f"sasl.password {SECRET}"])
def test_an_option_that_is_no_property_is_not_repeated(value: str) -> None:
    with pytest.raises(UsageError, match="-X number 2 is no property") as caught:
        parse_properties(["client.id=x", value])
    assert SECRET not in str(caught.value)


def test_an_option_without_a_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"-X sasl\.password is no property"):
        parse_properties(["sasl.password"])


def test_properties_are_read_from_a_file_and_options_beat_it(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(f"# ours\n\nsasl.password = {SECRET}=\nclient.id=file\nbootstrap.servers=h:1\n")
    assert read_properties(file)["sasl.password"] == f"{SECRET}="
    assert parse_properties([f"@{file}", "client.id=x"])["client.id"] == "x"
    made = Settings(queue_url="kafka://other:9092/shop", kafka_config=str(file), kafka={"client.id": "y"})
    assert made.connection.bootstrap == "other:9092"
    assert dict(made.connection.properties) == {"sasl.password": f"{SECRET}=", "client.id": "y"}
    assert Settings(kafka_config=str(file)).connection.bootstrap == "h:1"


@pytest.mark.parametrize("text", [SECRET, f"={SECRET}", f"sasl.password {SECRET}"])
def test_a_line_of_a_file_that_is_no_property_is_numbered_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "client.properties"
    file.write_text(f"client.id=x\n{text}\n")
    with pytest.raises(UsageError, match=r"line 2 of .* is no property") as caught:
        Settings(kafka_config=str(file))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe=\x80"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "client.properties"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"client\.properties cannot be read"):
        parse_properties([f"@{file}"])


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_command_that_fails_says_no_secret_not_even_with_its_traceback(
    tmp_path: Path, debug: tuple[str, ...]
) -> None:
    key = tmp_path / "key.pem"
    key.write_text(KEY)
    refused = ["-X", f"sasl.password={SECRET}", "-X", f"sasl.mechanism={SECRET}", "-X", "security.protocol=SASL_SSL"]
    unreachable = ["-X", f"sasl.password={SECRET}", "-X", "debug=all", "--timeout", "0.5"]
    for options in (refused, unreachable, ["-X", f"ssl.key.pem={KEY}{SECRET}", "-X", "security.protocol=SSL"]):
        command = [
            sys.executable,
            "-m",
            "fairlane",
            *debug,
            "topics",
            "describe",
            "--queue-url",
            "kafka://127.0.0.1:9/q",
        ]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode
        said = done.stdout + done.stderr
        assert "fairlane" in said
        assert SECRET not in said
        assert KEY.splitlines()[1] not in said


def test_an_error_that_crosses_a_process_boundary_has_no_secret() -> None:
    Connection("h:9092", {"sasl.password": SECRET})
    assert SECRET.encode() not in pickle.dumps(KafkaUnreachable("h:9092", 1.0, "no answer"))


@given(st.text(min_size=8, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_a_secret_is_left_out_of_any_text(secret: str, before: str, after: str) -> None:
    secrets._kept = ()
    secrets.keep(secret)
    assert secret not in secrets.redacted(f"{before}{secret}{after}").replace(secrets.HIDDEN, "\0")


FORBIDDEN = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "multiprocessing",
    "jsonpickle",
}


def test_no_module_of_fairlane_can_unpickle_or_evaluate_anything() -> None:
    """Bytes from Kafka, or from a child process, are JSON or MessagePack: nothing is here that reads anything else."""
    seen = 0
    for package in ("app", "topics", "producer", "consumer", "monitor"):
        for path in (ROOT / package).rglob("*.py"):
            seen += 1
            for node in ast.walk(ast.parse(path.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in ("eval", "exec", "__import__"), f"{path}:{node.lineno}"
                assert not FORBIDDEN & {name.partition(".")[0] for name in names}, f"{path}: {names}"
    assert seen > 200
