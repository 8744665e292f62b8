"""Compress a .tflite file to the smallest size that runtimes can still read: vectors of int8 and float16.

:mod:`converters.tflite.quantize_gates` makes the weights of the gates int8. The remaining float32 constants are vectors
with one number per channel. Each of them becomes a constant with fewer bits and a DEQUANTIZE, which runs once, when a
runtime loads the file:

    int8, one scale per vector   vectors that a gate is computed from, like its weights: mixes and biases
    float16                      vectors that act on maps: sign thresholds, PReLU slopes, multipliers and biases of binary
                                 convolutions, gains of gates (int8 would cost BNext-T 0.7 points of accuracy on CIFAKE's
                                 validation images); also the weights of the stem and of the last layer

The weights of a gate's second layer share one scale instead of having one per output. These constants stay float32:

- the matrices of the Fourier transform, because float16 cannot resolve the range of a spectrum;
- the means and deviations of the input normalisation and the weights of the adapter, because the delegate fuses the
  forensic channels with the adapter only if it finds them in float32;
- numbers beyond the range of float16, and vectors too short to pay for an operator.
"""

from __future__ import annotations

import math

import numpy as np

from converters.tflite.graph_editor import Rewriter, rewrite
from converters.tflite.quantize_gates import GateQuantizer

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: Size in bytes of one DEQUANTIZE in a file: two tensors, a buffer and the operator.
_OVERHEAD = 120
#: A convolution with at least this number of weights is a stem: more than any adapter has, fewer than BNext-T's stem.
_SMALLEST_STEM = 512
_LARGEST_HALF = float(np.finfo(np.float16).max)


def compress_vectors(content: bytes) -> bytes:
    """Store constants as int8 or float16 where that makes the file smaller.

    Args:
        content: A .tflite file with float32 weights.

    Returns:
        The rewritten file. Its function differs by the rounding of constants only: inside a gate by at most 1/254 of the
        largest number of the layer or vector, elsewhere by at most 1/2048 of each number, or 2**-25 if that is larger.
    """
    return rewrite(content, _SmallGateQuantizer, _VectorCompressor)


class _SmallGateQuantizer(GateQuantizer):
    smallest = 128
    scale_per_row = False


class _VectorCompressor(Rewriter):
    def change(self) -> None:
        """Compress the constants listed in the module docstring."""
        self.compressed_constants: dict[tuple[int, bool], int] = {}
        operator = schema.BuiltinOperator
        gates = self.gate_operators()
        for op in self.graph.operators:
            kind = self.builtin_code(op)
            if self.model.operatorCodes[op.opcodeIndex].customCode == b"LceBconv2d":
                self.replace(op, 2, 3)
            elif kind in (operator.ADD, operator.SUB, operator.MUL):
                # The constants of the forensic channels have more than one dimension.
                plain = [i for i in (0, 1) if len(self.shape(int(op.inputs[i]))) == 1]
                self.replace(op, *plain, in_gate=id(op) in gates)
            elif kind == operator.CONV_2D and id(op) in gates:
                self.replace(op, 2, in_gate=True)
            elif kind in (operator.PRELU, operator.FULLY_CONNECTED) or self.is_stem(op):
                self.replace(op, 1)

    def is_stem(self, op: schema.OperatorT) -> bool:
        """Whether this is a float convolution other than the adapter and the Fourier transform's matrix products."""
        if self.builtin_code(op) != schema.BuiltinOperator.CONV_2D:
            return False
        kernel = self.shape(int(op.inputs[1]))
        return kernel[1:3] != [1, 1] and math.prod(kernel) >= _SMALLEST_STEM

    def gate_operators(self) -> set[int]:
        """Return the `id` of each operator between the means and the logistic of a gate."""
        operator, found = schema.BuiltinOperator, set()
        sums = (operator.ADD, operator.SUB, operator.MUL)
        for logistic in self.graph.operators:
            if self.builtin_code(logistic) != operator.LOGISTIC:
                continue
            before = [int(logistic.inputs[0])]
            while before:
                op = self.producers.get(before.pop())
                if op is None or self.builtin_code(op) not in (*sums, operator.CONV_2D) or id(op) in found:
                    continue
                if self.shape(int(op.outputs[0]))[1:3] == [1, 1]:
                    found.add(id(op))
                    before += [int(tensor) for tensor in op.inputs]
        return found

    def replace(self, op: schema.OperatorT, *places: int, in_gate: bool = False) -> None:
        """Replace float32 constants among an operator's inputs, at the given positions, by compressed ones."""
        inputs = [int(tensor) for tensor in op.inputs]
        for place in places:
            if place < len(inputs) and inputs[place] >= 0:
                inputs[place] = self.compressed(inputs[place], in_gate)
        op.inputs = inputs

    def compressed(self, tensor: int, in_gate: bool) -> int:
        """Compress a constant.

        Returns:
            The output of its DEQUANTIZE; `tensor` itself if that would not be smaller, or exceeds float16.
        """
        values, saved = self.constant(tensor), 3 if in_gate else 2
        if values is None or values.size * saved < _OVERHEAD:
            return tensor
        if not in_gate and not np.abs(values).max() <= _LARGEST_HALF:
            return tensor
        if (tensor, in_gate) not in self.compressed_constants:
            self.compressed_constants[tensor, in_gate] = (
                self.int8_constant(values) if in_gate else self.dequantized(values.astype(np.float16))
            )
        return self.compressed_constants[tensor, in_gate]
