"""Errors that a user can act on.

Hydra prints a ``CompactHydraException`` as its message alone, without a stack trace, and exits with
status 1; `PipelineError` builds on that, so that every refusal of the pipeline is a few plain lines.
Set ``HYDRA_FULL_ERROR=1`` to see the stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

try:
    from hydra.errors import CompactHydraException
except ImportError:  # who only runs an integer program needs no hydra, and there is no hydra to print for

    class CompactHydraException(Exception):  # type: ignore[no-redef]  # noqa: N818
        """Stands in for Hydra's."""


class PipelineError(CompactHydraException, ValueError):
    """A refusal with its reason and remedy in the message. Also a `ValueError`."""


class ConfigError(PipelineError):
    """The configuration is wrong; the message names the config path and the valid choices."""


class ParityError(PipelineError):
    """The integers do not give what the simulation promised, beyond the configured tolerance."""


def worded(error: BaseException) -> str:
    """What to say of an error in one line or few: a refusal's message, the type too of any other."""
    return str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"


def alternatives(name: str, valid: Iterable[str]) -> str:
    """Say which names are valid, the closest first: ``did you mean 'bits'? valid: bits, signed``."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}valid: {', '.join(names) or '(none)'}"
