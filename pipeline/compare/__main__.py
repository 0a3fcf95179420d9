"""``python -m pipeline.compare``: the recorded runs side by side, as one HTML page and a CSV."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.command_line import CommandLine
from pipeline.compare.definition import configured
from pipeline.compare.write import URI, write_comparison
from pipeline.errors import PipelineError


def main() -> None:
    """Run the command line."""
    parser = CommandLine(prog="python -m pipeline.compare", description=__doc__)
    parser.add_argument("--tracking-uri", default=URI, metavar="URI", help="default: %(default)s")
    parser.add_argument("--experiment", metavar="NAME", help="default: all experiments")
    parser.add_argument("--sweep", metavar="ID", help="runs under this parent run, or with this tag `sweep`")
    parser.add_argument(
        "--filter", default="", metavar="CONDITION", help="MLflow's filter, as \"tags.model = 'resnet20'\""
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/compare"), help="default: %(default)s")
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="your own options, as of `python -m pipeline`"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="of the figures shown, as hydra/callbacks=mine or experiment=mine",
    )
    chosen = parser.parse_args()
    try:
        page, runs = write_comparison(
            chosen.out,
            configured(chosen.overrides, folder=chosen.config_dir),
            uri=chosen.tracking_uri,
            experiment=chosen.experiment,
            sweep=chosen.sweep,
            condition=chosen.filter,
        )
    except PipelineError as refusal:
        sys.exit(str(refusal))
    print(f"{len(runs)} runs: {page}, {page.parent / 'runs.csv'}")


if __name__ == "__main__":
    main()
