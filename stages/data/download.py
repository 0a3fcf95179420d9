"""Public files by HTTP: verified by sha256, written atomically, mirrors tried in turn, within limits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch
import requests
from urllib3.exceptions import HTTPError

from pipeline.errors import PipelineError

TIMEOUT_SECONDS = 30
"""How long a server may send nothing."""

TOTAL_SECONDS = 3600
"""The longest that a file takes, however steadily it drips."""

MAX_BYTES = 2**28
"""The largest file: of those downloaded here, one has 170 million."""

CHUNK = 2**16


class _BeyondLimitError(requests.RequestException):
    """A server sends more, or for longer, than any file here needs."""


def download(file: Path, mirrors: Sequence[str], sha256: str) -> None:
    """Fetch ``mirror/file.name`` into `file` from the first mirror that has it with the right sha256.

    Raises:
        PipelineError: no mirror could deliver it; says what each of them did.
    """
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        try:
            pooch.retrieve(url, f"sha256:{sha256}", file.name, file.parent, downloader=_fetch)
            return
        except requests.RequestException as error:
            failures.append(f"{url}: {_reason(error)}")
        except ValueError:  # pooch's word for another hash than asked for
            failures.append(f"{url}: the file there has another sha256 than {sha256}")
        except OSError as error:
            failures.append(f"{url} to {file}: {error.strerror or error}")
    raise PipelineError(
        "\n  ".join([f"'{file.name}' is not in data.root={file.parent} and cannot be downloaded:", *failures])
        + f"\nRemedy: put the file into {file.parent} yourself, point data.root=… to a folder that holds it, "
        "or name a server that has it with data.mirror=https://…"
    )


def _fetch(url: str, output_file: str, _: Any) -> None:
    """Write what `url` sends, as pooch asks its downloaders to. Raises `requests.RequestException`."""
    deadline = time.monotonic() + TOTAL_SECONDS
    plain = {"Accept-Encoding": "identity"}  # else a server may send zeros by the gigabyte in few bytes
    with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=plain) as response:
        response.raise_for_status()
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > MAX_BYTES:
            raise _BeyondLimitError(f"the file there has {int(declared):,} bytes, more than {MAX_BYTES:,}")
        written = 0
        with Path(output_file).open("wb") as target:
            while chunk := _chunk(response):
                written += len(chunk)
                if written > MAX_BYTES:
                    raise _BeyondLimitError(f"the server sends more than {MAX_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise _BeyondLimitError(f"not done within {TOTAL_SECONDS} s ({written:,} bytes came)")
                target.write(chunk)


def _chunk(response: requests.Response) -> bytes:
    """What is there already, at least a byte: a full block may take for ever. Empty at the end."""
    try:
        if hasattr(response.raw, "read1"):  # urllib3 2
            chunk: bytes = response.raw.read1(CHUNK, decode_content=False)
        else:
            chunk = response.raw.read(256, decode_content=False)
    except (HTTPError, OSError) as error:
        raise requests.ConnectionError(str(error)) from error
    return chunk


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, _BeyondLimitError):
        return str(error)
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS} s"
    return f"no connection ({type(error).__name__})"
