"""Models of one float operator each, for the operators of our own interpreter. LiteRT computes the expected values."""

import numpy as np

from tests.edge.runtime.tflite_builder import Builder

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
SAME, VALID = 0, 1
MAP = (1, 7, 6, 5)
FUNCTIONS = ("ABS EXP FLOOR HARD_SWISH LOG LOGISTIC NEG RELU RELU6 ROUND RSQRT SQRT SQUARE TANH").split()


def values(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-4, 4, shape).astype(np.float32)


def ints(*numbers):
    return np.array(numbers, np.int32)


def model(name, shape, constants=(), out=(1,), first=True, **options):
    """The operator on an input of this shape; `first` says whether the input is the first operand."""
    b = Builder()
    entry = b.tensor(shape)
    rest = [b.constant(c) for c in constants]
    b.inputs = [entry]
    b.outputs = [b.builtin(name, [entry, *rest] if first else [*rest, entry], b.tensor(out), **options)]
    return b.build()


def unary():
    return {name: model(name, MAP, out=MAP) for name in FUNCTIONS}


def binary():
    cases = {}
    for name in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        for other in ((5,), (1,), (1, 1, 1, 5), (1, 7, 6, 1), (1, 1, 6, 1), (1, 7, 1, 5), MAP):
            for first in (True, False):
                cases[f"{name} {other} {first}"] = model(name, MAP, [values(*other)], MAP, first)
    for activation in (RELU, RELU_N1_TO_1, RELU6):
        cases[f"ADD activation {activation}"] = model("ADD", MAP, [values(5)], MAP, activation=activation)
    # The input is the shorter operand.
    cases["MUL small input"] = model("MUL", (1, 1, 1, 5), [values(*MAP)], MAP)
    cases["PRELU"] = model("PRELU", MAP, [values(1, 1, 5)], MAP)
    return cases


def convolutions():
    cases = {}
    for outputs, kernel, stride, dilation, padding, activation in (
        (3, (1, 1), (1, 1), (1, 1), VALID, NONE),
        (33, (3, 3), (1, 1), (1, 1), SAME, RELU),
        (64, (2, 3), (2, 1), (1, 1), SAME, RELU6),
        (16, (3, 2), (1, 1), (2, 3), SAME, NONE),
        (40, (3, 3), (2, 2), (1, 1), VALID, RELU_N1_TO_1),
        (1, (7, 6), (1, 1), (1, 1), VALID, NONE),
    ):
        options = {"strideH": stride[0], "strideW": stride[1], "dilationHFactor": dilation[0],
                   "dilationWFactor": dilation[1], "padding": padding, "activation": activation}  # fmt: skip
        key = f"{outputs} {kernel} {stride} {dilation} {padding}"
        weights = values(outputs, *kernel, 5)
        cases[f"CONV_2D {key}"] = model(
            "CONV_2D", MAP, [weights, values(outputs)], (1, 1, 1, outputs), **options
        )
        shape = (1, 7, 6, outputs)
        cases[f"DEPTHWISE_CONV_2D {key}"] = model(
            "DEPTHWISE_CONV_2D", shape, [values(1, *kernel, outputs), values(outputs)], shape,
            depthMultiplier=1, **options,
        )  # fmt: skip
    cases.update(on_large_maps())
    for keep in (False, True):
        cases[f"FULLY_CONNECTED {keep}"] = model(
            "FULLY_CONNECTED",
            (1, 6, 37),
            [values(70, 37), values(70)],
            (1, 6, 70),
            keepNumDims=keep,
            activation=RELU,
        )
    return cases


def on_large_maps():
    """Convolutions that read most windows where they are, and copy those at the border."""
    cases = {}
    for kernel, stride, dilation, padding in (
        ((3, 3), (1, 1), (1, 1), SAME),
        ((3, 3), (2, 2), (1, 1), SAME),
        ((2, 5), (3, 1), (2, 3), SAME),
        ((4, 3), (1, 2), (1, 1), VALID),
    ):
        options = {"strideH": stride[0], "strideW": stride[1], "dilationHFactor": dilation[0],
                   "dilationWFactor": dilation[1], "padding": padding, "activation": RELU6}  # fmt: skip
        key = f"large {kernel} {stride} {dilation} {padding}"
        cases[f"CONV_2D {key}"] = model(
            "CONV_2D", (1, 151, 146, 3), [values(9, *kernel, 3), values(9)], (1, 1, 1, 9), **options
        )
        for channels in (16, 21):  # whole registers of every kernel set, and not
            shape = (1, 67, 65, channels)
            cases[f"DEPTHWISE_CONV_2D {key} {channels}"] = model(
                "DEPTHWISE_CONV_2D", shape, [values(1, *kernel, channels), values(channels)], shape,
                depthMultiplier=1, **options,
            )  # fmt: skip
    return cases


def pools():
    cases = {}
    for name in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        for size, stride, padding in ((2, 2, VALID), (3, 2, SAME), (3, 1, SAME), (5, 3, SAME)):
            cases[f"{name} {size} {stride} {padding}"] = model(
                name, MAP, out=MAP, filterHeight=size, filterWidth=size + 1, strideH=stride, strideW=stride,
                padding=padding, activation=RELU,
            )  # fmt: skip
    for axes in ((1, 2), (-2, -3)):
        for keep in (False, True):
            cases[f"MEAN {axes} {keep}"] = model("MEAN", MAP, [ints(*axes)], MAP, keepDims=keep)
    cases["SOFTMAX"] = model("SOFTMAX", (1, 37), out=(1, 37), beta=1.0)
    return cases


def rearrangements():
    def pad(*sides):
        return np.array(sides, np.int32)

    def slices(begin, end, step, **masks):
        return model("STRIDED_SLICE", MAP, [ints(*begin), ints(*end), ints(*step)], **masks)

    b = Builder()
    b.inputs = [b.tensor(MAP)]
    more = b.constant(values(1, 7, 6, 2))
    b.outputs = [b.builtin("CONCATENATION", [*b.inputs, more, *b.inputs], b.tensor((1, 7, 6, 12)), axis=-1)]
    return {
        "RESHAPE": model("RESHAPE", MAP, [ints(-1, 6, 35)]),
        "CONCATENATION": b.build(),
        "PAD": model("PAD", MAP, [pad((0, 0), (1, 2), (0, 3), (2, 0))]),
        "MIRROR_PAD reflect": model("MIRROR_PAD", MAP, [pad((0, 0), (6, 2), (0, 3), (1, 0))], mode=0),
        "MIRROR_PAD symmetric": model("MIRROR_PAD", MAP, [pad((0, 0), (7, 2), (0, 3), (1, 5))], mode=1),
        "TRANSPOSE": model("TRANSPOSE", MAP, [ints(0, 3, 1, 2)]),
        "REVERSE_V2 width": model("REVERSE_V2", MAP, [ints(2)]),
        "REVERSE_V2 last": model("REVERSE_V2", MAP, [ints(-1)]),
        "STRIDED_SLICE": slices((0, 1, 0, 2), (1, 7, 6, 4), (1, 2, 1, 1)),
        "STRIDED_SLICE backwards": slices((0, -1, 5, 0), (1, -8, 1, 5), (1, -2, -1, 1)),
        "STRIDED_SLICE masks": slices(
            (0, 3, 3, 3), (0, 1, 1, 1), (1, 1, 1, 1), beginMask=0b0100, endMask=0b1011
        ),
        "STRIDED_SLICE shrinks": slices((0, 2, 0, -1), (1, 0, 6, 0), (1, 1, 1, 1), shrinkAxisMask=0b1010),
    }


def unpacking():
    """A weight that is stored as float16 or int8, and a map that is unpacked at run time."""
    cases = {}
    for dtype, scale in (("float16", None), ("int8", 0.05)):
        for name, shape, options in (
            (
                "CONV_2D",
                (3, 1, 1, 5),
                {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1},
            ),
            ("MUL", (1, 1, 1, 5), {}),
        ):
            b = Builder()
            b.inputs = [b.tensor(MAP)]
            numbers = values(*shape) if dtype == "float16" else values(*shape) * 30
            packed = b.tensor(shape, dtype, data=numbers, scale=scale)
            weights = b.builtin("DEQUANTIZE", [packed], b.tensor(shape))
            rest = [b.constant(values(3))] if name == "CONV_2D" else []
            out = b.tensor((1, 7, 6, shape[0] if name == "CONV_2D" else 5))
            b.outputs = [b.builtin(name, [*b.inputs, weights, *rest], out, **options)]
            cases[f"DEQUANTIZE {dtype} {name}"] = b.build()
    return cases


def all_cases():
    """Names and files. The input is float32 with a batch of 1."""
    return {**unary(), **binary(), **convolutions(), **pools(), **rearrangements(), **unpacking()}
