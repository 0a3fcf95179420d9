"""A web server on this machine, and images made on the fly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Nothing on the terminal."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """URL of a server on 127.0.0.1, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}", folder
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def images(tmp_path: Path):
    """Writes ``{path: image}`` below a new folder and returns the folder."""

    def write(folder: str, pictures: dict[str, Image.Image]) -> Path:
        root = tmp_path / folder
        root.mkdir()
        for name, image in pictures.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(root / name)
        return root

    return write
