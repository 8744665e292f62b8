"""Quantize the weights of the gates to int8, and drop the names of inner tensors, to make a .tflite file smaller.

In BNext-T two thirds of the file are float weights of the gates: the two dense layers of squeeze and excitation. LCE's
converter cannot quantize weights alone, so this module rewrites the file. Weights become int8 with one scale per output
channel; activations stay float32. The scales are applied outside the weights, whose own scale is 1, so that every
runtime supports the file:

    relu(W x + b)       W = diag(s) Q:   s relu(Q x + b / s); s moves into the columns of the next layer
    logistic(V h + c)   V = diag(t) R:   logistic(t (R h + c / t)); this costs one more MUL

The mix a x + (1 - a) y before a gate becomes y + a (x - y), which needs one vector instead of two.

A DEQUANTIZE of a constant converts the int8 weights to float32 once, when a runtime loads the file. Our delegate uses
the int8 weights directly.
"""

from __future__ import annotations

import numpy as np

from converters.tflite.graph_editor import LEVELS, Rewriter, rewrite

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip


def quantize_gates(content: bytes) -> bytes:
    """Quantize the gates of a file to int8 and drop the names of inner tensors.

    Args:
        content: A .tflite file with float32 weights.

    Returns:
        The rewritten file. Each weight is rounded by at most 1/254 of the largest weight of its output channel; the
        function is otherwise the same. Gates that do not match the expected pattern are left unchanged.
    """
    return rewrite(content, GateQuantizer)


class GateQuantizer(Rewriter):
    """The graph rewriter of :func:`quantize_gates`.

    Attributes:
        smallest: Smallest number of weights in a layer for which the added operators pay off.
        scale_per_row: Whether each output of a gate's second layer has its own scale. A common scale needs neither
            the vector of scales nor the multiplication.
    """

    smallest = 1024
    scale_per_row = True

    def change(self) -> None:
        """Quantize the gates, rewrite the mixes, and drop the names."""
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
        """Find the gates: two dense layers on 1x1 maps with a ReLU between and a logistic after them.

        Returns:
            For each gate its first layer, its second layer and the logistic. The tensors in between have no other
            consumers.
        """
        operator = schema.BuiltinOperator
        found = []
        for activation in self.graph.operators:
            if self.builtin_code(activation) != operator.LOGISTIC:
                continue
            excite = self._dense(int(activation.inputs[0]), schema.ActivationFunctionType.NONE)
            squeeze = excite and self._dense(int(excite.inputs[0]), schema.ActivationFunctionType.RELU)
            if squeeze and excite and self.known_constant(int(squeeze.inputs[1])).size >= self.smallest:
                found.append((squeeze, excite, activation))
        return found

    def _dense(self, tensor: int, activation: int) -> schema.OperatorT | None:
        op = self.producers.get(tensor)
        if (
            op is None
            or self.builtin_code(op) != schema.BuiltinOperator.CONV_2D
            or not self.has_single_consumer(tensor)
        ):
            return None
        if self.shape(int(op.inputs[0]))[1:3] != [1, 1] or self.shape(int(op.inputs[1]))[1:3] != [1, 1]:
            return None
        known = all(self.constant(int(i)) is not None for i in op.inputs[1:])
        return op if known and op.builtinOptions.fusedActivationFunction == activation else None

    def quantize(
        self, squeeze: schema.OperatorT, excite: schema.OperatorT, activation: schema.OperatorT
    ) -> None:
        """Quantize the weights of one gate, given its two layers and its logistic."""
        scale = self._quantize_layer(squeeze, 1.0)
        if not self.scale_per_row:
            weights = self.known_constant(int(excite.inputs[1])) * scale
            excite.inputs = [int(excite.inputs[0]), self.int8_constant(weights), int(excite.inputs[2])]
            return
        scale = self._quantize_layer(excite, scale)
        logits = int(excite.outputs[0])
        scaled = self.operator("MUL", [logits, self.vector(scale)], self.shape(logits))
        self.insert_after(excite, scaled)
        activation.inputs = [int(scaled.outputs[0])]

    def mix_with_one_vector(self) -> None:
        """Rewrite a x + (1 - a) y as y + a (x - y), where x and y are means of maps."""
        for total in self.graph.operators:
            if not self.plain(total, "ADD"):
                continue
            one, other = (self._weighted(int(tensor)) for tensor in total.inputs)
            if one is None or other is None or self.shape(int(total.outputs[0]))[1:3] != [1, 1]:
                continue
            (first, x, a), (second, y, b) = one, other
            if a.shape != b.shape or not np.array_equal(b, np.float32(1) - a):
                continue
            difference = self.operator("SUB", [x, y], self.shape(y))
            scaled = self.operator("MUL", [int(difference.outputs[0]), int(first.inputs[1])], self.shape(y))
            for new in (difference, scaled):
                self.insert_after(second, new)
            self.removed |= {id(first), id(second)}
            total.inputs = [int(scaled.outputs[0]), y]

    def _weighted(self, tensor: int) -> tuple[schema.OperatorT, int, np.ndarray] | None:
        """Match a MUL with a constant vector and a single consumer; return the operator, its input and the vector."""
        op = self.producers.get(tensor)
        if (
            op is None
            or not self.plain(op, "MUL")
            or not self.has_single_consumer(tensor)
            or id(op) in self.removed
        ):
            return None
        vector = self.constant(int(op.inputs[1]))
        return None if vector is None else (op, int(op.inputs[0]), vector)

    def _quantize_layer(self, op: schema.OperatorT, columns: np.ndarray | float) -> np.ndarray:
        """Quantize a layer whose input lacks the factor `columns`; return the factor [O] that its output lacks."""
        weights = self.known_constant(int(op.inputs[1])) * columns
        bias = self.known_constant(int(op.inputs[2]))
        scale = np.abs(weights).max(axis=(1, 2, 3)) / LEVELS
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        stored = self.dequantized(np.rint(weights / scale[:, None, None, None]).astype(np.int8), 1.0)
        op.inputs = [int(op.inputs[0]), stored, self.vector(bias / scale)]
        return scale
