"""At the end of a sweep, its page: a Hydra callback, chosen by the group ``hydra/callbacks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class CompareSweep(Callback):
    """Writes ``compare/index.html`` and ``runs.csv`` beside the runs of a sweep that MLflow recorded.

    Both are also among the files of the sweep's own record. Its arguments are those of
    `pipeline.compare.figures.Contents`.
    """

    def __init__(self, **definition: Any) -> None:
        self._definition = OmegaConf.to_container(OmegaConf.create(definition))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse figures that cannot be shown, before anything runs."""
        from pipeline.compare.definition import build_contents, or_exit

        or_exit(lambda: build_contents(self._definition))  # type: ignore[arg-type]

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the sweep's runs. Where that is not possible the sweep has still succeeded: say why."""
        from pipeline.compare.definition import build_contents
        from pipeline.compare.write import write_comparison  # loads numpy, which --help does without
        from pipeline.errors import PipelineError
        from pipeline.tracking.mlflow_client import mlflow_client
        from pipeline.tracking.mlflow_run import guarded

        uri = OmegaConf.select(config, "tracking.uri")
        if uri is None:  # tracking=none, or the sweep is over trackers
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            contents = build_contents(self._definition)  # type: ignore[arg-type]
            page, runs = write_comparison(folder / "compare", contents, uri=uri, sweep=str(folder))
            for parent in {run.parent for run in runs if run.parent}:
                guarded(uri, mlflow_client(uri).log_artifacts, parent, str(page.parent), "compare")
        except PipelineError as refusal:
            print(f"the sweep's runs are not compared: {refusal}")
        else:
            print(f"the sweep's runs compared: {page}")
