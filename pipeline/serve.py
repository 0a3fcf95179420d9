"""``python -m pipeline.serve --model models:/ID``: MLflow's scoring server, with a bound on requests.

MLflow's server reads and decodes a body whole, whatever its size. Here a body beyond ``--max-bytes`` is left
unread and answered with 413, as one that says no type is with 415; all else is MLflow's own, to the letter.
``--workers`` are processes of their own, each with the program.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.command_line import CommandLine
from pipeline.errors import PipelineError
from pipeline.tracking.mlflow_client import database_of, reach
from pipeline.tracking.mlflow_run import SQLITE

MAX_BYTES = 64 * 2**20
"""The largest body, where none is given: some hundred photographs as JSON."""

_MODEL, _BYTES = "PIPELINE_SERVE_MODEL", "PIPELINE_SERVE_MAX_BYTES"
"""Variables that tell the workers what they serve."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
"""An application as ASGI says, https://asgi.readthedocs.io/en/latest/specs/main.html."""


class Bounded:
    """An application that gets no body beyond a bound, and none without a type.

    Args:
        app: what answers all other requests.
        max_bytes: the largest body.
    """

    def __init__(self, app: App, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; of a body that is too large, at most `max_bytes` and one part are held."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT"):
            return await self._app(scope, receive, send)
        headers = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
        if b"content-type" not in headers:
            reason = "Content-Type: missing. Remedy: application/json"
            return await _refuse(send, 415, reason)
        said = headers.get(b"content-length", b"")
        if said.isdigit() and int(said) > self._max_bytes:
            return await _refuse(send, 413, self._reason(f"{int(said):,}"))
        parts: list[bytes] = []
        more = True
        while more:  # sent in parts of a length that nobody said
            message = await receive()
            if message["type"] != "http.request":
                return None  # the other side is gone
            parts.append(message.get("body", b""))
            if sum(map(len, parts)) > self._max_bytes:
                return await _refuse(send, 413, self._reason("more"))
            more = message.get("more_body", False)
        body = {"type": "http.request", "body": b"".join(parts), "more_body": False}
        waiting: list[Message] = [body]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return await self._app(scope, replay, send)

    def _reason(self, size: str) -> str:
        return (
            f"the request has {size} bytes: must be at most {self._max_bytes:,}. Remedy: send fewer samples "
            "at a time, or serve with a larger --max-bytes"
        )


async def _refuse(send: Send, status: int, reason: str) -> None:
    """Answer in MLflow's form of an error."""
    body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def app() -> Bounded:
    """The application of a worker, for uvicorn."""
    scoring: Any = import_module("mlflow.pyfunc.scoring_server")
    model = scoring.load_model_with_mlflow_config(os.environ[_MODEL])
    return Bounded(scoring.init(model), int(os.environ[_BYTES]))


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve until it is told to end; returns the exit code."""
    parser = CommandLine(
        prog="python -m pipeline.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="models:/ID, runs:/ID/program or a folder")
    parser.add_argument("--tracking-uri", default="sqlite:///outputs/mlflow.db", help="where models:/ID lies")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES, help=f"of a request; {MAX_BYTES}")
    given = parser.parse_args(arguments)
    try:
        for name in ("workers", "max_bytes"):
            if getattr(given, name) < 1:
                raise PipelineError(f"--{name.replace('_', '-')}={getattr(given, name)}: must be at least 1")
        if not 1 <= given.port <= 65535:
            raise PipelineError(f"--port={given.port}: must be from 1 to 65535")
        os.environ[_MODEL] = _folder(given.model, given.tracking_uri)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ[_BYTES] = str(given.max_bytes)
    uvicorn: Any = import_module("uvicorn")
    uvicorn.run("pipeline.serve:app", factory=True, host=given.host, port=given.port, workers=given.workers)
    return 0


def _folder(model: str, tracking_uri: str) -> str:
    """The folder of a model, fetched where it lies elsewhere."""
    uri = os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri)
    if model.startswith(("models:", "runs:")):
        if uri.startswith(SQLITE) and not database_of(uri).is_file():  # MLflow would make it
            raise PipelineError(f"--tracking-uri={uri}: no such file. Remedy: the database that has {model}")
        reach(uri)
    artifacts: Any = import_module("mlflow.artifacts")
    exceptions: Any = import_module("mlflow.exceptions")
    try:
        folder = str(artifacts.download_artifacts(model))
        if not (Path(folder) / "MLmodel").is_file():
            raise OSError(f"{folder} has no file MLmodel")
        return folder
    except (exceptions.MlflowException, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise PipelineError(
            f"--model={model}: cannot be had ({reason}). Remedy: models:/ID as a run's record names it, with "
            f"--tracking-uri where it is another than {tracking_uri}, or the folder of the model"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
