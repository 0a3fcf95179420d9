"""Servers that send too much, too long, or nothing. Refused before memory is taken."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from stages.data import download
from tests.stages.data.hostile import MIB


@contextmanager
def serving(handle):
    """A server whose answers `handle` writes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(OSError):  # the other side has had enough
                handle(self)

        def log_message(self, format, *args):
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(url: str, tmp_path: Path) -> str:
    with pytest.raises(PipelineError) as error:
        download.download(tmp_path / "file.gz", (url,), "0" * 64)
    assert list(tmp_path.iterdir()) == []
    return str(error.value)


def test_a_server_that_says_too_much_is_not_read(tmp_path):
    def much(request):
        request.send_response(200)
        request.send_header("Content-Length", str(2**40))
        request.end_headers()
        request.wfile.write(b"x")

    with serving(much) as url:
        assert "the file there has 1,099,511,627,776 bytes, more than 268,435,456" in refusal(url, tmp_path)


def test_a_server_that_never_ends_is_left(tmp_path, monkeypatch):
    def endless(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(2**16))

    monkeypatch.setattr(download, "MAX_BYTES", MIB)
    with serving(endless) as url:
        assert "the server sends more than 1,048,576 bytes" in refusal(url, tmp_path)


def test_a_server_that_drips_is_left(tmp_path, monkeypatch):
    def drip(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x")
            time.sleep(0.05)

    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.3)
    start = time.monotonic()
    with serving(drip) as url:
        assert "not done within 0.3 s" in refusal(url, tmp_path)
    assert time.monotonic() - start < 5
