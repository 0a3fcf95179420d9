"""Stage *convert*: the quantized network as integers only, with the proof that 32 bits hold its sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs, Stage
from stages.artifacts import IntegerProgram, QuantizedModel
from stages.graph.lower import lower
from stages.integer.bounds import check_accumulators
from stages.integer.coded import Coder, decode_program, encode_program
from stages.integer.program import Requantize
from stages.quant.quantizers.chosen import chosen_quantizer


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Lower to an integer program.

    Args:
        requantize: how accumulators become levels: ``fixed_point`` (int32 multiplier and shift, double
            rounding, as gemmlowp and TFLite's reference), ``fixed_point_single`` (the same numbers, rounded
            once, as TFLite under TFLITE_SINGLE_ROUNDING), ``float`` (float32 multiplication, half to
            even, as oneDNN and onnxruntime) or ``tflm`` (operator by operator as TFLite Micro, in TFLite's
            form: `stages.integer.profiles.adapt`).
        coder: saves the program in few bytes, which later stages run as they are decoded: ``range``, or
            ``huffman``, Deep Compression's (`stages.integer.coded`); None saves it plainly.
    """

    name: ClassVar[str] = "convert"
    consumes: ClassVar[tuple[type, ...]] = (QuantizedModel,)
    produces: ClassVar[type] = IntegerProgram
    cacheable: ClassVar[bool] = True

    requantize: Requantize = "fixed_point"
    coder: Coder | None = None

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """Activations that stay float."""
        quantizer = chosen_quantizer(stages)
        if quantizer is not None and quantizer.activation is None:
            yield (
                "quantizer.activation=null: there are no integer kernels for integer weights on float "
                "values. Remedy: backend=simulation"
            )

    def check(self) -> None:
        """What cannot be lowered was refused when the network was captured."""

    def run(self, ctx: RunContext, inputs: Inputs) -> IntegerProgram:
        """Lower, and refuse a program whose worst case leaves int32."""
        program = lower(inputs[QuantizedModel].quantized, self.requantize)
        try:
            check_accumulators(program)
        except ValueError as error:
            raise PipelineError(str(error)) from error
        if self.coder is None:
            return IntegerProgram(program=program)
        coded = encode_program(program, self.coder)
        return IntegerProgram(program=decode_program(coded), coded=coded)
