"""IREE: the float network of ONNX, compiled by LLVM for this CPU and the case's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stages.benchmarking.competitor import Case
from stages.benchmarking.holding import COMPILER_TARGETS
from stages.benchmarking.onnx_file import float_onnx
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class IreeFloat:
    """The float network with the compiler's defaults."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "iree.compiler", "iree.runtime")
    extra: ClassVar[str] = "iree"
    held: ClassVar[bool] = True

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, import, compile and load."""
        import onnx
        from iree.compiler.tools import compile_file
        from iree.compiler.tools.import_onnx.__main__ import main, parse_arguments
        from iree.runtime import Config, SystemContext, VmModule, flags
        from onnx.tools.update_model_dims import update_inputs_outputs_dims

        model = onnx.load(float_onnx(case))
        (output,) = model.graph.output
        rest = [dim.dim_value or dim.dim_param for dim in output.type.tensor_type.shape.dim][1:]
        fixed = case.scratch / f"fixed_{len(case.x)}.onnx"
        dims = {"input": list(case.x.shape)}, {"output": [len(case.x), *rest]}
        onnx.save(update_inputs_outputs_dims(model, *dims), fixed)
        source = fixed.with_suffix(".mlir")
        if main(parse_arguments([str(fixed), "-o", str(source)])):
            raise RuntimeError("IREE's importer does not take the ONNX file")
        target = COMPILER_TARGETS.get(case.isa or "", "host")
        compiled = compile_file(
            str(source),
            input_type="onnx",
            target_backends=["llvm-cpu"],
            extra_args=[f"--iree-llvmcpu-target-cpu={target}"],
        )
        if case.threads > 1:
            flags.parse_flags(f"--task_topology_group_count={case.threads}")
        config = Config("local-sync" if case.threads == 1 else "local-task")
        context = SystemContext(config=config)
        module = VmModule.copy_buffer(config.vm_instance, compiled)
        context.add_vm_module(module)
        function: Any = getattr(context.modules, module.name).main_graph
        x = case.x.numpy()

        def step() -> Any:
            result = function(x)
            return np.array(result.to_host())  # a copy: the host's view ends with the result

        return step
