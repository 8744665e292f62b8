"""Cases of the four operators: a model, its input for a batch of 4, and what NumPy says comes out."""

from dataclasses import dataclass, field

import numpy as np

from tests.edge.runtime.case_runner import Case
from tests.edge.runtime.tflite_builder import Builder

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
SAME, VALID = 0, 1
BATCH = 4
INT8 = (0.37, 5)  # scale and zero point of int8 outputs


@dataclass
class Bconv:
    """Attributes of an LceBconv2d, and the sizes around it."""

    height: int = 6
    width: int = 7
    channels: int = 32
    filters: int = 32
    kernel: tuple = (3, 3)
    strides: tuple = (1, 1)
    dilations: tuple = (1, 1)
    padding: int = SAME
    pad_values: int = 0
    activation: int = NONE
    groups: int = 1
    output: str = "float32"
    agreement: int = 0  # 1 or -1: all products are this number, which are the largest counts; 0: random ones
    extra: dict = field(default_factory=dict)

    @property
    def name(self):
        changed = [f"{k}={v}" for k, v in self.__dict__.items() if v != getattr(Bconv(), k)]
        return "bconv " + (" ".join(changed) or "plain")

    @property
    def options(self):
        return {
            "channels_in": self.channels,
            "dilation_height_factor": self.dilations[0],
            "dilation_width_factor": self.dilations[1],
            "fused_activation_function": self.activation,
            "pad_values": self.pad_values,
            "padding": self.padding,
            "stride_height": self.strides[0],
            "stride_width": self.strides[1],
            **self.extra,
        }


def signs(x):
    return np.where(x < 0, -1, 1)


def pack(s):
    """Signs [..., C] to int32 words [..., ceil(C / 32)]; bit 1 encodes -1, unused bits are 0."""
    words = -(-s.shape[-1] // 32)
    bits = np.zeros((*s.shape[:-1], words * 32), np.uint8)
    bits[..., : s.shape[-1]] = s < 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4")


def window(length, kernel, stride, dilation, padding):
    """Output length, and padding in front and behind: TensorFlow's rule."""
    reach = (kernel - 1) * dilation + 1
    if padding == VALID:
        return (length - reach) // stride + 1, 0, 0
    out = -(-length // stride)
    total = max((out - 1) * stride + reach - length, 0)
    return out, total // 2, total - total // 2


def convolve(x, w, b: Bconv):
    """Exact dot products of signs; x [N, H, W, C], w [O, h, w, C / groups]."""
    out_h, top, bottom = window(b.height, b.kernel[0], b.strides[0], b.dilations[0], b.padding)
    out_w, left, right = window(b.width, b.kernel[1], b.strides[1], b.dilations[1], b.padding)
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=b.pad_values)
    dots = np.zeros((len(x), out_h, out_w, b.filters), np.int64)
    for g in range(b.groups):
        ins = slice(g * b.channels // b.groups, (g + 1) * b.channels // b.groups)
        outs = slice(g * b.filters // b.groups, (g + 1) * b.filters // b.groups)
        for i in range(b.kernel[0]):
            for j in range(b.kernel[1]):
                rows = slice(i * b.dilations[0], None, b.strides[0])
                columns = slice(j * b.dilations[1], None, b.strides[1])
                part = x[:, rows, columns][:, :out_h, :out_w, ins]
                dots[..., outs] += np.einsum("nhwc,oc->nhwo", part, w[outs, i, j], optimize=True)
    return dots


def activate(dots, activation):
    low, high = {NONE: (None, None), RELU: (0, None), RELU_N1_TO_1: (-1, 1), RELU6: (0, 6)}[activation]
    return dots if activation == NONE else np.clip(dots, low, high)


def bconv_model(b: Bconv, w, multiplier, bias, thresholds):
    """LceQuantize, LceBconv2d, and LceDequantize behind bit-packed outputs."""
    m = Builder()
    words = -(-b.channels // 32)
    out_h = window(b.height, b.kernel[0], b.strides[0], b.dilations[0], b.padding)[0]
    out_w = window(b.width, b.kernel[1], b.strides[1], b.dilations[1], b.padding)[0]
    image = m.tensor([1, b.height, b.width, b.channels])
    bits = m.tensor([1, b.height, b.width, words], "int32")
    out_shape = [1, out_h, out_w, -(-b.filters // 32) if b.output == "int32" else b.filters]
    scale, zero = INT8 if b.output == "int8" else (None, 0)
    out = m.tensor(out_shape, b.output, scale=scale, zero_point=zero)
    m.operator("LceQuantize", [image], [bits])
    inputs = [bits, m.constant(pack(w)), -1, -1, -1]
    if b.output == "int32":
        inputs[4] = m.constant(thresholds)
    else:
        inputs[2:4] = [m.constant(multiplier), m.constant(bias)]
    m.operator("LceBconv2d", inputs, [out], b.options)
    m.inputs, m.outputs = [image], [out]
    return m.build()


def bconv_case(b: Bconv, seed: int):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH, b.height, b.width, b.channels)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] = 0.0
    x[rng.random(x.shape) < 0.01] = -0.0
    w = signs(rng.normal(size=(b.filters, *b.kernel, b.channels // b.groups)))
    if b.agreement:
        x, w = np.ones_like(x), np.full_like(w, b.agreement)
    multiplier = rng.normal(size=b.filters).astype(np.float32)
    bias = rng.normal(size=b.filters).astype(np.float32) * 3
    products = b.kernel[0] * b.kernel[1] * b.channels // b.groups
    thresholds = rng.integers(products // 2 - 3, products // 2 + 4, b.filters).astype(np.int32)
    dots = convolve(signs(x), w, b)
    per_step = 0
    if b.output == "int32":
        expected = pack(np.where((products - dots) > 2 * thresholds.astype(np.int64), -1, 1))
    else:
        y = activate(dots, b.activation) * multiplier.astype(np.float64) + bias
        if b.output == "int8":
            expected = np.clip(np.round(y / np.float32(INT8[0]) + INT8[1]), -128, 127).astype(np.int8)
            per_step = 1
        else:
            expected = y.astype(np.float32)
    return Case(b.name, bconv_model(b, w, multiplier, bias, thresholds), x, expected, per_step)


def bconvs():
    """Each attribute for itself, then those that meddle with each other."""
    yield Bconv()
    for kernel in [(1, 1), (2, 2), (1, 3), (3, 1), (4, 4), (5, 5), (7, 7), (2, 5)]:
        yield Bconv(kernel=kernel)
        yield Bconv(kernel=kernel, pad_values=1)
    for kernel in [(1, 1), (3, 3), (5, 5)]:
        yield Bconv(kernel=kernel, padding=VALID)
    for strides in [(2, 2), (3, 3), (1, 2), (2, 1), (4, 3)]:
        yield Bconv(strides=strides)
        yield Bconv(strides=strides, pad_values=1, height=9, width=12)
        yield Bconv(strides=strides, padding=VALID)
    yield Bconv(kernel=(1, 1), strides=(2, 2))
    for dilations in [(2, 2), (1, 2), (3, 1)]:
        yield Bconv(dilations=dilations)
        yield Bconv(dilations=dilations, pad_values=1)
        yield Bconv(dilations=dilations, padding=VALID, height=11, width=9)
    yield Bconv(dilations=(2, 2), strides=(2, 2))
    # With 896 and more, 252 words and more: more than a byte can count.
    for channels in [1, 3, 31, 33, 64, 65, 96, 100, 128, 256, 320, 384, 512, 640, 896, 1024]:
        yield Bconv(channels=channels)
    for channels in [32, 256, 512, 1024, 1920, 2048]:
        for agreement in (-1, 1):
            yield Bconv(height=3, width=3, channels=channels, filters=16, agreement=agreement)
    yield Bconv(height=3, width=3, channels=1920, filters=16, padding=VALID)
    yield Bconv(height=4, width=3, kernel=(1, 1), channels=1920, filters=16)
    for filters in [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 40, 63, 64, 65, 100]:
        yield Bconv(filters=filters, channels=64)
        yield Bconv(filters=filters, output="int32", pad_values=1)
    for height, width, kernel in [
        (1, 1, (3, 3)),
        (2, 2, (3, 3)),
        (1, 5, (3, 3)),
        (2, 2, (5, 5)),
        (3, 1, (7, 7)),
    ]:
        for pad_values in (0, 1):
            yield Bconv(height=height, width=width, kernel=kernel, pad_values=pad_values, channels=64)
    yield Bconv(height=2, width=2, strides=(2, 2))
    yield Bconv(height=2, width=3, kernel=(5, 5), dilations=(2, 2))
    for activation in (RELU, RELU_N1_TO_1, RELU6):
        yield Bconv(activation=activation)
        yield Bconv(activation=activation, padding=VALID)
        yield Bconv(activation=activation, output="int8", pad_values=1)
    for output in ("int8", "int32"):
        yield Bconv(output=output)
        yield Bconv(output=output, padding=VALID, channels=33, filters=33)
        yield Bconv(output=output, channels=33, filters=33)
        yield Bconv(output=output, strides=(2, 2), pad_values=1, channels=100)
    for groups, channels, filters in [(2, 64, 64), (2, 64, 6), (4, 128, 20), (3, 96, 48), (2, 128, 34)]:
        for output in ("float32", "int8", "int32"):
            yield Bconv(groups=groups, channels=channels, filters=filters, output=output)
        yield Bconv(groups=groups, channels=channels, filters=filters, pad_values=1, strides=(2, 2))
    yield Bconv(height=14, width=14, channels=256, filters=256)
    yield Bconv(height=7, width=7, channels=512, filters=512)
    yield Bconv(height=33, width=29, channels=64, filters=96, strides=(2, 2))


def quantize_cases():
    rng = np.random.default_rng(5)
    for shape in [(1,), (5,), (32,), (3, 33), (2, 3, 64), (2, 3, 4, 65), (1, 4, 4, 96), (2, 7, 7, 128)]:
        for dtype in ("float32", "int8", "bool"):
            m = Builder()
            scale, zero = (0.5, -3) if dtype == "int8" else (None, 0)
            packed = [*shape[:-1], -(-shape[-1] // 32)]
            a = m.tensor([1, *shape], dtype, scale=scale, zero_point=zero)
            b = m.tensor([1, *packed], "int32")
            m.operator("LceQuantize", [a], [b])
            m.inputs, m.outputs = [a], [b]
            x = rng.normal(size=(BATCH, *shape)) * 20
            if dtype == "float32":
                fed = x.astype(np.float32)
                fed.reshape(-1)[:2] = [0.0, -0.0] if fed.size > 1 else 0.0
                s = signs(fed)
            elif dtype == "int8":
                fed = x.astype(np.int8)
                s = np.where(fed < zero, -1, 1)
            else:
                fed = x > 0
                s = np.where(fed, 1, -1)
            yield Case(f"quantize {dtype} {shape}", m.build(), fed, pack(s))


def dequantize_cases():
    rng = np.random.default_rng(6)
    for shape in [(1,), (33,), (3, 64), (2, 3, 40), (2, 2, 3, 100)]:
        for dtype, scale, zero, values in [
            ("float32", None, 0, (1.0, -1.0)),
            ("int8", 0.5, -3, (-1, -5)),
            ("int8", 0.004, 100, (127, -128)),
            ("bool", None, 0, (True, False)),
        ]:
            m = Builder()
            a = m.tensor([1, *shape[:-1], -(-shape[-1] // 32)], "int32")
            b = m.tensor([1, *shape], dtype, scale=scale, zero_point=zero)
            m.operator("LceDequantize", [a], [b])
            m.inputs, m.outputs = [a], [b]
            s = signs(rng.normal(size=(BATCH, *shape)))
            expected = np.where(s > 0, *values).astype(dtype)
            yield Case(f"dequantize {dtype} {zero} {shape}", m.build(), pack(s), expected)


def pool_cases():
    rng = np.random.default_rng(7)
    for size, strides, padding, height, width, channels in [
        ((2, 2), (2, 2), SAME, 6, 6, 32), ((2, 2), (2, 2), SAME, 7, 5, 33), ((3, 3), (2, 2), SAME, 7, 8, 64),
        ((3, 3), (1, 1), SAME, 5, 5, 96), ((3, 3), (1, 1), VALID, 5, 5, 32), ((3, 2), (2, 3), VALID, 9, 8, 40),
        ((5, 5), (1, 1), SAME, 2, 2, 32), ((1, 1), (2, 2), SAME, 5, 5, 32), ((1, 1), (3, 3), VALID, 7, 7, 1),
    ]:  # fmt: skip
        m = Builder()
        words = -(-channels // 32)
        out_h, top, bottom = window(height, size[0], strides[0], 1, padding)
        out_w, left, right = window(width, size[1], strides[1], 1, padding)
        a = m.tensor([1, height, width, words], "int32")
        b = m.tensor([1, out_h, out_w, words], "int32")
        options = {
            "filter_height": size[0], "filter_width": size[1], "padding": padding,
            "stride_height": strides[0], "stride_width": strides[1],
        }  # fmt: skip
        m.operator("LceBMaxPool2d", [a], [b], options)
        m.inputs, m.outputs = [a], [b]
        s = signs(rng.normal(size=(BATCH, height, width, channels)) - 0.8)
        padded = np.pad(s, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-1)
        pooled = np.full((BATCH, out_h, out_w, channels), -1)
        for i in range(size[0]):
            for j in range(size[1]):
                part = padded[:, i :: strides[0], j :: strides[1]][:, :out_h, :out_w]
                pooled = np.maximum(pooled, part)
        yield Case(
            f"maxpool {size} {strides} {padding} {height}x{width}x{channels}",
            m.build(),
            pack(s),
            pack(pooled),
        )


def all_cases():
    cases = [bconv_case(b, seed) for seed, b in enumerate(bconvs())]
    return [*cases, *quantize_cases(), *dequantize_cases(), *pool_cases()]
