"""Fold batch normalisations behind gates: per-channel gains and biases act on vectors instead of full-size maps.

TensorFlow's converter turns each batch normalisation behind a gate into a MUL and an ADD on the whole map. Neither is
needed:

    gain (gate y)           = (gain gate) y: the MUL is applied to the gate, a vector; also if a residual is multiplied in
    sign((x + b) + m)       = sign(x + (b + m)): the bias moves forward through sums of maps, mean pools and
    mean(x + b)             = mean(x) + b        concatenations, into the threshold of a sign or, behind a mean, into
    relu(W (x + b) + c)     = relu(W x + (c + W b))    the bias of the next dense layer

A bias stops before an operator that needs the complete value, such as a PReLU, and is added there together with all
biases gathered on the way. Results differ by float32 rounding only. The function is BNext's unit (arXiv 2211.12933,
section 3.2), computed in another order.
"""

from __future__ import annotations

import numpy as np

from converters.tflite.graph_editor import Rewriter, rewrite

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip


def fold(content: bytes) -> bytes:
    """Fold the gains and biases behind gates.

    Args:
        content: A .tflite file with float32 constants.

    Returns:
        A file with fewer operators, whose results differ by float32 rounding only. Operators that do not match the
        expected patterns are left unchanged.
    """
    return rewrite(content, _GainFolder, _BiasFolder)


class _BatchNormFolder(Rewriter):
    """Pattern matching shared by the two folding passes."""

    def is_map(self, tensor: int) -> bool:
        """Whether a tensor is [N, H, W, C] with more than one pixel."""
        shape = self.shape(tensor)
        return len(shape) == 4 and shape[1] * shape[2] > 1

    def is_vector(self, tensor: int) -> bool:
        """Whether a computed tensor is [N, 1, 1, C]."""
        shape = self.shape(tensor)
        return len(shape) == 4 and shape[1] * shape[2] == 1 and tensor in self.producers

    def match_vector_operand(self, op: schema.OperatorT, builtin: str) -> tuple[int, np.ndarray] | None:
        """Match a sum or product with a constant [C]; return the other input and the constant."""
        if not self.plain(op, builtin):
            return None
        for one, other in ((0, 1), (1, 0)):
            values, varies = self.constant(int(op.inputs[one])), int(op.inputs[other])
            shape = self.shape(varies)
            if values is None or len(shape) != 4 or self.constant(varies) is not None:
                continue
            if values.size == shape[3] and values.shape == (1,) * (values.ndim - 1) + (shape[3],):
                return varies, values.reshape(-1)
        return None


class _GainFolder(_BatchNormFolder):
    def change(self) -> None:
        """Move multiplications by a constant from maps to the gates that scale them."""
        for op in self.graph.operators:
            found, out = self.match_vector_operand(op, "MUL"), int(op.outputs[0])
            if found is None or out in self.graph_outputs or not self.is_map(found[0]):
                continue
            product = self.gate_product(found[0])
            if product is None:
                continue
            gate = next(int(t) for t in product.inputs if self.is_vector(int(t)))
            scaled = self.operator("MUL", [gate, self.vector(found[1])], self.shape(gate))
            self.insert_after(self.producers[gate], scaled)
            product.inputs = [int(scaled.outputs[0]) if int(t) == gate else int(t) for t in product.inputs]
            self.removed.add(id(op))
            for reader in self.consumers.get(out, []):
                reader.inputs = [found[0] if int(t) == out else int(t) for t in reader.inputs]
            self.consumers[found[0]] = self.consumers.pop(out, [])

    def gate_product(self, tensor: int) -> schema.OperatorT | None:
        """Find the product of a map and a gate that a tensor is computed from by multiplications only.

        Every tensor on the way has a single consumer. Returns None if there is no such product.
        """
        op = self.producers.get(tensor)
        if (
            op is None
            or not self.plain(op, "MUL")
            or not self.has_single_consumer(tensor)
            or not self.is_map(tensor)
        ):
            return None
        inputs = [int(t) for t in op.inputs]
        if sum(self.is_vector(t) for t in inputs) == 1:
            return op
        return next((found for t in inputs if (found := self.gate_product(t)) is not None), None)


class _BiasFolder(_BatchNormFolder):
    def change(self) -> None:
        """Move additions of a constant forward."""
        # By tensor: the bias [C] that is not yet added to it, and the tensor that holds its value without that bias.
        self.pending_bias: dict[int, np.ndarray] = {}
        self.source_of: dict[int, int] = {}
        for op in self.graph.operators:
            pending = [self.pending_bias.get(int(t)) for t in op.inputs]
            inputs = [int(t) for t in op.inputs]
            added = self.match_vector_operand(op, "ADD")
            op.inputs = [self.source_of.get(t, t) for t in inputs]
            if added is not None and self.is_map(added[0]):
                self.fold_bias(op, added[0], added[1])
            elif any(m is not None for m in pending):
                self.propagate_bias(op, inputs, pending)

    def fold_bias(self, op: schema.OperatorT, varies: int, values: np.ndarray) -> None:
        """Remove x + b if all consumers can absorb the bias; otherwise add all pending biases here."""
        out, total = int(op.outputs[0]), values + self.pending_bias.get(varies, np.float64(0))
        if self.can_absorb_bias(out):
            self.removed.add(id(op))
            self.source_of[out], self.pending_bias[out] = self.source_of.get(varies, varies), total
        elif varies in self.pending_bias:
            op.inputs = [self.source_of.get(varies, varies), self.vector(total)]

    def propagate_bias(
        self, op: schema.OperatorT, inputs: list[int], pending: list[np.ndarray | None]
    ) -> None:
        """Compute the pending bias of an operator's output from those of its inputs.

        Args:
            op: An operator that :meth:`can_absorb_bias` has accepted.
            inputs: Its inputs before they were redirected.
            pending: The pending bias [C] of each input, or None.
        """
        operator, kind, out = schema.BuiltinOperator, self.builtin_code(op), int(op.outputs[0])
        if kind == operator.CONV_2D:  # a dense layer behind a mean
            weights, bias, added = self.known_constant(inputs[1]), self.known_constant(inputs[2]), pending[0]
            assert added is not None
            total = bias + weights[:, 0, 0].astype(np.float64) @ added
            op.inputs = [int(op.inputs[0]), inputs[1], self.vector(total)]
            return
        if kind == operator.CONCATENATION:
            parts = [
                np.zeros(self.shape(t)[3]) if m is None else m for t, m in zip(inputs, pending, strict=True)
            ]
            bias_out = np.concatenate(parts)
        elif kind == operator.MUL:  # by a constant vector, behind a mean
            bias_out = pending[0] * self.known_constant(inputs[1]).reshape(-1)
        elif kind in (operator.ADD, operator.SUB):
            one, other = (0.0 if m is None else m for m in pending)
            bias_out = one + other if kind == operator.ADD else one - other
        else:  # a mean
            bias_out = pending[0]
        if not self.is_map(out) or self.can_absorb_bias(out):
            self.pending_bias[out] = bias_out
            return
        whole = self.operator("ADD", [out, self.vector(bias_out)], self.shape(out))
        # The sum takes over the original output tensor, so that its consumers need no change.
        op.outputs, whole.outputs = whole.outputs, [out]
        whole.inputs = [int(op.outputs[0]), whole.inputs[1]]
        self.insert_after(op, whole)

    def can_absorb_bias(self, tensor: int) -> bool:
        """Whether every consumer of a map can take over a constant per channel."""
        readers = self.consumers.get(tensor, [])
        return (
            bool(readers)
            and tensor not in self.graph_outputs
            and all(self._accepts_map_bias(op) for op in readers)
        )

    def _accepts_map_bias(self, op: schema.OperatorT) -> bool:
        operator, kind, out = schema.BuiltinOperator, self.builtin_code(op), int(op.outputs[0])
        if kind == operator.ADD:
            maps = all(
                self._computed_map(int(t)) and self.shape(int(t)) == self.shape(out) for t in op.inputs
            )
            return self.match_vector_operand(op, "ADD") is not None or (maps and not self.activation(op))
        if kind == operator.MEAN:
            axes = self.graph.tensors[int(op.inputs[1])]
            data = self.model.buffers[axes.buffer].data
            over = None if data is None else np.frombuffer(bytes(data), np.int32).tolist()
            return over == [1, 2] and len(self.shape(out)) == 4 and self._consumers_accept_vector_bias(out)
        if kind == operator.AVERAGE_POOL_2D:
            return op.builtinOptions.padding == schema.Padding.VALID and not self.activation(op)
        if kind == operator.CONCATENATION:
            computed = all(self._computed_map(int(t)) for t in op.inputs)
            return computed and op.builtinOptions.axis in (3, -1) and not self.activation(op)
        return False

    def _computed_map(self, tensor: int) -> bool:
        return self.is_map(tensor) and self.constant(tensor) is None

    def _consumers_accept_vector_bias(self, tensor: int) -> bool:
        """Whether a constant added to a tensor [N, 1, 1, C] always ends in the bias of a dense layer."""
        readers = self.consumers.get(tensor, [])
        return bool(readers) and all(self._accepts_vector_bias(op, tensor) for op in readers)

    def _accepts_vector_bias(self, op: schema.OperatorT, tensor: int) -> bool:
        out = int(op.outputs[0])
        if self.plain(op, "MUL"):
            known = self.match_vector_operand(op, "MUL") is not None and int(op.inputs[0]) == tensor
            return known and self._consumers_accept_vector_bias(out)
        if self.plain(op, "ADD") or self.plain(op, "SUB"):
            both = all(self.is_vector(int(t)) and self.shape(int(t)) == self.shape(out) for t in op.inputs)
            return both and self._consumers_accept_vector_bias(out)
        if (
            self.builtin_code(op) != schema.BuiltinOperator.CONV_2D
            or len(op.inputs) != 3
            or int(op.inputs[0]) != tensor
        ):
            return False
        weights, bias = (self.constant(int(t)) for t in op.inputs[1:])
        return weights is not None and bias is not None and weights.shape[1:3] == (1, 1)
