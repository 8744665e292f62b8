"""Makes a .tflite file as small as runtimes can still read: vectors of int8 and of float16.

Where :mod:`converters.shrink` has made the gates' weights int8, what is left as float32 are vectors, one number per
channel. Each becomes a constant of fewer bits and a DEQUANTIZE, which runs once when a runtime loads the file:

    int8, one scale per vector   what a gate is computed with, as its weights are: mixes and biases
    float16                      what acts on maps: thresholds of signs, slopes of PReLU, multiplier and bias of binary
                                 convolutions, gains of gates (with int8 these cost BNext-T 0.7 points on CIFAKE's
                                 validation images); also the weights of the stem and of the last layer

Weights of a gate's second layer have one scale instead of one per output. The matrices of the Fourier transform stay
float32: a spectrum spans more than float16 tells apart. So do the means and deviations that an image is normalised
with, the adapter's weights (the delegate runs the channels and it as one where it finds these as they are), numbers
beyond float16, and whatever is too short to be worth an operator.
"""

from __future__ import annotations

import math

import numpy as np

from converters.rewriting import Rewriter, rewrite
from converters.shrink import Shrinker

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: Bytes of a file that the two tensors, the buffer and the operator of one DEQUANTIZE take.
_OVERHEAD = 120
#: Weights of a convolution: more than any adapter has, fewer than the stem of BNext-T.
_SMALLEST_KERNEL = 512
_LARGEST_HALF = float(np.finfo(np.float16).max)


def narrow(content: bytes) -> bytes:
    """Rewrite a file with constants of int8 and float16 where these are smaller.

    Args:
        content: A .tflite file with float32 weights.

    Returns:
        A file that computes the same but for the rounding of its constants: by at most 1/254 of the largest weight
        of a layer and of the largest number of a vector inside a gate, by at most 1/2048 of each other number (or
        2**-25, where that is more).
    """
    return rewrite(content, _Shrinker, _Narrower)


class _Shrinker(Shrinker):
    smallest = 128
    scale_per_row = False


class _Narrower(Rewriter):
    def change(self) -> None:
        """All constants that the module's text names."""
        self.known: dict[tuple[int, bool], int] = {}
        operator = schema.BuiltinOperator
        gates = self.inside_gates()
        for op in self.graph.operators:
            kind = self.code(op)
            if self.model.operatorCodes[op.opcodeIndex].customCode == b"LceBconv2d":
                self.replace(op, 2, 3)
            elif kind in (operator.ADD, operator.SUB, operator.MUL):
                # Constants of the channels are not plain [C].
                plain = [i for i in (0, 1) if len(self.shape(int(op.inputs[i]))) == 1]
                self.replace(op, *plain, in_gate=id(op) in gates)
            elif kind == operator.CONV_2D and id(op) in gates:
                self.replace(op, 2, in_gate=True)
            elif kind in (operator.PRELU, operator.FULLY_CONNECTED) or self.is_stem(op):
                self.replace(op, 1)

    def is_stem(self, op: schema.OperatorT) -> bool:
        """Whether this is a float convolution, no adapter and no product with a matrix, as the Fourier transform's."""
        if self.code(op) != schema.BuiltinOperator.CONV_2D:
            return False
        kernel = self.shape(int(op.inputs[1]))
        return kernel[1:3] != [1, 1] and math.prod(kernel) >= _SMALLEST_KERNEL

    def inside_gates(self) -> set[int]:
        """`id` of the operators between the means and the logistic of each gate."""
        operator, found = schema.BuiltinOperator, set()
        sums = (operator.ADD, operator.SUB, operator.MUL)
        for logistic in self.graph.operators:
            if self.code(logistic) != operator.LOGISTIC:
                continue
            before = [int(logistic.inputs[0])]
            while before:
                op = self.made.get(before.pop())
                if op is None or self.code(op) not in (*sums, operator.CONV_2D) or id(op) in found:
                    continue
                if self.shape(int(op.outputs[0]))[1:3] == [1, 1]:
                    found.add(id(op))
                    before += [int(tensor) for tensor in op.inputs]
        return found

    def replace(self, op: schema.OperatorT, *places: int, in_gate: bool = False) -> None:
        """Let an operator read some of its inputs, where these are float32 constants, through a DEQUANTIZE."""
        inputs = [int(tensor) for tensor in op.inputs]
        for place in places:
            if place < len(inputs) and inputs[place] >= 0:
                inputs[place] = self.through(inputs[place], in_gate)
        op.inputs = inputs

    def through(self, tensor: int, in_gate: bool) -> int:
        """A constant in fewer bits, unpacked; the constant itself where that would not be smaller or not hold it."""
        values, saved = self.constant(tensor), 3 if in_gate else 2
        if values is None or values.size * saved < _OVERHEAD:
            return tensor
        if not in_gate and not np.abs(values).max() <= _LARGEST_HALF:
            return tensor
        if (tensor, in_gate) not in self.known:
            self.known[tensor, in_gate] = (
                self.bytes_of(values) if in_gate else self.unpacked(values.astype(np.float16))
            )
        return self.known[tensor, in_gate]
