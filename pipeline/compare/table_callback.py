"""At the end of a sweep, its table beside a paper's: a Hydra callback, which an experiment brings along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from pipeline.compare.table import Table


class TableOfSweep(Callback):
    """Prints the table, and writes ``table.md`` and ``table.csv`` beside the runs and into the parent run.

    Its arguments are those of `pipeline.compare.table.Table`.
    """

    def __init__(self, **definition: Any) -> None:
        self._definition = OmegaConf.to_container(OmegaConf.create(definition))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a table that cannot be drawn, before anything runs."""
        from pipeline.compare.definition import or_exit

        or_exit(self._table)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Draw the table. Where that is not possible the sweep has still succeeded: say why."""
        from pipeline.compare.write import write_table  # loads numpy, which --help does without
        from pipeline.errors import PipelineError

        uri = OmegaConf.select(config, "tracking.uri")
        if uri is None:  # tracking=none, or the sweep is over trackers
            print("no table: it is made from recorded runs; leave out tracking=none")
            return
        try:
            write_table(Path(config.hydra.sweep.dir), self._table(), uri=uri)
        except PipelineError as refusal:
            print(f"no table: {refusal}")

    def _table(self) -> Table:
        from pipeline.compare.definition import build

        table: Table = build(
            "pipeline.compare.table.Table",
            "hydra.callbacks.table",
            self._definition,  # type: ignore[arg-type]
        )
        return table
