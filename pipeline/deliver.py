"""``python -m pipeline.deliver [FOLDER…]``: complete the records of killed runs, and of an absent server.

Without folders: all that `outputs/pending` names. A folder is a run's, wherever it lies now.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.command_line import CommandLine
from pipeline.errors import PipelineError
from pipeline.run_folder import OccupiedError, occupied
from pipeline.tracking import pending
from pipeline.tracking.journal import JOURNALS, JournalEntry
from pipeline.tracking.mlflow import MLflow
from pipeline.tracking.mlflow_run import MLflowTracker


def main() -> None:
    """Run the command line; exits with 1 where something is left."""
    parser = CommandLine(prog="python -m pipeline.deliver", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="*", help="of a run, as outputs/runs/<date>/<time>")
    parser.add_argument(
        "--pending", type=Path, default=Path("outputs/pending"), help="tracking.pending; default: %(default)s"
    )
    parser.add_argument(
        "--tracking-uri", help="where to, in the place of what the runs were given: http://host:5000"
    )
    arguments = parser.parse_args()
    for folder in arguments.folder:
        if not folder.is_dir():
            parser.exit(1, f"{folder}: no such folder. Remedy: a run's, as outputs/runs/<date>/<time>\n")
    files = [file for folder in arguments.folder for file in sorted(folder.glob(JOURNALS))]
    if not arguments.folder:
        files = list(pending.journals(arguments.pending))
    if not files:
        print("every run is recorded whole")
    failed = [file for file in files if not _deliver(file, arguments.pending, arguments.tracking_uri)]
    sys.exit(1 if failed else 0)


def _deliver(file: Path, folder: Path, uri: str | None) -> bool:
    """Deliver one journal, and say what came of it; False where it is still there."""

    def attach(opening: JournalEntry, run_id: str) -> MLflowTracker:
        return MLflow(uri=uri or opening["uri"]).attach(opening, run_id)

    try:
        with occupied(file.parent):
            record = pending.deliver(file, attach)
        pending.forget(folder, file)
    except OccupiedError:
        print(f"{file.parent}: still running")
        return True
    except (PipelineError, OSError) as refusal:
        print(f"{file}: {refusal}", file=sys.stderr)
        return False
    state = "complete" if record.finished else "complete as far as it went; the run was killed"
    print(f"{file.parent}: recorded as run {record.run_id}, {state}")
    return True


if __name__ == "__main__":
    main()
