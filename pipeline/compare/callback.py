"""At the end of a sweep, its page: a Hydra callback, chosen by the group ``hydra/callbacks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class CompareSweep(Callback):
    """Writes ``compare/index.html`` and ``runs.csv`` beside the runs of a sweep that MLflow recorded."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the sweep's runs. Where that is not possible the sweep has still succeeded: say why."""
        from pipeline.compare.write import write_comparison  # loads numpy, which --help does without
        from pipeline.errors import PipelineError

        uri = OmegaConf.select(config, "tracking.uri")
        if uri is None:  # tracking=none, or the sweep is over trackers
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            page, _ = write_comparison(folder / "compare", uri=uri, sweep=str(folder))
        except PipelineError as refusal:
            print(f"the sweep's runs are not compared: {refusal}")
        else:
            print(f"the sweep's runs compared: {page}")
