"""Takes work off full-size maps in a .tflite file: what a vector can do is done to vectors.

The converter turns each batch normalisation behind a gate into a product and a sum over the whole map. Neither is
needed:

    gain (gate y)           = (gain gate) y: the product is of two vectors. Also with a residual that multiplies.
    sign((x + b) + m)       = sign(x + (b + m)): a sum moves forward until it costs nothing: through sums of maps,
    mean(x + b)             = mean(x) + b        mean pools and concatenations, into the threshold of a sign, and
    relu(W (x + b) + c)     = relu(W x + (c + W b))   behind a mean into the next dense layer's bias

A sum stops where something else reads it (PReLU), once for all that it gathered on the way. Results differ by rounding
alone. The paper's formula is the same function (arXiv 2211.12933, section 3.2), in its own order.
"""

from __future__ import annotations

import numpy as np

from converters.rewriting import Rewriter, rewrite

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip


def fold(content: bytes) -> bytes:
    """Rewrite a file so that gains and biases behind gates act on vectors.

    Args:
        content: A .tflite file with float32 constants.

    Returns:
        A file that computes the same up to the rounding of float32, with fewer operators. What is not of the known
        form stays as it is.
    """
    return rewrite(content, _Gains, _Biases)


class _Forms(Rewriter):
    """What both rewriters recognise."""

    def is_map(self, tensor: int) -> bool:
        """Whether a tensor is [N, H, W, C] of more than one pixel."""
        shape = self.shape(tensor)
        return len(shape) == 4 and shape[1] * shape[2] > 1

    def is_vector(self, tensor: int) -> bool:
        """Whether a computed tensor is [N, 1, 1, C]."""
        shape = self.shape(tensor)
        return len(shape) == 4 and shape[1] * shape[2] == 1 and tensor in self.made

    def with_vector(self, op: schema.OperatorT, builtin: str) -> tuple[int, np.ndarray] | None:
        """Of a sum or product with a constant [C]: the other input, and the constant."""
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


class _Gains(_Forms):
    def change(self) -> None:
        """Move products with a constant from maps to the gates that scale these."""
        for op in self.graph.operators:
            found, out = self.with_vector(op, "MUL"), int(op.outputs[0])
            if found is None or out in self.outside or not self.is_map(found[0]):
                continue
            product = self.gated(found[0])
            if product is None:
                continue
            gate = next(int(t) for t in product.inputs if self.is_vector(int(t)))
            scaled = self.operator("MUL", [gate, self.vector(found[1])], self.shape(gate))
            self.put_behind(self.made[gate], scaled)
            product.inputs = [int(scaled.outputs[0]) if int(t) == gate else int(t) for t in product.inputs]
            self.gone.add(id(op))
            for reader in self.readers.get(out, []):
                reader.inputs = [found[0] if int(t) == out else int(t) for t in reader.inputs]
            self.readers[found[0]] = self.readers.pop(out, [])

    def gated(self, tensor: int) -> schema.OperatorT | None:
        """The product of a map and a gate that a map is made of, through further products; read once on the way."""
        op = self.made.get(tensor)
        if op is None or not self.plain(op, "MUL") or not self.only_reader(tensor) or not self.is_map(tensor):
            return None
        inputs = [int(t) for t in op.inputs]
        if sum(self.is_vector(t) for t in inputs) == 1:
            return op
        return next((found for t in inputs if (found := self.gated(t)) is not None), None)


class _Biases(_Forms):
    def change(self) -> None:
        """Move sums with a constant forward."""
        # What a tensor lacks of its value, [C], and where the rest is computed.
        self.lacks: dict[int, np.ndarray] = {}
        self.place: dict[int, int] = {}
        for op in self.graph.operators:
            missing = [self.lacks.get(int(t)) for t in op.inputs]
            was = [int(t) for t in op.inputs]
            added = self.with_vector(op, "ADD")
            op.inputs = [self.place.get(t, t) for t in was]
            if added is not None and self.is_map(added[0]):
                self.sum_with_vector(op, added[0], added[1])
            elif any(m is not None for m in missing):
                self.pass_on(op, was, missing)

    def sum_with_vector(self, op: schema.OperatorT, varies: int, values: np.ndarray) -> None:
        """x + b: gone where its readers take the rest, else everything that is lacking is added here."""
        out, total = int(op.outputs[0]), values + self.lacks.get(varies, np.float64(0))
        if self.absorbs(out):
            self.gone.add(id(op))
            self.place[out], self.lacks[out] = self.place.get(varies, varies), total
        elif varies in self.lacks:
            op.inputs = [self.place.get(varies, varies), self.vector(total)]

    def pass_on(self, op: schema.OperatorT, was: list[int], missing: list[np.ndarray | None]) -> None:
        """What the result lacks if an operator reads values that lack something."""
        operator, kind, out = schema.BuiltinOperator, self.code(op), int(op.outputs[0])
        if kind == operator.CONV_2D:  # behind a mean
            weights, bias = self.constant(was[1]), self.constant(was[2])
            bias = bias + weights[:, 0, 0].astype(np.float64) @ missing[0]
            op.inputs = [int(op.inputs[0]), was[1], self.vector(bias)]
            return
        if kind == operator.CONCATENATION:
            parts = [
                np.zeros(self.shape(t)[3]) if m is None else m for t, m in zip(was, missing, strict=True)
            ]
            lacks = np.concatenate(parts)
        elif kind == operator.MUL:  # with a constant vector, behind a mean
            lacks = missing[0] * self.constant(was[1]).reshape(-1)
        elif kind in (operator.ADD, operator.SUB):
            one, other = (0.0 if m is None else m for m in missing)
            lacks = one + other if kind == operator.ADD else one - other
        else:  # a mean
            lacks = missing[0]
        if not self.is_map(out) or self.absorbs(out):
            self.lacks[out] = lacks
            return
        whole = self.operator("ADD", [out, self.vector(lacks)], self.shape(out))
        # The sum takes the name of the value, for those that read it.
        op.outputs, whole.outputs = whole.outputs, [out]
        whole.inputs = [int(op.outputs[0]), whole.inputs[1]]
        self.put_behind(op, whole)

    def absorbs(self, tensor: int) -> bool:
        """Whether all that read a map can do without a constant per channel."""
        readers = self.readers.get(tensor, [])
        return bool(readers) and tensor not in self.outside and all(self._map_reader(op) for op in readers)

    def _map_reader(self, op: schema.OperatorT) -> bool:
        operator, kind, out = schema.BuiltinOperator, self.code(op), int(op.outputs[0])
        if kind == operator.ADD:
            maps = all(
                self._computed_map(int(t)) and self.shape(int(t)) == self.shape(out) for t in op.inputs
            )
            return self.with_vector(op, "ADD") is not None or (maps and not self.activation(op))
        if kind == operator.MEAN:
            axes = self.graph.tensors[int(op.inputs[1])]
            data = self.model.buffers[axes.buffer].data
            over = None if data is None else np.frombuffer(bytes(data), np.int32).tolist()
            return over == [1, 2] and len(self.shape(out)) == 4 and self._vector_readers(out)
        if kind == operator.AVERAGE_POOL_2D:
            return op.builtinOptions.padding == schema.Padding.VALID and not self.activation(op)
        if kind == operator.CONCATENATION:
            computed = all(self._computed_map(int(t)) for t in op.inputs)
            return computed and op.builtinOptions.axis in (3, -1) and not self.activation(op)
        return False

    def _computed_map(self, tensor: int) -> bool:
        return self.is_map(tensor) and self.constant(tensor) is None

    def _vector_readers(self, tensor: int) -> bool:
        """Whether a constant added to [N, 1, 1, C] ends in the biases of dense layers."""
        readers = self.readers.get(tensor, [])
        return bool(readers) and all(self._vector_reader(op, tensor) for op in readers)

    def _vector_reader(self, op: schema.OperatorT, tensor: int) -> bool:
        out = int(op.outputs[0])
        if self.plain(op, "MUL"):
            known = self.with_vector(op, "MUL") is not None and int(op.inputs[0]) == tensor
            return known and self._vector_readers(out)
        if self.plain(op, "ADD") or self.plain(op, "SUB"):
            both = all(self.is_vector(int(t)) and self.shape(int(t)) == self.shape(out) for t in op.inputs)
            return both and self._vector_readers(out)
        if (
            self.code(op) != schema.BuiltinOperator.CONV_2D
            or len(op.inputs) != 3
            or int(op.inputs[0]) != tensor
        ):
            return False
        weights, bias = (self.constant(int(t)) for t in op.inputs[1:])
        return weights is not None and bias is not None and weights.shape[1:3] == (1, 1)
