from __future__ import annotations

import hashlib
import socket

import pytest

from pipeline.errors import PipelineError
from stages.data.download import download

CONTENT = b"some bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_the_second_mirror_is_tried_where_the_first_does_not_answer(server, tmp_path):
    url, folder = server
    (folder / "file.gz").write_bytes(CONTENT)
    target = tmp_path / "new" / "file.gz"
    download(target, (f"http://127.0.0.1:{closed_port()}", f"{url}/"), SHA256)
    assert target.read_bytes() == CONTENT


def test_every_mirror_is_named_when_all_fail(server, tmp_path):
    url, folder = server
    (folder / "file.gz").write_bytes(CONTENT + b"!")
    dead = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(PipelineError) as error:
        download(tmp_path / "file.gz", (dead, url, f"{url}/nowhere"), SHA256)
    text = str(error.value)
    assert f"{dead}/file.gz: no connection" in text
    assert f"{url}/file.gz: the file there has another sha256" in text
    assert f"{url}/nowhere/file.gz: the server answered 404" in text
    assert f"data.root={tmp_path}" in text and "Remedy" in text
    assert not (tmp_path / "file.gz").exists()
