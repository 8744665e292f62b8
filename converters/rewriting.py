"""Rewriting a .tflite file's graph, with the schema's object interface.

What is made here names only what is needed to run: inner tensors have no names.
"""

from __future__ import annotations

import flatbuffers
import numpy as np

from bdd_tf.legacy_keras import tf  # noqa: F401 (TensorFlow has to come up with legacy Keras)

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: Bytes; the schema's ``force_align`` of a buffer's data.
_ALIGNMENT = 16
#: Of int8 on either side of 0.
LEVELS = 127


def rewrite(content: bytes, *kinds: type[Rewriter]) -> bytes:
    """Change each graph of a file.

    Args:
        content: A .tflite file.
        kinds: What to change, one after the other, each as its :meth:`Rewriter.change`.

    Returns:
        The changed file.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for graph in model.subgraphs:
        for kind in kinds:
            rewriter = kind(model, graph)
            rewriter.change()
            rewriter.finish()
    _share_buffers(model)
    return pack(model, len(content))


def pack(model: schema.ModelT, size: int) -> bytes:
    """A model as a .tflite file; `size`: about how many bytes it will have.

    What occurs more than once (shapes, attributes of operators) is written once, and constants begin at multiples
    of 16 bytes, as the format asks for.
    """
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.shape = _whole_numbers(tensor.shape)
        for op in graph.operators:
            op.inputs, op.outputs = _whole_numbers(op.inputs), _whole_numbers(op.outputs)
            if op.builtinOptions is not None:
                op.builtinOptions = _Once(op.builtinOptions)
    builder = _Builder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _whole_numbers(values: list[int] | np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.int32)


class _Builder(flatbuffers.Builder):
    """Writes equal vectors and, through `_Once`, equal tables once."""

    def __init__(self, size: int):
        super().__init__(size)
        self.written: dict[tuple, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """An array's place in the file."""
        key = (x.dtype.str, x.tobytes())
        if key not in self.written:
            if x.dtype == np.uint8:
                self.Prep(_ALIGNMENT, x.size)
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]


class _Once:
    """Attributes of an operator that are written where nothing equal was."""

    def __init__(self, attributes: object):
        self.attributes = attributes

    def Pack(self, builder: _Builder) -> int:
        # 0, False and NumPy's zeros are equal keys, as they are equal in the file.
        values = (tuple(v) if isinstance(v, list | np.ndarray) else v for v in vars(self.attributes).values())
        key = (type(self.attributes).__name__, *values)
        if key not in builder.written:
            builder.written[key] = self.attributes.Pack(builder)
        return builder.written[key]


def _share_buffers(model: schema.ModelT) -> None:
    """Keep one of constants of the same bytes, and no buffer that nobody reads."""
    kept, place = [model.buffers[0]], {}  # by the format's rule the first is empty
    holders = [t for graph in model.subgraphs for t in graph.tensors] + list(model.metadata or [])
    for holder in holders:
        data = model.buffers[holder.buffer].data
        if data is None or len(data) == 0:
            holder.buffer = 0
            continue
        key = bytes(data)
        if key not in place:
            place[key] = len(kept)
            kept.append(model.buffers[holder.buffer])
        holder.buffer = place[key]
    model.buffers = kept


class Rewriter:
    """Changes one graph of a model.

    Attributes:
        model: The model that the graph belongs to; its buffers and operator codes grow.
        graph: The graph.
        made: By tensor, the operator that computes it.
        readers: By tensor, the operators that read it.
        outside: Tensors that are read outside the graph.
        first: Operators to run before all others.
        behind: By ``id`` of an operator, those to run right behind it.
        gone: ``id`` of each operator that is left out.
    """

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT) -> None:
        self.model, self.graph = model, graph
        self.made = {int(op.outputs[0]): op for op in graph.operators if len(op.outputs) == 1}
        self.readers: dict[int, list[schema.OperatorT]] = {}
        for op in graph.operators:
            for tensor in op.inputs:
                self.readers.setdefault(int(tensor), []).append(op)
        self.outside = {int(t) for t in graph.outputs}
        self.first: list[schema.OperatorT] = []
        self.behind: dict[int, list[schema.OperatorT]] = {}
        self.gone: set[int] = set()

    def change(self) -> None:
        """What to do with the graph."""
        raise NotImplementedError

    def code(self, op: schema.OperatorT) -> int:
        """The builtin operator's number."""
        entry = self.model.operatorCodes[op.opcodeIndex]
        return max(entry.builtinCode, entry.deprecatedBuiltinCode)

    def plain(self, op: schema.OperatorT, builtin: str) -> bool:
        """Whether an operator is of a kind and has no activation of its own."""
        return self.code(op) == getattr(schema.BuiltinOperator, builtin) and not self.activation(op)

    @staticmethod
    def activation(op: schema.OperatorT) -> int:
        """The activation that an operator applies to its result; 0 for none."""
        return getattr(op.builtinOptions, "fusedActivationFunction", 0)

    def only_reader(self, tensor: int) -> bool:
        """Whether one operator reads a computed tensor, once, and nobody outside the graph does."""
        return len(self.readers.get(tensor, [])) == 1 and tensor not in self.outside

    def shape(self, tensor: int) -> list[int]:
        """Sizes of a tensor."""
        shape = self.graph.tensors[tensor].shape
        return [] if shape is None else [int(n) for n in shape]

    def constant(self, tensor: int) -> np.ndarray | None:
        """A constant's values [...]; None where the tensor is no float32 constant."""
        entry = self.graph.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if entry.type != schema.TensorType.FLOAT32 or data is None or len(data) == 0:
            return None
        return np.frombuffer(bytes(data), np.float32).reshape(self.shape(tensor))

    def tensor(self, shape: tuple[int, ...] | list[int], kind: int, data: np.ndarray | None) -> int:
        """Add a tensor, a constant where there is data; its number."""
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = [int(n) for n in shape], kind, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def vector(self, values: np.ndarray) -> int:
        """Add a constant float32 [C]; its number."""
        return self.tensor([len(values)], schema.TensorType.FLOAT32, values.astype(np.float32))

    def bytes_of(self, values: np.ndarray) -> int:
        """Constants of int8 with one scale, unpacked; the tensor of floats."""
        scale = float(np.abs(values).max()) / LEVELS or 1.0
        return self.unpacked(np.rint(values / scale).astype(np.int8), scale)

    def unpacked(self, values: np.ndarray, scale: float | None = None) -> int:
        """What a DEQUANTIZE, which runs before all else, makes of constants: int8 times a scale, or float16."""
        kind = schema.TensorType.FLOAT16 if scale is None else schema.TensorType.INT8
        stored = self.tensor(values.shape, kind, values)
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint = np.array([scale], np.float32), np.zeros(1, np.int64)
            self.graph.tensors[stored].quantization = quantization
        unpack = self.operator("DEQUANTIZE", [stored], values.shape, version=3 if scale is None else 2)
        self.first.append(unpack)
        return int(unpack.outputs[0])

    def opcode(self, builtin: int, version: int) -> int:
        """The place of an operator among the model's codes, added where it is new."""
        for number, entry in enumerate(self.model.operatorCodes):
            if max(entry.builtinCode, entry.deprecatedBuiltinCode) == builtin:
                entry.version = max(entry.version, version)
                return number
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = builtin
        entry.version = version
        self.model.operatorCodes.append(entry)
        return len(self.model.operatorCodes) - 1

    def operator(
        self, builtin: str, inputs: list[int], shape: tuple[int, ...] | list[int], version: int = 1
    ) -> schema.OperatorT:
        """A new operator with one float32 output of its own; it still has to be put in its place.

        Args:
            builtin: Name; ADD, MUL and SUB have their plain options.
            inputs: Tensors.
            shape: Of the output.
            version: Of the operator, at least.
        """
        op = schema.OperatorT()
        op.opcodeIndex = self.opcode(getattr(schema.BuiltinOperator, builtin), version)
        op.inputs, op.outputs = inputs, [self.tensor(shape, schema.TensorType.FLOAT32, None)]
        if builtin in ("ADD", "MUL", "SUB"):
            op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{builtin.title()}Options")
            op.builtinOptions = getattr(schema, f"{builtin.title()}OptionsT")()
        return op

    def put_behind(self, op: schema.OperatorT, new: schema.OperatorT) -> None:
        """Let a new operator run behind another one, and behind those that were put there before."""
        self.behind.setdefault(id(op), []).append(new)

    def finish(self) -> None:
        """Put new operators in their places and leave out tensors that nobody reads any more."""
        operators = list(self.first)
        for op in self.graph.operators:
            operators += ([] if id(op) in self.gone else [op]) + self.behind.get(id(op), [])
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
