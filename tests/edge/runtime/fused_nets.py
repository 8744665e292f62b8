"""Networks around binary convolutions whose nodes a delegate can run together."""

import numpy as np

from tests.edge.runtime.operator_cases import Bconv, pack, signs, window
from tests.edge.runtime.tflite_builder import Builder

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


_SHAPES = {}


class Net:
    """Writes networks around binary convolutions; weights are random, tensors carry their shape.

    Vectors are float32, or with `vectors` what a DEQUANTIZE makes of int8 and float16 in turns: "unpacked" when it runs,
    or "rounded" to the same numbers beforehand.
    """

    def __init__(self, shape, seed=0, dtype="float32", vectors=None):
        self.vectors, self.drawn = vectors, 0
        self.m, self.rng, self.shapes = Builder(), np.random.default_rng(seed), {}
        self.dtype, self.input = dtype, self.tensor(shape, dtype)
        self.m.inputs = [self.input]

    def tensor(self, shape, dtype="float32"):
        number = self.m.tensor(shape, dtype)
        self.shapes[number] = tuple(shape)
        return number

    def numbers(self, *shape, low=-1.0, high=1.0):
        values = self.rng.uniform(low, high, shape).astype(np.float32)
        if self.vectors is None or len(shape) == 4:
            return self.m.constant(values)
        self.drawn += 1
        if self.drawn % 2:
            values = values.astype(np.float16)
            values.flat[:2] = 3e-8, -0.0  # one too small for an exponent of its own
            stored, values = self.m.constant(values), values.astype(np.float32)
        else:
            scale = np.float32(0.007)
            levels = np.rint(values / scale).clip(-127, 127).astype(np.int8)
            stored, values = self.m.tensor(shape, "int8", data=levels, scale=scale), levels * scale
        return (
            self.m.constant(values) if self.vectors == "rounded" else self.op("DEQUANTIZE", [stored], shape)
        )

    def op(self, name, inputs, shape, **options):
        return self.m.builtin(name, inputs, self.tensor(shape), **options)

    def two(self, name, a, b, activation=NONE):
        shape = self.shapes.get(a) or self.shapes[b]
        if a in self.shapes and b in self.shapes:
            shape = max(self.shapes[a], self.shapes[b], key=np.prod)
        options = {"activation": activation} if name in ("ADD", "SUB", "MUL") else {}
        return self.op(name, [a, b], shape, **options)

    def by_channel(self, name, x, **options):
        return self.two(name, x, self.numbers(self.shapes[x][-1]), **options)

    def prelu(self, x):
        return self.op("PRELU", [x, self.numbers(1, 1, self.shapes[x][-1])], self.shapes[x])

    def mean(self, x, keep=True):
        n, _, _, c = self.shapes[x]
        axes = self.m.constant(np.array([1, 2], np.int32))
        return self.op("MEAN", [x, axes], (n, 1, 1, c) if keep else (n, c), keepDims=keep)

    def bytes_as_floats(self, *shape):
        """Weights of one byte that a DEQUANTIZE unpacks."""
        levels = self.rng.integers(-127, 128, shape).astype(np.int8)
        stored = self.m.tensor(shape, "int8", data=levels, scale=0.01)
        return self.op("DEQUANTIZE", [stored], shape)

    def dense(self, x, filters, activation=NONE, stored=False):
        n, h, w, c = self.shapes[x]
        weights = self.bytes_as_floats if stored else self.numbers
        inputs = [x, weights(filters, 1, 1, c), self.numbers(filters)]
        return self.op("CONV_2D", inputs, (n, h, w, filters), strideH=1, strideW=1, dilationHFactor=1,
                       dilationWFactor=1, activation=activation)  # fmt: skip

    def convolution(self, x, filters, kernel, stride=1, dilation=1, same=True, activation=NONE):
        n, h, w, c = self.shapes[x]
        size = [window(side, kernel, stride, dilation, 0 if same else 1)[0] for side in (h, w)]
        inputs = [x, self.numbers(filters, kernel, kernel, c, low=-0.3, high=0.3), self.numbers(filters)]
        return self.op("CONV_2D", inputs, (n, *size, filters), strideH=stride, strideW=stride, padding=0 if same else 1,
                       dilationHFactor=dilation, dilationWFactor=dilation, activation=activation)  # fmt: skip

    def reverse(self, x, axis):
        return self.op("REVERSE_V2", [x, self.m.constant(np.array([axis], np.int32))], self.shapes[x])

    def pool(self, x):
        n, h, w, c = self.shapes[x]
        return self.op("AVERAGE_POOL_2D", [x], (n, h // 2, w // 2, c), filterHeight=2, filterWidth=2, strideH=2,
                       strideW=2, padding=1)  # fmt: skip

    def concat(self, *parts):
        shape = list(self.shapes[parts[0]])
        shape[3] = sum(self.shapes[p][3] for p in parts)
        return self.op("CONCATENATION", parts, shape, axis=3)

    def quantize(self, x):
        n, h, w, c = self.shapes[x]
        bits = self.tensor((n, h, w, -(-c // 32)), "int32")
        self.m.operator("LceQuantize", [x], [bits])
        self.shapes[bits] = (n, h, w, c)
        return bits

    def bconv(self, bits, filters, kernel=3, stride=1, pad_values=0):
        n, h, w, c = self.shapes[bits]
        b = Bconv(height=h, width=w, channels=c, filters=filters, kernel=(kernel, kernel), strides=(stride, stride),
                  pad_values=pad_values)  # fmt: skip
        weights = self.m.constant(pack(signs(self.rng.normal(size=(filters, kernel, kernel, c)))))
        size = [window(length, kernel, stride, 1, 0)[0] for length in (h, w)]
        out = self.tensor((n, *size, filters))
        scale = self.numbers(filters, low=-0.2, high=0.2)
        self.m.operator("LceBconv2d", [bits, weights, scale, self.numbers(filters), -1], [out], b.options)
        return out

    def gate(self, x, y, stored=False):
        width = self.shapes[y][-1]
        mixed = self.two("ADD", self.by_channel("MUL", self.mean(x)), self.by_channel("MUL", self.mean(y)))
        squeezed = self.dense(mixed, max(width // 8, 1), RELU, stored)
        excited = self.by_channel("MUL", self.dense(squeezed, width, stored=stored))
        return self.op("LOGISTIC", [excited], (1, 1, 1, width))

    def unit(self, x, kernel=3, stride=1, attention=False, stored=False):
        residual = self.prelu(x) if attention else x
        y = self.prelu(
            self.bconv(self.quantize(self.by_channel("ADD", x)), self.shapes[x][-1], kernel, stride)
        )
        if stride == 2:
            residual = self.pool(residual)
        y = self.two("MUL", y, self.gate(x, y, stored))
        if attention:
            y = self.two("MUL", y, residual)
        return self.two("ADD", self.by_channel("ADD", self.by_channel("MUL", y)), residual)

    def build(self, *outputs):
        self.m.outputs = list(outputs)
        content = self.m.build()
        _SHAPES[content] = self.shapes[self.input], self.dtype
        return content


def plain(width, side=6):
    net = Net((1, side, side, width))
    return net.build(net.unit(net.input))


def of_bytes(width):
    net = Net((1, 5, 6, width))
    return net.build(net.unit(net.input, stored=True))


def narrow(width, vectors="unpacked"):
    """All vectors behind a DEQUANTIZE, those of the binary convolution as well."""
    net = Net((1, 6, 8, width), vectors=vectors)
    return net.build(net.unit(net.unit(net.input, stored=True), stride=2, attention=True))


def narrow_for_all():
    """A vector that two nodes of ours read, one that the runtime reads as well, and a map."""
    net = Net((1, 6, 6, 48), vectors="unpacked")
    gain, bias = net.numbers(48), net.numbers(48)
    y = net.two("MUL", net.two("MUL", net.bconv(net.quantize(net.input), 48), gain), gain)
    wide = net.op("DEQUANTIZE", [net.m.constant(np.ones((1, 6, 6, 48), np.float16))], (1, 6, 6, 48))
    there = net.op("TANH", [net.two("ADD", net.input, bias)], (1, 6, 6, 48))
    return net.build(net.two("SUB", net.two("ADD", y, bias), wide), there, net.op("TANH", [bias], (48,)))


def bytes_read_twice():
    """Weights that two layers of ours read, and weights of a layer that is not ours, which stay floats."""
    net = Net((1, 5, 6, 32))
    weights = net.bytes_as_floats(32, 1, 1, 32)
    mean = net.mean(net.unit(net.input))
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    one, two = (
        net.op("CONV_2D", [mean, weights, net.numbers(32)], (1, 1, 1, 32), **options) for _ in range(2)
    )
    first = net.op(
        "CONV_2D", [net.input, net.bytes_as_floats(32, 1, 1, 32), net.numbers(32)], (1, 5, 6, 32), **options
    )
    return net.build(net.two("ADD", one, two), net.unit(first))


def strided(width):
    net = Net((1, 8, 6, width))
    return net.build(net.unit(net.input, stride=2, attention=True))


def doubled(width):
    net = Net((1, 5, 7, width))
    return net.build(net.concat(net.unit(net.input, 1), net.unit(net.input, 1)))


def long_products(channels, filters, size, stride=1, kernel=3, pad_values=0):
    """Dot products long enough for a matrix unit; the last block of output channels is partial."""
    net = Net((1, *size, channels))
    y = net.prelu(net.bconv(net.quantize(net.input), filters, kernel, stride, pad_values))
    return net.build(net.two("MUL", y, net.mean(y)))


def several_readers():
    """A value that another node of the runtime reads as well, a part of a concatenation read alone, and a sum of two."""
    net = Net((1, 5, 5, 64))
    y = net.bconv(net.quantize(net.input), 64)
    z = net.by_channel("ADD", net.by_channel("MUL", y, activation=RELU6))
    joined = net.concat(y, z)
    total = net.two("SUB", net.two("MAXIMUM", y, z), net.two("MINIMUM", z, y))
    return net.build(y, joined, total, net.two("ADD", z, z))


def parts(*widths, whole=False):
    """What reads a concatenation can work on its parts; where asked for, some readers need the whole as well."""
    net = Net((1, 6, 8, 32))
    bits = net.quantize(net.input)
    made = [net.by_channel("ADD", net.bconv(bits, width), activation=RELU6) for width in widths]
    joined = net.concat(*made)
    y = net.two("SUB", net.numbers(sum(widths)), net.two("MUL", joined, net.numbers(1)))
    z = net.op("LOGISTIC", [net.prelu(y)], net.shapes[y])
    signs = net.quantize(net.by_channel("ADD", y))
    outputs = [net.bconv(signs, 40), net.mean(z, keep=False), net.two("MUL", z, net.mean(y))]
    if whole:
        outputs += [
            net.mean(joined),
            signs,
            z,
            net.two("ADD", joined, joined),
            net.pool(net.prelu(joined)),
            made[1],
        ]
    return net.build(*outputs)


def pooled(width, size, parts=1, inside=False):
    """Pools of maps that come in tiles, two of the same one: bare, behind an activation, and of a concatenation."""
    net = Net((1, *size, width))
    bits = net.quantize(net.input)
    made = [net.by_channel("MUL", net.bconv(bits, width)) for _ in range(parts)]
    y = net.by_channel("ADD", net.concat(*made) if parts > 1 else made[0])
    bare, active = net.pool(y), net.pool(net.prelu(y))
    if inside:  # nobody but tiles reads them
        return net.build(net.by_channel("MUL", bare), net.two("SUB", net.mean(active), active))
    joined = net.concat(bare, active)
    return net.build(
        net.bconv(net.quantize(net.by_channel("ADD", joined)), 32), bare, net.mean(y), net.pool(active)
    )


def sinks_of_other_maps():
    """Means and pools between two operations on one value, whose input is another feature map rather than the current tile."""
    net = Net((1, 12, 20, 32))
    outputs = []
    for x in (net.input, net.pool(net.bconv(net.quantize(net.input), 64)), net.concat(net.input, net.input)):
        y = net.by_channel("ADD", x)
        sinks = [net.mean(x), net.pool(x)]
        outputs += [net.by_channel("MUL", y), *sinks]
    return net.build(*outputs)


def long_chain_of_parts(length=70):
    """Longer than what is followed on parts of a concatenation."""
    net = Net((1, 5, 7, 32))
    bits = net.quantize(net.input)
    y = net.concat(*(net.by_channel("MUL", net.bconv(bits, 32)) for _ in range(2)))
    for i in range(length):
        y = net.two(("ADD", "SUB")[i % 2], y, net.numbers(1))
    return net.build(y, net.mean(y))


def pooled_at_once(width=48):
    """Pools right behind convolutions, binary and of floats, and a pool of a pool."""
    net = Net((1, 12, 20, width))
    y = net.bconv(net.quantize(net.input), width)
    z = net.convolution(net.input, 32, 3)
    active = net.pool(net.prelu(net.bconv(net.quantize(net.input), 64, 1)))
    return net.build(net.pool(y), net.pool(net.pool(net.prelu(z))), net.mean(z), active)


def constants():
    """Operands of every kind, on either side."""
    net = Net((1, 4, 4, 40))
    y = net.bconv(net.quantize(net.input), 40, pad_values=1)
    y = net.two("SUB", net.numbers(40), y)
    y = net.two("ADD", y, net.numbers(1), activation=RELU)
    y = net.two("MUL", net.numbers(1, 1, 1, 40), y, activation=RELU_N1_TO_1)
    y = net.two("SUB", y, net.mean(net.input))
    return net.build(y, net.mean(y, keep=False))


def uneven():
    """A pool of an odd map and a product along another axis stay with the runtime."""
    net = Net((1, 7, 5, 32))
    y = net.bconv(net.quantize(net.input), 32, stride=2)
    n, h, w, c = net.shapes[y]
    wide = net.op("MUL", [y, net.numbers(1, h, w, c)], (n, h, w, c))
    return net.build(net.pool(wide), wide)


def long_chain():
    net = Net((1, 9, 9, 32))
    y = net.bconv(net.quantize(net.input), 32)
    for i in range(40):
        y = net.by_channel(("ADD", "MUL", "SUB")[i % 3], y, activation=RELU6 if i % 7 == 0 else NONE)
    return net.build(y)


def several_levels():
    """A whole small network; sign flips are kept away by large steps between numbers."""
    net = Net((1, 8, 8, 32))
    y = net.bconv(net.quantize(net.input), 64)
    bits = net.quantize(y)
    return net.build(net.bconv(bits, 64, 1), net.bconv(bits, 48), bits)


def image(channels=3, filters=32, kernel=3, stride=2, dilation=1, same=True, turns=(1, 2), size=(12, 10)):
    """uint8 input, scaled and flipped before the first convolution; then a unit."""
    net = Net((1, *size, channels), dtype="uint8")
    x = net.op("CAST", [net.input], net.shapes[net.input])
    x = net.two("MUL", x, net.numbers(1, low=0.003, high=0.004))
    x = net.two("SUB", net.numbers(channels), net.by_channel("MUL", x), activation=RELU6)
    x = net.by_channel("SUB", x)
    for axis in turns:
        x = net.reverse(x, axis)
    x = net.convolution(x, filters, kernel, stride, dilation, same, RELU_N1_TO_1 if same else NONE)
    return net.build(net.unit(x, 1))


def two_readers():
    """An input transform that a convolution could fuse, but whose output has other readers; flipped floats."""
    net = Net((1, 9, 8, 4))
    turned = net.reverse(net.input, 2)
    first = net.unit(net.convolution(net.reverse(net.reverse(turned, 1), 1), 16, 3), 1)
    cast = Net((1, 9, 8, 4), dtype="uint8")
    x = cast.op("CAST", [cast.input], cast.shapes[cast.input])
    y = cast.convolution(cast.reverse(x, 1), 20, 5, 2)
    return net.build(first, turned), cast.build(cast.unit(y), cast.by_channel("MUL", x))


def looked_up():
    """uint8 converted to float elementwise for a layer that the delegate does not claim; and one without fused operations."""
    net = Net((1, 7, 6, 5), dtype="uint8")
    x = net.op("CAST", [net.input], net.shapes[net.input])
    y = net.two(
        "SUB", net.by_channel("MUL", net.two("MUL", x, net.numbers(1)), activation=RELU6), net.numbers(5)
    )
    alone = net.op("CAST", [net.input], net.shapes[net.input])
    large = net.convolution(y, 8, 3)  # of too few channels
    return net.build(net.unit(large), y, net.pool(net.convolution(alone, 8, 3, 1)))


def looked_up_by_us():
    net = Net((1, 7, 6, 40), dtype="uint8")
    x = net.op("CAST", [net.input], net.shapes[net.input])
    return net.build(net.unit(net.by_channel("SUB", net.two("MUL", x, net.numbers(1)))))


NETS = {
    "looked up": looked_up(),
    "image looked up": looked_up_by_us(),
    "image": image(),
    "image 1 channel": image(1, 40, 5, 1, size=(9, 9), turns=(1,)),
    "image 5 channels": image(5, 17, 3, 1, 2, turns=(2,)),
    "image valid": image(4, 64, 2, 3, same=False, turns=()),
    "image smaller than its filter": image(3, 16, 5, 2, size=(2, 3)),
    "two readers of floats": two_readers()[0],
    "two readers of bytes": two_readers()[1],
    **{f"plain {w}": plain(w) for w in (1, 8, 16, 32, 40, 64, 96)},
    "one pixel": plain(32, side=1),
    "large": plain(64, side=37),
    **{f"bytes {w}": of_bytes(w) for w in (8, 64, 72)},
    **{f"narrow {w}": narrow(w) for w in (8, 40, 64)},
    "two readers of vectors": narrow_for_all(),
    "two readers of weights": bytes_read_twice(),
    **{f"strided {w}": strided(w) for w in (16, 32, 64, 72)},
    **{f"doubled {w}": doubled(w) for w in (16, 32, 33)},
    "long products": long_products(64, 72, (9, 7)),
    "long products, odd words": long_products(96, 32, (9, 18), pad_values=1),
    "long products, odd channels": long_products(200, 40, (7, 7), pad_values=1),
    "long products, strided": long_products(64, 33, (12, 40), 2),
    "long products, of one pixel": long_products(576, 32, (7, 6), kernel=1),
    "long products, narrow": long_products(64, 32, (300, 1)),
    "parts": parts(32, 64),
    "parts, three": parts(64, 32, 32),
    "parts, uneven": parts(32, 40),
    "parts and whole": parts(32, 64, whole=True),
    **{f"pooled {w}": pooled(w, (24, 20)) for w in (32, 40, 64)},
    "pooled, one pair of rows": pooled(32, (8, 124)),
    "pooled, long rows": pooled(32, (4, 132)),
    "pooled, parts": pooled(32, (12, 28), parts=2),
    "pooled, parts, inside": pooled(32, (12, 28), parts=2, inside=True),
    "pooled, parts of half a word": pooled(16, (12, 28), parts=2),
    "at once pooled": pooled_at_once(),
    "sinks of other maps": sinks_of_other_maps(),
    "long chain of parts": long_chain_of_parts(),
    "several readers": several_readers(),
    "constants": constants(),
    "uneven": uneven(),
    "long chain": long_chain(),
    "several levels": several_levels(),
}

#: Shape and type of each net's input.
INPUTS = {name: _SHAPES[content] for name, content in NETS.items()}


def fed(shape, dtype, seed):
    """Random numbers for an input."""
    rng = np.random.default_rng(seed)
    if dtype in ("uint8", np.uint8):
        return rng.integers(0, 256, shape, np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def fed_to(name, batch, seed):
    """Random numbers for a net's input."""
    shape, dtype = INPUTS[name]
    return fed((batch, *shape[1:]), dtype, seed)


def run(content, x, **options):
    """All outputs of a model on the installed runtime; options are those of the delegate."""
    from bdd_tf.edge.runtime import interpreter_module, lce_delegate

    interpreter = interpreter_module().Interpreter(
        model_content=content, experimental_delegates=[lce_delegate(**options)]
    )
    entry = interpreter.get_input_details()[0]
    if len(x) != entry["shape"][0]:
        interpreter.resize_tensor_input(entry["index"], x.shape)
    interpreter.allocate_tensors()
    for _ in range(2):  # what a first run leaves behind must not matter
        interpreter.set_tensor(entry["index"], x)
        interpreter.invoke()
    return [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]


def fused_cases():
    """The nets as cases: their first output, as plain kernels and the runtime's own operators give it here."""
    from tests.edge.runtime.case_runner import Case

    for name, content in NETS.items():
        x = fed_to(name, 4, 4)
        yield Case(f"fused {name}", content, x, run(content, x, fuse=False, kernels="scalar")[0])
