"""Runtimes beside our own integers: the same program, the same input levels, level by level.

For the output and, where a runtime shows them, for all values between, ``runtime − ours`` is counted over all
elements. The output is that of a plain run: to show what lies between, a runtime may compute otherwise, which
is then noted. One that fails is noted with its reason, and the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from stages.artifacts.runtimes import LayerDifference, RuntimeResult
from stages.backends.base import Backend, Executable, predict
from stages.backends.foreign.installed import runtime_export, runtime_version
from stages.integer.interpreter import dequantize_output
from stages.integer.program import Integers, Program
from stages.measuring.timing import median_seconds
from stages.tasks.base import Outputs, Targets, Task, agreeing


def differences(a: Integers, b: Integers) -> Counter[int]:
    """How often each difference ``a − b`` occurs."""
    difference = a.astype(np.int32).ravel() - b.astype(np.int32).ravel()
    if not difference.size:
        return Counter()
    least = int(difference.min())
    counts = np.bincount(difference - least)
    return Counter({int(i) + least: int(counts[i]) for i in np.flatnonzero(counts)})


@dataclass
class RuntimeRun:
    """One runtime, batch by batch.

    Args:
        name: as the user chose it.
        backend: the runtime.
        program: what it runs.
    """

    name: str
    backend: Backend
    program: Program
    refused: str = ""
    _executable: Executable | None = None
    _outputs: list[Outputs] = field(default_factory=list)
    _output: Counter[int] = field(default_factory=Counter)
    _layers: dict[str, Counter[int]] = field(default_factory=dict)
    _traced_otherwise: int = 0
    _untraced: str = ""

    def compile(self) -> None:
        """Prepare it; what it refuses is kept."""
        try:
            self._executable = self.backend.compile(self.program)
        except Exception as error:  # runtimes raise their own
            self.refused = _reason(error)

    def update(self, q: Integers, ours: Mapping[str, Integers]) -> None:
        """Run levels of the input, and count against our trace of them; nothing where it has refused."""
        if self._executable is None or self.refused:
            return
        try:
            levels = self._executable.run(q)
        except Exception as error:  # as above
            self.refused = _reason(error)
            return
        self._outputs.append(dequantize_output(self.program, levels))
        self._output += differences(levels, ours[self.program.output])
        if self._untraced:
            return
        try:
            trace = self._executable.trace(q)
        except Exception as error:  # there is an output all the same
            self._untraced = _reason(error)
            return
        for name in ours.keys() & trace.keys():  # a runtime's own program may have values beside ours
            value = trace[name]
            self._layers.setdefault(name, Counter()).update(differences(value, ours[name]))
        if self.program.output in trace:
            self._traced_otherwise += int((trace[self.program.output] != levels).sum())

    def milliseconds(self, x: Outputs) -> float | None:
        """Time of one sample `x`, (1, *shape), the median; None where it does not run."""
        executable = self._executable
        if executable is None or self.refused:
            return None
        return 1e3 * median_seconds(lambda: predict(executable, self.program, x), seconds=0.5)

    def result(
        self,
        task: Task,
        labels: Targets,
        ours: Outputs,
        *,
        x: Outputs,
        exported: Mapping[str, int],
        reference: Outputs | None = None,
    ) -> RuntimeResult:
        """What was counted.

        Args:
            task: what outputs mean.
            labels: of all samples.
            ours: our outputs of all samples.
            x: one sample, to time.
            exported: bytes by exporter.
            reference: the float network's outputs of all samples; None where there are none.
        """
        export, version = runtime_export(self.backend), runtime_version(self.backend)
        size = exported.get(export)
        if self.refused or self._executable is None:
            return RuntimeResult(
                name=self.name, version=version, refused=self.refused, export=export, bytes=size
            )
        outputs = np.concatenate(self._outputs)
        ops = {op.output: op.op for op in self.program.ops}
        return RuntimeResult(
            name=self.name,
            version=version,
            figures=task.figures(outputs, labels, reference),
            agreement=float(agreeing(task.decisions(outputs), task.decisions(ours)).mean()),
            output=dict(self._output),
            layers=tuple(
                LayerDifference(name=name, op=ops.get(name, "input"), differences=dict(self._layers[name]))
                for name in self.program.values
                if name in self._layers
            ),
            milliseconds=self.milliseconds(x),
            export=export,
            bytes=size,
            notes=(*self._executable.notes, *self._notes()),
        )

    def _notes(self) -> tuple[str, ...]:
        found: tuple[str, ...] = ()
        if self._untraced:
            found += (f"shows no values between input and output: {self._untraced}",)
        if self._traced_otherwise:
            share = self._traced_otherwise / max(1, self._output.total())
            found += (f"gives other output levels, {share:.2%} of them, where it shows what lies between",)
        return found


def _reason(error: Exception) -> str:
    """The first line of what an error says, at most 400 characters: runtimes go on at length."""
    lines = str(error).strip().splitlines() or [""]
    return (lines[0].strip() or type(error).__name__)[:400]
