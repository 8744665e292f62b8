"""Edit the graph of a .tflite file through the object API of TensorFlow Lite's schema.

New tensors have no names: they are not needed to run a model.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from bdd_tf.legacy_keras import tf  # noqa: F401 (selects legacy Keras before TensorFlow is imported)

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: Alignment of a buffer's data in bytes: the schema's ``force_align``.
_ALIGNMENT = 16
#: Largest value of a symmetric int8.
LEVELS = 127


def rewrite(content: bytes, *kinds: type[Rewriter]) -> bytes:
    """Apply rewriters to each graph of a file.

    Args:
        content: A .tflite file.
        kinds: The rewriters, applied in this order.

    Returns:
        The rewritten file.
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
    """Serialize a model.

    Equal shapes and equal operator options are written once. Constants are aligned to 16 bytes, as the format requires.

    Args:
        model: The model.
        size: Approximate size of the file in bytes.

    Returns:
        A .tflite file.
    """
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.shape = _whole_numbers(tensor.shape)
        for op in graph.operators:
            op.inputs, op.outputs = _whole_numbers(op.inputs), _whole_numbers(op.outputs)
            if op.builtinOptions is not None:
                op.builtinOptions = _SharedOptions(op.builtinOptions)
    builder = _Builder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _whole_numbers(values: list[int] | np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.int32)


class _Builder(flatbuffers.Builder):
    """A FlatBuffers builder that writes equal vectors once and, through `_SharedOptions`, equal tables once."""

    def __init__(self, size: int):
        super().__init__(size)
        self.written: dict[tuple, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """Write an array, unless an equal one was written; return its offset."""
        key = (x.dtype.str, x.tobytes())
        if key not in self.written:
            if x.dtype == np.uint8:
                self.Prep(_ALIGNMENT, x.size)
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]


class _SharedOptions:
    """Operator options that are written once per distinct value."""

    def __init__(self, attributes: Any):
        self.attributes = attributes

    def Pack(self, builder: _Builder) -> int:
        # 0, False and NumPy's zeros are equal keys, as they are equal in the file.
        values = (tuple(v) if isinstance(v, list | np.ndarray) else v for v in vars(self.attributes).values())
        key = (type(self.attributes).__name__, *values)
        if key not in builder.written:
            builder.written[key] = self.attributes.Pack(builder)
        return builder.written[key]


def _share_buffers(model: schema.ModelT) -> None:
    """Merge buffers with equal content and drop unused ones."""
    kept, place = [model.buffers[0]], {}  # the format reserves the first buffer, which is empty
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
    """Base class of passes that change one graph of a model.

    Attributes:
        model: The model that the graph belongs to. New buffers and operator codes are added to it.
        graph: The graph.
        producers: By tensor, the operator that computes it.
        consumers: By tensor, the operators that read it.
        graph_outputs: The graph's output tensors.
        prologue: New operators that run before all others.
        inserted_after: By ``id`` of an operator, new operators that run right after it.
        removed: ``id`` of each removed operator.
    """

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT) -> None:
        self.model, self.graph = model, graph
        self.producers = {int(op.outputs[0]): op for op in graph.operators if len(op.outputs) == 1}
        self.consumers: dict[int, list[schema.OperatorT]] = {}
        for op in graph.operators:
            for tensor in op.inputs:
                self.consumers.setdefault(int(tensor), []).append(op)
        self.graph_outputs = {int(t) for t in graph.outputs}
        self.prologue: list[schema.OperatorT] = []
        self.inserted_after: dict[int, list[schema.OperatorT]] = {}
        self.removed: set[int] = set()

    def change(self) -> None:
        """Change the graph. Subclasses implement this."""
        raise NotImplementedError

    def builtin_code(self, op: schema.OperatorT) -> int:
        """Return an operator's BuiltinOperator code."""
        entry = self.model.operatorCodes[op.opcodeIndex]
        return max(entry.builtinCode, entry.deprecatedBuiltinCode)

    def plain(self, op: schema.OperatorT, builtin: str) -> bool:
        """Whether an operator has the given builtin name and no fused activation."""
        return self.builtin_code(op) == getattr(schema.BuiltinOperator, builtin) and not self.activation(op)

    @staticmethod
    def activation(op: schema.OperatorT) -> int:
        """Return an operator's fused activation; 0 is none."""
        return getattr(op.builtinOptions, "fusedActivationFunction", 0)

    def has_single_consumer(self, tensor: int) -> bool:
        """Whether a tensor is read exactly once and is not a graph output."""
        return len(self.consumers.get(tensor, [])) == 1 and tensor not in self.graph_outputs

    def shape(self, tensor: int) -> list[int]:
        """Return a tensor's dimensions."""
        shape = self.graph.tensors[tensor].shape
        return [] if shape is None else [int(n) for n in shape]

    def constant(self, tensor: int) -> np.ndarray | None:
        """Return a constant's values in the tensor's shape; None if it is not a float32 constant."""
        entry = self.graph.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if entry.type != schema.TensorType.FLOAT32 or data is None or len(data) == 0:
            return None
        return np.frombuffer(bytes(data), np.float32).reshape(self.shape(tensor))

    def known_constant(self, tensor: int) -> np.ndarray:
        """Return the values of a tensor that was found to be a float32 constant."""
        values = self.constant(tensor)
        assert values is not None
        return values

    def tensor(self, shape: tuple[int, ...] | list[int], kind: int, data: np.ndarray | None) -> int:
        """Add a tensor, which is a constant if data is given; return its index."""
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
        """Add a constant float32 [C]; return its index."""
        return self.tensor([len(values)], schema.TensorType.FLOAT32, values.astype(np.float32))

    def int8_constant(self, values: np.ndarray) -> int:
        """Add a constant as int8 with one scale; return the float32 tensor that its DEQUANTIZE computes."""
        scale = float(np.abs(values).max()) / LEVELS or 1.0
        return self.dequantized(np.rint(values / scale).astype(np.int8), scale)

    def dequantized(self, values: np.ndarray, scale: float | None = None) -> int:
        """Add a constant and a DEQUANTIZE that runs before all other operators.

        Args:
            values: int8 if `scale` is given, else float16.
            scale: Scale of int8 values; their zero point is 0.

        Returns:
            Index of the float32 tensor that the DEQUANTIZE computes.
        """
        kind = schema.TensorType.FLOAT16 if scale is None else schema.TensorType.INT8
        stored = self.tensor(values.shape, kind, values)
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint = np.array([scale], np.float32), np.zeros(1, np.int64)
            self.graph.tensors[stored].quantization = quantization
        unpack = self.operator("DEQUANTIZE", [stored], values.shape, version=3 if scale is None else 2)
        self.prologue.append(unpack)
        return int(unpack.outputs[0])

    def opcode(self, builtin: int, version: int) -> int:
        """Return the index of a builtin operator in the model's operator codes; add it if it is missing."""
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
        """Make an operator with a new float32 output. The caller adds it to the graph, e.g. with :meth:`insert_after`.

        Args:
            builtin: Name of the builtin operator. ADD, MUL and SUB get default options.
            inputs: Indices of the input tensors.
            shape: Shape of the output.
            version: Lowest version of the operator.
        """
        op = schema.OperatorT()
        op.opcodeIndex = self.opcode(getattr(schema.BuiltinOperator, builtin), version)
        op.inputs, op.outputs = inputs, [self.tensor(shape, schema.TensorType.FLOAT32, None)]
        if builtin in ("ADD", "MUL", "SUB"):
            op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{builtin.title()}Options")
            op.builtinOptions = getattr(schema, f"{builtin.title()}OptionsT")()
        return op

    def insert_after(self, op: schema.OperatorT, new: schema.OperatorT) -> None:
        """Insert a new operator after `op` and after the operators that were inserted there before."""
        self.inserted_after.setdefault(id(op), []).append(new)

    def finish(self) -> None:
        """Apply the insertions and removals, and drop unused tensors."""
        operators = list(self.prologue)
        for op in self.graph.operators:
            operators += ([] if id(op) in self.removed else [op]) + self.inserted_after.get(id(op), [])
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
