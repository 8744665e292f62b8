"""The float operators of our own interpreter equal LiteRT's."""

import re
from pathlib import Path

import numpy as np
import pytest

from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.runtime.build import SOURCES
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.schema import BUILTIN_OPERATORS
from bdd_tf.errors import BddError
from tests.edge.runtime import float_cases
from tests.edge.runtime.tflite_builder import Builder

PAGE = Path(__file__).parents[3] / "docs" / "embedding.md"


def sample(model, name):
    shape = model.inputs[0].shape
    positive = name in ("LOG", "SQRT", "RSQRT")
    return np.random.default_rng(5).uniform(0.1 if positive else -9, 9, shape).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_equals_litert(threads):
    for name, content in float_cases.all_cases().items():
        model = parse_tflite(content)
        x = sample(model, name)
        found, expected = (create_engine(model, engine, threads).run(x) for engine in ("native", "litert"))
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-6, err_msg=name)


def test_a_small_file_cannot_ask_for_more_memory_than_two_gib():
    """Each of the two large maps is allowed, but not their sum."""
    b = Builder()
    b.inputs = [b.tensor((1, 5, 5, 1))]
    sides = b.constant(np.array(((0, 0), (0, 16_995), (0, 16_995), (0, 0)), np.int32))
    large = b.builtin("PAD", [*b.inputs, sides], b.tensor((1, 17_000, 17_000, 1)))
    b.outputs = [b.builtin("NEG", [large], b.tensor((1, 17_000, 17_000, 1)))]
    content = b.build()
    assert len(content) < 4096
    with pytest.raises(BddError, match="memory"):
        create_engine(parse_tflite(content), "native")


def test_large_maps_are_shared_among_threads():
    """Every output pixel is computed, whatever the number of pixels and threads."""
    for name, filter_shape, options in (
        ("CONV_2D", (70, 3, 3, 6), {}),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 38), {"depthMultiplier": 1}),
    ):
        outputs, depth = (70, 6) if name == "CONV_2D" else (38, 38)
        content = float_cases.model(
            name, (1, 61, 67, depth), [float_cases.values(*filter_shape), float_cases.values(outputs)], (1, 61, 67, outputs),
            strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, padding=0, **options,
        )  # fmt: skip
        model = parse_tflite(content)
        x = sample(model, name)
        expected = create_engine(model, "litert").run(x)
        one, three = (create_engine(model, "native", threads).run(x) for threads in (1, 3))
        np.testing.assert_allclose(one, expected, atol=1e-4)
        np.testing.assert_array_equal(three, one)


@pytest.mark.parametrize(
    ("name", "constants", "options", "reason"),
    [
        ("CONV_2D", [float_cases.values(2, 3, 3, 4), float_cases.values(2)], {"strideH": 1, "strideW": 1}, "do not fit"),
        ("CONV_2D", [float_cases.values(2, 3, 3, 5), float_cases.values(3)], {"strideH": 1, "strideW": 1}, "bias"),
        ("CONV_2D", [float_cases.values(2, 3, 3, 5), float_cases.values(2)], {"strideH": 0, "strideW": 1}, "stride"),
        ("CONV_2D", [float_cases.values(2, 9, 3, 5), float_cases.values(2)],
         {"strideH": 1, "strideW": 1, "padding": 1}, "no window fits"),
        ("DEPTHWISE_CONV_2D", [float_cases.values(1, 3, 3, 10), float_cases.values(10)],
         {"strideH": 1, "strideW": 1, "depthMultiplier": 2}, "one filter for each channel"),
        ("ADD", [float_cases.values(4)], {}, "do not fit together"),
        ("ADD", [float_cases.values(5)], {"activation": 4}, "activation"),
        ("TRANSPOSE", [float_cases.ints(0, 1, 1, 2)], {}, "impossible order"),
        ("REVERSE_V2", [float_cases.ints(4)], {}, "axis does not exist"),
        ("MIRROR_PAD", [np.array(((0, 0), (7, 0), (0, 0), (0, 0)), np.int32)], {"mode": 0}, "impossible padding"),
        ("PAD", [np.array(((0, 0), (-1, 0), (0, 0), (0, 0)), np.int32)], {}, "impossible padding"),
        ("STRIDED_SLICE", [float_cases.ints(0), float_cases.ints(1), float_cases.ints(0)], {}, "step of 0"),
        ("STRIDED_SLICE", [float_cases.ints(0), float_cases.ints(0), float_cases.ints(1)], {}, "empty slice"),
        ("RESHAPE", [float_cases.ints(5, 5)], {}, "another size"),
        ("MEAN", [float_cases.ints(1, 3)], {}, "height and width"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(name, constants, options, reason):
    model = parse_tflite(float_cases.model(name, float_cases.MAP, constants, **options))
    with pytest.raises(BddError, match=rf"operator 0 \({name}\): .*{reason}"):
        create_engine(model, "native")


def test_a_tensor_with_two_sources_is_refused():
    """A constant, the input, and the result of another operator cannot be written."""
    for which in range(3):
        b = Builder()
        b.inputs = [b.tensor((1, 4))]
        once = b.builtin("ABS", b.inputs, b.tensor((1, 4)))
        wrong = (b.constant(float_cases.values(1, 4)), b.inputs[0], once)[which]
        b.outputs = [b.builtin("NEG", [once], b.tensor((1, 4)))]
        b.builtin("EXP", b.outputs, wrong)
        with pytest.raises(BddError, match=f"writes tensor {wrong}, which is"):
            create_engine(parse_tflite(b.build()), "native")


def test_names_are_the_schemas():
    names = re.findall(
        r'^ +"(\w+)",', (SOURCES / "interpreter" / "operator_names.cc").read_text(), re.MULTILINE
    )
    assert tuple(names) == BUILTIN_OPERATORS[: len(names)]


def test_the_documentation_lists_them_all():
    """The operators that the sources know are those of the page."""
    used = set()
    for path in sorted((SOURCES / "interpreter").glob("float_*.cc")):
        used |= set(re.findall(r"kTfLiteBuiltin(\w+)", path.read_text()))
    camel = {"".join(w.capitalize() for w in n.lower().split("_")): n for n in BUILTIN_OPERATORS}
    known = {camel[name] for name in used}
    text = PAGE.read_text().partition("The other operators are our own:")[2]
    assert known == set(re.findall(r"`([A-Z][A-Z0-9_]+)`", text)) & set(BUILTIN_OPERATORS)
