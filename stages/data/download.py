"""Public files by HTTP: verified by sha256, written atomically, mirrors tried in turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from pipeline.errors import PipelineError

TIMEOUT_SECONDS = 30


def download(file: Path, mirrors: Sequence[str], sha256: str) -> None:
    """Fetch ``mirror/file.name`` into `file` from the first mirror that has it with the right sha256.

    Raises:
        PipelineError: no mirror could deliver it; says what each of them did.
    """
    failures = []
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        try:
            pooch.retrieve(url, f"sha256:{sha256}", file.name, file.parent, downloader=downloader)
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


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS} s"
    return f"no connection ({type(error).__name__})"
