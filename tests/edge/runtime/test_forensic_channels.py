"""Forensic channels that the delegate recognises: the same numbers as from the runtime's eighty operators."""

import numpy as np
import pytest

from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate
from bdd_tf.models.channels import dft
from tests.edge.runtime.channel_nets import CASES, build


@pytest.fixture(scope="module", params=CASES)
def model(request):
    size, names, variant, taken = CASES[request.param]
    return build(size, names, variant), size, taken


def images(size):
    """A photograph, noise, one grey level, black, white, and a single dot."""
    from skimage import data

    h, w = size
    dot = np.zeros((h, w, 3), np.uint8)
    dot[h // 2, w // 3] = 255
    noise = np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)
    flat = [np.full((h, w, 3), level, np.uint8) for level in (77, 0, 255)]
    return np.stack([data.coffee()[100 : 100 + h, 200 : 200 + w], noise, *flat, dot])


def run(content, x, **options):
    """The first convolution's map, and whether the delegate reads the image itself."""
    interpreter = interpreter_module().Interpreter(
        model_content=content, experimental_delegates=[lce_delegate(**options)]
    )
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry, x)
    interpreter.invoke()
    maps = [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]
    nodes = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    claimed = any(entry in op["inputs"] and len(op["inputs"]) > 10 for op in nodes)
    return next(m for m in maps if m.shape[3] == 16), claimed


def test_channels_equal_the_runtimes_operators(model):
    content, size, taken = model
    x = images(size)
    expected, _ = run(content, x, fuse=False, kernels="scalar")
    scale = np.abs(expected).max()
    for kernels in available_kernels():
        for threads in (1, 2):
            for batch in (slice(0, 1), slice(0, len(x))):
                found, claimed = run(content, x[batch], kernels=kernels, num_threads=threads)
                assert claimed == taken
                apart = np.abs(found - expected[batch])
                # Weak bins of the spectrum are rounding noise, which the logarithm shows; few, and little.
                assert np.median(apart) <= 1e-6 * scale
                assert apart.max() <= 2e-4 * scale, (kernels, threads, apart.max() / scale)


def test_results_do_not_depend_on_threads_or_on_the_image_before(model):
    content, size, _ = model
    x = images(size)
    alone = np.concatenate([run(content, image[None])[0] for image in x])
    together, _ = run(content, x, num_threads=2)
    np.testing.assert_array_equal(together, alone)


def test_files_with_whole_transforms_are_known_too(monkeypatch):
    monkeypatch.setattr(dft, "_FOLDED_SIDE", 1 << 20)
    size = (128, 132)
    content = build(size, ("rgb", "fft"), "stable")
    x = images(size)
    found, claimed = run(content, x)
    assert claimed
    monkeypatch.undo()
    folded = build(size, ("rgb", "fft"), "stable")
    assert len(folded) < len(content) - 80_000
    again, claimed = run(folded, x)
    assert claimed
    np.testing.assert_array_equal(again, found)


def test_a_transform_with_another_constant_stays_with_the_runtime(monkeypatch):
    real = dft._waves

    def wrong(size, places, frequencies):
        cosines, sines = real(size, places, frequencies)
        sines[-2, -2] += 1e-3
        return cosines, sines

    monkeypatch.setattr(dft, "_waves", wrong)
    for size in ((32, 32), (128, 128)):
        _, claimed = run(build(size, ("rgb", "fft"), "stable"), images(size))
        assert not claimed


def test_another_size_is_refused_with_the_reason(model, capfd):
    content, (h, w), taken = model
    if not taken:
        pytest.skip("left to the runtime")
    with pytest.raises(RuntimeError, match=f"{h + 2} x {w}; the model is made for {h} x {w}"):
        run(content, images((h + 2, w)))


def test_details_with_another_weight_stay_with_the_runtime(monkeypatch):
    from bdd_tf.models.channels import haar

    real = haar._kernel

    def wrong():
        kernel = real()
        kernel[2, 1, 0, 4] *= 1.001
        return kernel

    monkeypatch.setattr(haar, "_kernel", wrong)
    size = (32, 32)
    content, x = build(size, ("rgb", "haar"), "stable"), images(size)
    found, claimed = run(content, x)
    expected, _ = run(content, x, fuse=False)
    assert not claimed
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_runtime_that_separates_the_channels_is_told_how_to_go_on():
    content = build((32, 32), ("rgb", "fft", "lbp"), "stable")

    def allocate(**options):
        interpreter = interpreter_module().Interpreter(
            model_content=content,
            experimental_delegates=[lce_delegate(**options)],
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()

    with pytest.raises(RuntimeError, match=r"experimental_preserve_all_tensors.*lce_delegate\(fuse=False\)"):
        allocate()
    allocate(fuse=False)
