"""What a server may be sent: bounded before it is held, and refused with a status and a reason."""

from __future__ import annotations

import asyncio
import json

import pytest

from pipeline import serve
from pipeline.serve import Bounded


def asked(parts: list[bytes], headers: dict[str, str], *, max_bytes: int = 100, method: str = "POST"):
    """Status, text, what the application behind got, and how many parts were read."""
    sent, got, read = [], [], 0

    async def behind(scope, receive, send):
        message = await receive()
        got.append(message.get("body", b""))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def receive():
        nonlocal read
        read += 1
        return {"type": "http.request", "body": parts[read - 1], "more_body": read < len(parts)}

    async def send(message):
        sent.append(message)

    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "headers": pairs}
    asyncio.run(Bounded(behind, max_bytes)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), got, read


JSON = {"Content-Type": "application/json"}


def test_a_body_within_the_bound_comes_through_whole():
    assert asked([b"a" * 60, b"b" * 40], JSON) == (200, "fine", [b"a" * 60 + b"b" * 40], 2)
    assert asked([b""], {}, method="GET")[0] == 200


def test_a_body_that_says_too_much_is_not_read():
    status, text, got, read = asked([b"x"], JSON | {"Content-Length": str(2**30)})
    assert (status, got, read) == (413, [], 0)
    assert json.loads(text) == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "the request has 1,073,741,824 bytes: must be at most 100. Remedy: send fewer samples at "
        "a time, or serve with a larger --max-bytes",
    }


@pytest.mark.parametrize("said", [{}, {"Content-Length": "5"}, {"Content-Length": "-1"}])
def test_a_body_that_says_nothing_or_less_is_read_up_to_the_bound(said):
    status, text, got, read = asked([b"x" * 60] * 10**4, JSON | said)
    assert (status, got, read) == (413, [], 2) and "more bytes: must be at most 100" in text


def test_a_body_without_a_type_is_refused():
    status, text, got, _ = asked([b"x"], {})
    assert (status, got) == (415, []) and "Content-Type: missing" in text


def test_a_server_that_is_not_there_is_said_at_once(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert serve.main(["--model", "models:/m-0"]) == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "/nowhere"], "--model=/nowhere: cannot be had"),
        (["--model", "."], "has no file MLmodel). Remedy: models:/ID"),
        (["--model", "models:/m-0"], "none.db: no such file. Remedy: the database that has models:/m-0"),
        (["--model", "models:/m-0", "--port", "99999"], "--port=99999: must be from 1 to 65535"),
        (["--model", "models:/m-0", "--max-bytes", "0"], "--max-bytes=0: must be at least 1"),
        (["--model", "models:/m-0", "--workers", "0"], "--workers=0: must be at least 1"),
    ],
)
def test_what_cannot_be_served_is_said(arguments, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    for name in (serve._MODEL, serve._BYTES):
        monkeypatch.setenv(name, "")
    assert serve.main(arguments) == 1
    assert not list(tmp_path.iterdir())
    assert reason in capsys.readouterr().err
