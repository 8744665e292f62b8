"""Makes a .tflite file smaller: int8 weights in the gates, no names of inner tensors.

In BNext-T two thirds of a file are float weights of the gates' two dense layers (squeeze and excitation). LCE's
converter has no option for weights alone, so the file is rewritten. Weights become int8 with one scale per output
channel, activations stay float32. In the file a scale stands where every runtime finds it, outside the weights (their
own is 1):

    relu(W x + b)       W = diag(s) Q:   s relu(Q x + b / s), and s moves into the next layer's columns
    logistic(V h + c)   V = diag(t) R:   logistic(t (R h + c / t)), one MUL more

The mix a x + (1 - a) y in front of a gate becomes y + a (x - y), which needs one vector instead of two.

A DEQUANTIZE of a constant makes floats of the int8 weights once, when a runtime loads the file; ours reads them as
they are.
"""

from __future__ import annotations

import numpy as np

from converters.rewriting import LEVELS, Rewriter, rewrite

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip


def shrink(content: bytes) -> bytes:
    """Rewrite a file with int8 gates and without names of inner tensors.

    Args:
        content: A .tflite file with float32 weights.

    Returns:
        A file that computes the same but for the rounding of weights, by at most 1/254 of the largest weight of
        the same output channel. Gates that are not of the known form are left as they are.
    """
    return rewrite(content, Shrinker)


class Shrinker(Rewriter):
    """What :func:`shrink` does to a graph.

    Attributes:
        smallest: Fewer weights than this are not worth their operators.
        scale_per_row: Whether each output of a gate's second layer has a scale of its own; else one serves all, which
            needs neither its vector nor its product.
    """

    smallest = 1024
    scale_per_row = True

    def change(self) -> None:
        """Gates of int8, mixes with one vector, no names."""
        for squeeze, excite, activation in self.gates():
            self.quantize(squeeze, excite, activation)
        self.mix_with_one_vector()
        for number, tensor in enumerate(self.graph.tensors):
            if number in self.graph.inputs or number in self.graph.outputs:
                continue
            tensor.name = tensor.shapeSignature = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None

    def gates(self) -> list[tuple[schema.OperatorT, schema.OperatorT, schema.OperatorT]]:
        """Two dense layers of 1x1 maps, ReLU between them, a logistic behind; nobody else reads in between."""
        operator = schema.BuiltinOperator
        found = []
        for activation in self.graph.operators:
            if self.code(activation) != operator.LOGISTIC:
                continue
            excite = self._dense(int(activation.inputs[0]), schema.ActivationFunctionType.NONE)
            squeeze = excite and self._dense(int(excite.inputs[0]), schema.ActivationFunctionType.RELU)
            if squeeze and self.constant(int(squeeze.inputs[1])).size >= self.smallest:
                found.append((squeeze, excite, activation))
        return found

    def _dense(self, tensor: int, activation: int) -> schema.OperatorT | None:
        op = self.made.get(tensor)
        if op is None or self.code(op) != schema.BuiltinOperator.CONV_2D or not self.only_reader(tensor):
            return None
        if self.shape(int(op.inputs[0]))[1:3] != [1, 1] or self.shape(int(op.inputs[1]))[1:3] != [1, 1]:
            return None
        known = all(self.constant(int(i)) is not None for i in op.inputs[1:])
        return op if known and op.builtinOptions.fusedActivationFunction == activation else None

    def quantize(
        self, squeeze: schema.OperatorT, excite: schema.OperatorT, activation: schema.OperatorT
    ) -> None:
        """Replace the weights of one gate."""
        scale = self._replace(squeeze, 1.0)
        if not self.scale_per_row:
            weights = self.constant(int(excite.inputs[1])) * scale
            excite.inputs = [int(excite.inputs[0]), self.bytes_of(weights), int(excite.inputs[2])]
            return
        scale = self._replace(excite, scale)
        logits = int(excite.outputs[0])
        scaled = self.operator("MUL", [logits, self.vector(scale)], self.shape(logits))
        self.put_behind(excite, scaled)
        activation.inputs = [int(scaled.outputs[0])]

    def mix_with_one_vector(self) -> None:
        """Rewrite sums of two means whose weights add up to 1."""
        for total in self.graph.operators:
            if not self.plain(total, "ADD"):
                continue
            parts = [self._weighted(int(tensor)) for tensor in total.inputs]
            if None in parts or self.shape(int(total.outputs[0]))[1:3] != [1, 1]:
                continue
            (first, x, a), (second, y, b) = parts
            if a.shape != b.shape or not np.array_equal(b, np.float32(1) - a):
                continue
            difference = self.operator("SUB", [x, y], self.shape(y))
            scaled = self.operator("MUL", [int(difference.outputs[0]), int(first.inputs[1])], self.shape(y))
            for new in (difference, scaled):
                self.put_behind(second, new)
            self.gone |= {id(first), id(second)}
            total.inputs = [int(scaled.outputs[0]), y]

    def _weighted(self, tensor: int) -> tuple[schema.OperatorT, int, np.ndarray] | None:
        """The product of a tensor and a constant vector, read once: operator, tensor, vector."""
        op = self.made.get(tensor)
        if op is None or not self.plain(op, "MUL") or not self.only_reader(tensor) or id(op) in self.gone:
            return None
        vector = self.constant(int(op.inputs[1]))
        return None if vector is None else (op, int(op.inputs[0]), vector)

    def _replace(self, op: schema.OperatorT, columns: np.ndarray | float) -> np.ndarray:
        """Int8 weights and a bias for a layer whose input is `columns` times too small; its own scale [O]."""
        weights = self.constant(int(op.inputs[1])) * columns
        bias = self.constant(int(op.inputs[2]))
        scale = np.abs(weights).max(axis=(1, 2, 3)) / LEVELS
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        stored = self.unpacked(np.rint(weights / scale[:, None, None, None]).astype(np.int8), 1.0)
        op.inputs = [int(op.inputs[0]), stored, self.vector(bias / scale)]
        return scale
