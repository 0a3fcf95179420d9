"""Where this project's own packages lie, so that nothing in the user's folder takes their names.

``python -m pipeline`` puts the folder it starts in before all others, and ``conf`` and ``stages`` are names
that a user's folders may have too. The configuration is therefore found by its place, beside this package;
code that is hidden is said to be.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"


def check_place() -> None:
    """Raise `ConfigError` where Python would load another package ``stages`` than the one beside this.

    A file ``stages.py`` or a folder ``stages`` hides it, in the folder the command starts in or earlier on
    ``PYTHONPATH``.
    """
    spec = find_spec("stages")
    own = ROOT / "stages"
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin or ""]
    found = [Path(place) for place in places[:1]]
    if own in [place.resolve() for place in found]:
        return
    if not found:
        raise ConfigError(f"{own}: the package stages is not there.\nRemedy: install the pipeline anew")
    raise ConfigError(
        f"{found[0]} hides the pipeline's own package stages ({own}): Python finds it first.\n"
        "Remedy: give it another name, or start the command in another folder"
    )


def see_the_users_folder() -> None:
    """Let the folder that a console script starts in be imported from, as ``python -m`` does, but last."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
