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

from bdd_tf.legacy_keras import tf  # noqa: F401 (TensorFlow has to come up with legacy Keras)

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: Fewer weights than this are not worth their operators.
_SMALLEST = 1024
_LEVELS = 127


def shrink(content: bytes) -> bytes:
    """Rewrite a file with int8 gates and without names of inner tensors.

    Args:
        content: A .tflite file with float32 weights.

    Returns:
        A file that computes the same but for the rounding of weights, by at most 1/254 of the largest weight of
        the same output channel. Gates that are not of the known form are left as they are.
    """
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for graph in model.subgraphs:
        rewriter = _Rewriter(model, graph)
        for squeeze, excite, activation in rewriter.gates():
            rewriter.quantize(squeeze, excite, activation)
        rewriter.mix_with_one_vector()
        rewriter.finish()
        for number, tensor in enumerate(graph.tensors):
            if number in graph.inputs or number in graph.outputs:
                continue
            tensor.name = tensor.shapeSignature = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Rewriter:
    """Changes one graph of a model."""

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT) -> None:
        self.model, self.graph = model, graph
        self.made = {int(op.outputs[0]): op for op in graph.operators if len(op.outputs) == 1}
        self.readers: dict[int, int] = {}
        for op in graph.operators:
            for tensor in op.inputs:
                self.readers[int(tensor)] = self.readers.get(int(tensor), 0) + 1
        self.first: list[schema.OperatorT] = []  # operators to run before all others
        self.behind: dict[int, schema.OperatorT] = {}  # by id of the operator that it follows
        self.gone: set[int] = set()  # ids of operators that are left out

    def code(self, op: schema.OperatorT) -> int:
        entry = self.model.operatorCodes[op.opcodeIndex]
        return max(entry.builtinCode, entry.deprecatedBuiltinCode)

    def shape(self, tensor: int) -> list[int]:
        shape = self.graph.tensors[tensor].shape
        return [] if shape is None else [int(n) for n in shape]

    def constant(self, tensor: int) -> np.ndarray | None:
        """A constant's values [...]; None where the tensor is no float32 constant."""
        entry = self.graph.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if entry.type != schema.TensorType.FLOAT32 or data is None or len(data) == 0:
            return None
        return np.frombuffer(bytes(data), np.float32).reshape(self.shape(tensor))

    def gates(self) -> list[tuple[schema.OperatorT, schema.OperatorT, schema.OperatorT]]:
        """Two dense layers of 1x1 maps, ReLU between them, a logistic behind; nobody else reads in between."""
        operator = schema.BuiltinOperator
        found = []
        for activation in self.graph.operators:
            if self.code(activation) != operator.LOGISTIC:
                continue
            excite = self._dense(int(activation.inputs[0]), schema.ActivationFunctionType.NONE)
            squeeze = excite and self._dense(int(excite.inputs[0]), schema.ActivationFunctionType.RELU)
            if squeeze and self.constant(int(squeeze.inputs[1])).size >= _SMALLEST:
                found.append((squeeze, excite, activation))
        return found

    def _dense(self, tensor: int, activation: int) -> schema.OperatorT | None:
        op = self.made.get(tensor)
        if op is None or self.code(op) != schema.BuiltinOperator.CONV_2D or self.readers.get(tensor) != 1:
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
        scale = self._replace(excite, scale)
        shape = self.shape(int(excite.outputs[0]))
        scaled = self._tensor(shape, schema.TensorType.FLOAT32, None)
        multiply = schema.OperatorT()
        multiply.opcodeIndex = self._opcode(schema.BuiltinOperator.MUL, 1)
        multiply.inputs = [
            int(excite.outputs[0]),
            self._tensor([len(scale)], schema.TensorType.FLOAT32, scale),
        ]
        multiply.outputs = [scaled]
        multiply.builtinOptionsType = schema.BuiltinOptions.MulOptions
        multiply.builtinOptions = schema.MulOptionsT()
        activation.inputs = [scaled]
        self.behind[id(excite)] = multiply

    def mix_with_one_vector(self) -> None:
        """Rewrite sums of two means whose weights add up to 1."""
        operator = schema.BuiltinOperator
        for total in self.graph.operators:
            if self.code(total) != operator.ADD or total.builtinOptions.fusedActivationFunction:
                continue
            parts = [self._weighted(int(tensor)) for tensor in total.inputs]
            if None in parts or self.shape(int(total.outputs[0]))[1:3] != [1, 1]:
                continue
            (first, x, a), (second, y, b) = parts
            if a.shape != b.shape or not np.array_equal(b, np.float32(1) - a):
                continue
            shape = self.shape(int(total.outputs[0]))
            difference = self._tensor(shape, schema.TensorType.FLOAT32, None)
            scaled = schema.OperatorT()
            scaled.opcodeIndex, scaled.builtinOptionsType = second.opcodeIndex, second.builtinOptionsType
            scaled.builtinOptions = second.builtinOptions
            scaled.inputs, scaled.outputs = [difference, int(first.inputs[1])], list(second.outputs)
            self.gone.add(id(first))
            second.opcodeIndex = self._opcode(operator.SUB, 1)
            second.builtinOptionsType, second.builtinOptions = (
                schema.BuiltinOptions.SubOptions,
                schema.SubOptionsT(),
            )
            second.inputs, second.outputs = [x, y], [difference]
            self.behind[id(second)] = scaled
            total.inputs = [int(scaled.outputs[0]), y]

    def _weighted(self, tensor: int) -> tuple[schema.OperatorT, int, np.ndarray] | None:
        """The product of a tensor and a constant vector, read once: operator, tensor, vector."""
        op = self.made.get(tensor)
        if op is None or self.code(op) != schema.BuiltinOperator.MUL or self.readers.get(tensor) != 1:
            return None
        vector = self.constant(int(op.inputs[1]))
        if (
            vector is None
            or op.builtinOptions.fusedActivationFunction
            or id(op) in self.gone | set(self.behind)
        ):
            return None
        return op, int(op.inputs[0]), vector

    def _replace(self, op: schema.OperatorT, columns: np.ndarray | float) -> np.ndarray:
        """Int8 weights and a bias for a layer whose input is `columns` times too small; its own scale [O]."""
        weights = self.constant(int(op.inputs[1])) * columns
        bias = self.constant(int(op.inputs[2]))
        scale = np.abs(weights).max(axis=(1, 2, 3)) / _LEVELS
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        levels = np.rint(weights / scale[:, None, None, None]).astype(np.int8)
        stored = self._tensor(levels.shape, schema.TensorType.INT8, levels)
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [1.0], [0]
        self.graph.tensors[stored].quantization = quantization
        unpack = schema.OperatorT()
        unpack.opcodeIndex = self._opcode(schema.BuiltinOperator.DEQUANTIZE, 2)
        unpack.inputs, unpack.outputs = (
            [stored],
            [self._tensor(levels.shape, schema.TensorType.FLOAT32, None)],
        )
        self.first.append(unpack)
        bias = self._tensor(bias.shape, schema.TensorType.FLOAT32, (bias / scale).astype(np.float32))
        op.inputs = [int(op.inputs[0]), unpack.outputs[0], bias]
        return scale

    def _tensor(self, shape: tuple[int, ...] | list[int], kind: int, data: np.ndarray | None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = [int(n) for n in shape], kind, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _opcode(self, builtin: int, version: int) -> int:
        for number, entry in enumerate(self.model.operatorCodes):
            if max(entry.builtinCode, entry.deprecatedBuiltinCode) == builtin:
                entry.version = max(entry.version, version)
                return number
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = builtin
        entry.version = version
        self.model.operatorCodes.append(entry)
        return len(self.model.operatorCodes) - 1

    def finish(self) -> None:
        """Put new operators in their places and empty the buffers that nobody reads any more."""
        operators = list(self.first)
        for op in self.graph.operators:
            if id(op) in self.gone:
                continue
            operators.append(op)
            if id(op) in self.behind:
                operators.append(self.behind[id(op)])
        self.graph.operators = operators
        used = {int(t) for op in operators for t in [*op.inputs, *op.outputs]}
        used |= {int(t) for t in [*self.graph.inputs, *self.graph.outputs]}
        kept = sorted(used - {-1})
        place = {old: new for new, old in enumerate(kept)} | {-1: -1}
        self.graph.tensors = [self.graph.tensors[t] for t in kept]
        for op in operators:
            op.inputs = [place[int(t)] for t in op.inputs]
            op.outputs = [place[int(t)] for t in op.outputs]
        self.graph.inputs = [place[int(t)] for t in self.graph.inputs]
        self.graph.outputs = [place[int(t)] for t in self.graph.outputs]
        for signature in self.model.signatureDefs or []:
            for entry in [*signature.inputs, *signature.outputs]:
                entry.tensorIndex = place[int(entry.tensorIndex)]
        in_use = {t.buffer for graph in self.model.subgraphs for t in graph.tensors}
        in_use |= {entry.buffer for entry in self.model.metadata or []}
        for number, buffer in enumerate(self.model.buffers):
            if number not in in_use:
                buffer.data = None
