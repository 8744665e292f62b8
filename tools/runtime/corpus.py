"""Writes models in a plain form that the C++ host reads: `python -m tools.runtime.corpus OUT [MODEL.tflite ...]`.

All cases of operators with their inputs and expected outputs; of further files, each binary operator by itself.
"""

import struct
import sys
from pathlib import Path

from bdd_tf.edge.runtime import interpreter_module, lce_delegate
from tests.edge.runtime.channel_nets import CASES, build
from tests.edge.runtime.fused_nets import NETS
from tests.edge.runtime.fused_nets import fed as numbers_like
from tests.edge.runtime.operator_cases import all_cases
from tests.edge.runtime.tflite_builder import schema

MAGIC = 0x42444446
TYPES = {0: 1, 1: 10, 2: 2, 3: 3, 6: 6, 9: 9}  # to TfLiteType
LARGEST = 1 << 16  # bytes of constants: larger cases would make the fuzzer slow


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def numbers(values):
    values = [int(v) for v in (values if values is not None else [])]
    return struct.pack(f"<I{len(values)}i", len(values), *values)


def blob(data):
    return struct.pack("<I", len(data)) + data


#: Fields of built-in operators' parameters in TFLite's structs, in their order.
PARAMETERS = {
    "Add": ["fusedActivationFunction"], "Sub": ["fusedActivationFunction"], "Mul": ["fusedActivationFunction"],
    "Reducer": ["keepDims"], "Concatenation": ["axis", "fusedActivationFunction"],
    "Conv2D": ["padding", "strideW", "strideH", "fusedActivationFunction", "dilationWFactor", "dilationHFactor"],
    "StridedSlice": ["beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"],
    "MirrorPad": ["mode"], "Pool2D": ["padding", "strideW", "strideH", "filterWidth", "filterHeight", "fusedActivationFunction"],
}  # fmt: skip


def parameters(op):
    """What the runtime would make of a built-in operator's options: integers."""
    if op.builtinOptions is None:
        return []
    kind = type(op.builtinOptions).__name__.removesuffix("OptionsT")
    values = [int(getattr(op.builtinOptions, name)) for name in PARAMETERS.get(kind, ())]
    if kind in ("Conv2D", "Pool2D", "MirrorPad"):
        values[0] += 1  # TfLitePadding and TfLiteMirrorPaddingMode begin with "unknown"
    return values


def cases_of(content, single):
    """(tensors, nodes, inputs, outputs) of a file, or of each of its binary operators."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    names = [text(c.customCode) or "" for c in model.operatorCodes]
    tensors = []
    for t in graph.tensors:
        if t.type not in TYPES:
            tensors.append(None)
            continue
        data = model.buffers[t.buffer].data
        data = bytes(data) if data is not None else b""
        q = t.quantization
        scale, zero = (
            (q.scale[0], int(q.zeroPoint[0])) if q and q.scale is not None and len(q.scale) else (0.0, 0)
        )
        tensors.append((TYPES[t.type], numbers(t.shape), float(scale), zero, data))
    nodes = [op for op in graph.operators if not single or names[op.opcodeIndex].startswith("Lce")]
    groups = [[op] for op in nodes] if single else [nodes]
    for group in groups:
        used = sorted({i for op in group for i in [*op.inputs, *op.outputs] if i >= 0})
        if any(tensors[i] is None for i in used) or sum(len(tensors[i][4]) for i in used) > LARGEST:
            continue
        place = {old: new for new, old in enumerate(used)} | {-1: -1}
        listed = [
            (names[op.opcodeIndex], model.operatorCodes[op.opcodeIndex].builtinCode, parameters(op),
             bytes(op.customOptions) if op.customOptions is not None else b"",
             [place[i] for i in op.inputs], [place[i] for i in op.outputs])
            for op in group
        ]  # fmt: skip
        inputs = [place[i] for i in (graph.inputs if not single else [group[0].inputs[0]])]
        outputs = [place[i] for i in (graph.outputs if not single else group[0].outputs)]
        yield [tensors[i] for i in used], listed, inputs, outputs


def encode(case, fed=b"", expected=b"", tolerance=0):
    tensors, nodes, inputs, outputs = case
    out = struct.pack("<I", len(tensors))
    for kind, shape, scale, zero, data in tensors:
        out += struct.pack("<i", kind) + shape + struct.pack("<fi", scale, zero) + blob(data)
    out += struct.pack("<I", len(nodes))
    for name, code, values, options, ins, outs in nodes:
        out += blob(name.encode()) + struct.pack("<i", code) + numbers(values) + blob(options)
        out += numbers(ins) + numbers(outs)
    return (
        out + numbers(inputs) + numbers(outputs) + blob(fed) + blob(expected) + struct.pack("<i", tolerance)
    )


#: Nets all of whose nodes are ours: the host has no other operators.
WHOLE = [
    n
    for n in NETS
    if n.replace(",", "").split()[0]
    in ("plain", "narrow", "strided", "doubled", "one", "constants", "long", "image", "parts", "pooled")
]


def unfused(content):
    """The first output of a model, its binary operators on ours and the rest on the runtime; and the input."""
    interpreter = interpreter_module().Interpreter(
        model_content=content, experimental_delegates=[lce_delegate(fuse=False)]
    )
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    x = numbers_like(entry["shape"], entry["dtype"], 3)
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), x


def write(path, files=()):
    """Write the corpus; returns the number of cases."""
    encoded = []
    for c in all_cases():
        for case in cases_of(c.model, single=False):
            encoded.append(encode(case, c.fed[:1].tobytes(), c.expected[:1].tobytes(), c.per_step))
    for name in WHOLE:
        expected, fed = unfused(NETS[name])
        (case,) = cases_of(NETS[name], single=False)
        encoded.append(encode(case, fed.tobytes(), expected.tobytes()))
    for *net, taken in CASES.values():
        if taken:
            content = build(*net)
            expected, fed = unfused(content)
            (case,) = cases_of(content, single=False)
            encoded.append(encode(case, fed.tobytes(), expected.tobytes()))
    for file in files:
        encoded += [encode(case) for case in cases_of(Path(file).read_bytes(), single=True)]
    Path(path).write_bytes(struct.pack("<II", MAGIC, len(encoded)) + b"".join(encoded))
    return len(encoded)


if __name__ == "__main__":
    print(write(sys.argv[1], sys.argv[2:]), "cases")
