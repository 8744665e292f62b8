"""Writes .tflite models operator by operator, with any attribute, which no converter would emit."""

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers

from bdd_tf.legacy_keras import tf  # noqa: F401 (TensorFlow has to come up with legacy Keras)

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}


class Builder:
    """A model in the making. Tensors are numbers; -1 is an input that is not there."""

    def __init__(self):
        self.tensors, self.operators, self.codes = [], [], {}
        self.buffers = [schema.BufferT()]
        self.inputs, self.outputs = [], []

    def tensor(self, shape, dtype="float32", *, data=None, scale=None, zero_point=0):
        t = schema.TensorT()
        t.shape, t.type, t.name, t.buffer = list(shape), TYPES[dtype], f"t{len(self.tensors)}".encode(), 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self.buffers.append(buffer)
            t.buffer = len(self.buffers) - 1
        if scale is not None:
            t.quantization = schema.QuantizationParametersT()
            t.quantization.scale, t.quantization.zeroPoint = [scale], [zero_point]
        self.tensors.append(t)
        return len(self.tensors) - 1

    def constant(self, data):
        return self.tensor(data.shape, str(data.dtype), data=data)

    def operator(self, name, inputs, outputs, options=None, raw=None):
        op = schema.OperatorT()
        op.opcodeIndex = self.codes.setdefault(name, len(self.codes))
        op.inputs, op.outputs = list(inputs), list(outputs)
        if options is not None and raw is None:
            raw = flexbuffers.Dumps(options)
        op.customOptions = np.frombuffer(bytes(raw), np.uint8) if raw else None
        self.operators.append(op)

    def builtin(self, name, inputs, output, **options):
        """A built-in operator, e.g. builtin("ADD", [a, b], c, activation=1)."""
        op = schema.OperatorT()
        op.opcodeIndex = self.codes.setdefault(name, len(self.codes))
        op.inputs, op.outputs = list(inputs), [output]
        kind = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MEAN": "Reducer", "CONV_2D": "Conv2D",
                "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "FULLY_CONNECTED": "FullyConnected", "SOFTMAX": "Softmax",
                "AVERAGE_POOL_2D": "Pool2D", "MAX_POOL_2D": "Pool2D", "CONCATENATION": "Concatenation",
                "STRIDED_SLICE": "StridedSlice", "MIRROR_PAD": "MirrorPad"}.get(name)  # fmt: skip
        if kind:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
            op.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            for key, value in options.items():
                field = "fusedActivationFunction" if key == "activation" else key
                assert hasattr(op.builtinOptions, field), field
                setattr(op.builtinOptions, field, value)
        self.operators.append(op)
        return output

    def build(self):
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = self.inputs, self.outputs
        model = schema.ModelT()
        model.version, model.buffers, model.subgraphs = 3, self.buffers, [graph]
        model.operatorCodes = []
        for name in self.codes:
            code = schema.OperatorCodeT()
            number = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
            code.builtinCode = code.deprecatedBuiltinCode = number
            code.customCode = name.encode() if number == schema.BuiltinOperator.CUSTOM else None
            code.version = {"MEAN": 2, "DEQUANTIZE": 3}.get(name, 1)
            model.operatorCodes.append(code)
        out = flatbuffers.Builder(1024)
        out.Finish(model.Pack(out), b"TFL3")
        return bytes(out.Output())
