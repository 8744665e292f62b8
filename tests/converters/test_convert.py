import contextlib
import json
import shutil

import numpy as np
import pytest

from bdd_tf.cli import main
from bdd_tf.edge import Detector
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.runtime import interpreter_module
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.edge.tflite.statistics import model_statistics
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import binary_conv
from bdd_tf.models.detector import Normalise, build_detector, fold_temperature
from bdd_tf.models.forensic_channels import ForensicChannels
from bdd_tf.models.operation_counts import count_operations, flat_layers, is_binary
from bdd_tf.presets import experiment
from bdd_tf.runs import Validated
from bdd_tf.training import weights
from converters import convert, sample_images, verify
from converters.tflite import builtin_ops
from converters.tflite.quantize_gates import quantize_gates
from converters.tflite.zero_padding import exact_zero_padding, needs_correction, padding_sums
from tests import tiny_bnext


@pytest.fixture(scope="module")
def small():
    """BNext-N at 32 px, whose last block has 3x3 filters on 2x2 maps, with calibrated statistics."""
    model = build_detector("bnext-n", 32, "rgb,sobel,fft,lbp", variant="stable")
    sample_images.update_bn(model, sample_images.photographs(16, 32, seed=3))
    return model


@pytest.fixture(scope="module")
def content(small):
    return convert.to_flatbuffer(small)


def test_every_binary_convolution_is_an_lcebconv2d(converted):
    _, parsed, operations, agreement = converted
    assert verify.operator_counts(parsed)["LceBconv2d"] == tiny_bnext.UNITS
    assert operations.binary_macs > 10 * operations.float_macs
    assert agreement.decisions >= 1 - verify.ROUNDED_DECISION_LIMIT


def test_every_reversal_has_one_axis(converted):
    """tflite-runtime 2.14, all that 32-bit ARM has, silently leaves out a second one."""
    graph = converted[1].subgraphs[0]
    reversals = [op for op in graph.operators if op.name == "REVERSE_V2"]
    assert reversals
    assert all(graph.tensors[op.inputs[1]].shape == (1,) for op in reversals)


def test_the_file_is_as_the_contract_says(converted, trained):
    parsed = parse_tflite(converted[0].read_bytes())
    about = read_metadata(parsed)
    for key in (
        "format backbone channels resolution resize labels threshold temperature dataset metrics version"
    ).split():
        assert key in about, key
    assert about["labels"] == ["REAL", "FAKE"]
    validation = json.loads(trained.metrics("validation").read_text())
    assert about["threshold"] == validation["threshold"]
    assert about["temperature"] == validation["temperature"] != 1
    chosen = {rate: row["threshold"] for rate, row in validation["thresholds"].items()}
    assert about["thresholds"] == {rate: chosen[rate] for rate in ("0.05", "0.25")}
    assert [chosen[rate] for rate in ("0.001", "0.01")] == [None, None]  # too few images to determine one
    assert about["metrics"]["split"] == "test"
    assert len(parsed.inputs) == len(parsed.outputs) == 1


def test_file_keras_and_csv_agree_on_scores_and_no_decision_depends_on_the_temperature(
    converted, trained, tree
):
    from bdd_tf.edge import load_image
    from bdd_tf.metrics import classification, score_files
    from bdd_tf.metrics.calibration import calibrated
    from bdd_tf.models.detector import logits
    from bdd_tf.training.weights import load_trained

    paths, _, scores = score_files.read_scores_csv(trained.scores("test"))
    with Detector(converted[0]) as detector:
        temperature = detector.metadata["temperature"]
        pixels = np.stack([load_image(tree / path, detector.resize) for path in paths])
        ours = detector.predict_batch(pixels)
    assert np.median(np.abs(ours - scores)) <= verify.ROUNDED_MEDIAN_LIMIT
    # As trained the network says something else, by far more than the file's weights are rounded.
    raw = logits(load_trained(trained))(pixels, training=False).numpy()[:, 0]
    # A sign near zero may flip with the size of the batch, which moves that one score.
    difference = np.abs(scores - calibrated(raw, temperature))
    assert np.median(difference) <= 1e-4
    assert difference.max() <= verify.MEDIAN_LIMIT * 10
    assert np.abs(scores - calibrated(raw)).max() > 1e-2
    _, labels, validated = score_files.read_scores_csv(trained.scores("validation"))
    as_trained = calibrated(temperature * (np.log(validated) - np.log1p(-validated)))
    threshold = classification.best_threshold(labels, as_trained)
    np.testing.assert_array_equal(scores >= detector.threshold, calibrated(raw) >= threshold)


def test_detector_equals_keras_on_files(converted, trained, tree):
    from bdd_tf.edge import load_image
    from bdd_tf.models.detector import fold_temperature
    from bdd_tf.training.weights import load_trained

    files = sorted((tree / "test").glob("*/*.png"))
    with Detector(converted[0]) as detector:
        ours = detector.predict(files)
        pixels = np.stack([load_image(f, detector.resize) for f in files])
    network = load_trained(trained)
    fold_temperature(network, detector.metadata["temperature"])
    keras = network(pixels, training=False).numpy()[:, 0]
    assert np.median(np.abs(ours - keras)) <= verify.ROUNDED_MEDIAN_LIMIT


def test_borders_are_exact_where_lce_alone_is_wrong(small, content):
    """LCE miscounts zero padding where the filter exceeds its map; the correction makes it right."""
    affected = [layer for layer in flat_layers(small) if needs_correction(layer)]
    assert affected
    images = sample_images.photographs(32, 32, seed=9)
    before = small(images, training=False).numpy()
    with exact_zero_padding(small):
        inside = small(images, training=False).numpy()
    after = small(images, training=False).numpy()
    np.testing.assert_allclose(inside, before, atol=1e-5)
    np.testing.assert_array_equal(after, before)
    agreement = verify.compare(small, content, images, 0.5)
    assert agreement.median <= verify.MEDIAN_LIMIT


def test_padding_sums_count_the_signs_outside_the_map(small):
    layer = next(layer for layer in flat_layers(small) if needs_correction(layer))
    sums, signs = padding_sums(layer), np.sign(layer.kernel.latent_variable.numpy())
    assert layer.kernel_size == (3, 3)
    # At the upper left of a 2x2 map the first row and column of taps lie outside.
    expected = signs.sum(axis=(0, 1, 2)) - signs[1:, 1:].sum(axis=(0, 1, 2))
    np.testing.assert_allclose(sums[0, 0], expected)


def test_a_float_convolution_in_place_of_a_binary_one_is_refused():
    image = tf.keras.Input((4, 4, 32))
    model = tf.keras.Model(image, binary_conv(32, 3, 1, "c")(image))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    assert sum(is_binary(layer) for layer in flat_layers(model)) == 1
    with pytest.raises(BddError, match="LceBconv2d"):
        verify.check_operators(model, parse_tflite(content))


def test_a_file_that_disagrees_is_not_written(content, tmp_path, monkeypatch):
    other = build_detector("bnext-n", 32, "rgb,sobel,fft,lbp", variant="stable")
    monkeypatch.setattr(convert, "to_flatbuffer", lambda model: content)
    config = experiment(channels=("rgb", "sobel", "fft", "lbp"))
    about = convert.metadata(config, Validated(), None, trained=False)
    with pytest.raises(BddError, match="disagrees with Keras"):
        convert.convert(other, about, tmp_path / "m.tflite", sample_images.photographs(16, 32))
    assert not list(tmp_path.iterdir())


def test_a_rounded_file_that_loses_auc_is_not_written(small, content, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "to_flatbuffer", lambda _: content)
    monkeypatch.setattr(verify, "check_agreement", lambda found, *_: found)
    images = sample_images.photographs(8, small.input.shape[1])
    about = {**convert.metadata(experiment(), Validated(), None, trained=True), "backbone": "bnext-n"}
    losses = iter((0.0021, 0.0019))
    monkeypatch.setattr(verify, "auc_loss", lambda *_: next(losses))
    output = tmp_path / "m.tflite"
    with pytest.raises(BddError, match=r"loses 0.0021 of AUC.*--weights float32"):
        convert.convert(small, about, output, images)
    assert not output.exists()
    _, _, agreement = convert.convert(small, about, output, images)
    assert agreement.auc_loss == 0.0019


def test_auc_is_compared_on_enough_images_of_both_classes(small, content):
    side = small.input.shape[1]
    images = sample_images.photographs(verify.AUC_IMAGES, side)
    labels = np.arange(len(images)) % 2
    assert verify.auc_loss(small, content, None) is None
    assert verify.auc_loss(small, content, (images[1:], labels[1:])) is None
    assert verify.auc_loss(small, content, (images, 0 * labels)) is None
    assert abs(verify.auc_loss(small, content, (images, labels))) < 0.02


@pytest.mark.parametrize("is_trained", [False, True])
def test_one_flipped_sign_stops_trained_networks_alone(small, content, is_trained, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "to_flatbuffer", lambda model: content)
    monkeypatch.setattr(verify, "compare", lambda *_: verify.Agreement(8, 1e-7, 0.1, 7 / 8))
    config = experiment(channels=("rgb", "sobel", "fft", "lbp"))
    about = convert.metadata(config, Validated(), None, trained=is_trained)
    with pytest.raises(BddError, match=r"87\.5%") if is_trained else contextlib.nullcontext():
        convert.convert(small, about, tmp_path / "m.tflite", sample_images.photographs(8, 32))
    assert (tmp_path / "m.tflite").exists() is not is_trained


def test_untrained_command(tmp_path, capsys):
    output = tmp_path / "n16.tflite"
    args = ["convert", "--untrained", "--backbone", tiny_bnext.NAME, "--resolution", "16"]
    assert main([*args, "--output", str(output)]) == 0
    assert f"{tiny_bnext.UNITS} LceBconv2d" in capsys.readouterr().out
    about = read_metadata(output.read_bytes())
    assert about["metrics"] is None
    assert about["dataset"] is None
    engine = create_engine(parse_tflite(output.read_bytes()), "lce")
    assert np.all(engine.run(np.zeros((2, 16, 16, 3), np.uint8)) >= 0)


def test_usage_errors(tmp_path, capsys, trained):
    assert main(["convert"]) == 2
    assert main(["convert", "--untrained"]) == 2
    assert main(["convert", "--run", "nonesuch", "--runs-dir", str(trained.path.parent)]) == 2
    assert "small" in capsys.readouterr().err
    args = ["convert", "--untrained", "--output", str(tmp_path / "m.tflite"), "--backbone"]
    assert main([*args, "bnext-x"]) == 2
    assert "bnext-n" in capsys.readouterr().err
    assert main([*args, "bnext-n", "--resolution", "225"]) == 2
    assert "224" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_gates_keep_one_byte_a_weight(content):
    smaller = quantize_gates(content)
    before, after = model_statistics(parse_tflite(content)), model_statistics(parse_tflite(smaller))
    assert len(smaller) < 0.65 * len(content)
    assert after.bytes_by_kind["float kernels"] < before.bytes_by_kind["float kernels"] / 4
    assert after.binary_macs == before.binary_macs
    images = sample_images.photographs(16, 32, seed=3)
    one, two = (create_engine(parse_tflite(smaller), engine).run(images) for engine in ("litert", "lce"))
    assert np.median(np.abs(np.reshape(one, -1) - np.reshape(two, -1))) <= verify.MEDIAN_LIMIT


def dense_layers(content):
    """(weights, bias, constant of the MUL behind) of each 1x1 convolution on a map of one pixel, in order."""
    graph = parse_tflite(content).subgraphs[0]
    makers = {op.outputs[0]: op for op in graph.operators}
    readers = {op.inputs[0]: op for op in graph.operators}

    def values(number):
        tensor = graph.tensors[number]
        if not tensor.nbytes:
            tensor = graph.tensors[makers[number].inputs[0]]
        return np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape).astype(np.float32)

    for op in graph.operators:
        if op.name == "CONV_2D" and graph.tensors[op.inputs[0]].shape[1:3] == (1, 1):
            behind = readers[op.outputs[0]]
            scale = values(behind.inputs[1]) if behind.name == "MUL" else None
            yield values(op.inputs[1])[:, 0, 0], values(op.inputs[2]), scale


def test_rounded_weights_are_within_half_a_step(content):
    """W = diag(s) Q and V diag(s) = diag(t) R, each row's largest weight being 127 steps."""
    before, after = list(dense_layers(content)), list(dense_layers(quantize_gates(content)))
    assert len(before) == len(after)
    rounded = 0
    for i in range(0, len(before), 2):
        (w, b, _), (v, c, _) = before[i : i + 2]
        (q, b_new, _), (r, c_new, t) = after[i : i + 2]
        if w.size < 1024:
            np.testing.assert_array_equal(q, w)
            continue
        rounded += 1
        s = np.abs(w).max(axis=1) / 127
        assert np.abs(q * s[:, None] - w).max() <= 0.5001 * s.max()
        assert np.all(np.abs(r * t[:, None] - v * s) <= 0.5001 * t[:, None])
        np.testing.assert_allclose(b_new * s, b, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(c_new * t, c, rtol=1e-5, atol=1e-7)
    assert rounded >= 10


def test_shrinking_twice_changes_nothing_more(content):
    once = quantize_gates(content)
    twice = quantize_gates(once)
    assert (
        model_statistics(parse_tflite(twice)).bytes_by_kind
        == model_statistics(parse_tflite(once)).bytes_by_kind
    )
    images = sample_images.photographs(8, 32, seed=4)
    one, two = (create_engine(parse_tflite(c)).run(images) for c in (once, twice))
    np.testing.assert_array_equal(one, two)


def test_float_weights_on_request(small, content, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "to_flatbuffer", lambda model: content)
    about = convert.metadata(
        experiment(channels=("rgb", "sobel", "fft", "lbp")), Validated(), None, trained=False
    )
    images, path = sample_images.photographs(16, 32), tmp_path / "m.tflite"
    with pytest.raises(UsageError, match="int8, float32, narrow"):
        convert.convert(small, about, path, images, "int4")
    parsed, _, agreement = convert.convert(small, about, path, images, "float32")
    assert "DEQUANTIZE" not in verify.operator_counts(parsed)
    assert agreement.median <= verify.MEDIAN_LIMIT
    smaller, _, _ = convert.convert(small, about, path, images)
    assert "DEQUANTIZE" in verify.operator_counts(smaller)
    assert len(smaller.content) < 0.65 * len(parsed.content)


def plain_scores(content, images):
    """Through the runtime alone, without any delegate of ours."""
    interpreter = interpreter_module().Interpreter(model_content=content)
    interpreter.allocate_tensors()
    scores = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).item())
    return np.array(scores)


def test_the_float_export_equals_the_binary_file_without_a_delegate(trained, converted):
    output, parsed, _, agreement = convert.convert_run(
        trained.name, trained.path.parent, delegate_free="float"
    )
    assert output == trained.delegate_free("float") == trained.path / "model-float.tflite"
    assert agreement.median <= verify.ROUNDED_MEDIAN_LIMIT
    assert not parsed.custom_operators
    about = read_metadata(parsed)
    assert about["precision"] == "float"
    assert about["threshold"] == read_metadata(parse_tflite(trained.tflite.read_bytes()))["threshold"]
    # Against the binary file that rounds nothing the signs are the same, and with them all else.
    model = weights.load_trained(trained)
    fold_temperature(model, about["temperature"])
    images = sample_images.photographs(24, 32, seed=5)
    exact = verify.file_scores(convert.to_flatbuffer(model), images)
    assert np.median(np.abs(plain_scores(output.read_bytes(), images) - exact)) <= verify.MEDIAN_LIMIT
    assert model_statistics(parsed).float_macs > count_operations(model).binary_macs


def test_the_int8_export_decides_like_the_binary_file(trained, converted, tree):
    output, parsed, operations, agreement = convert.convert_run(
        trained.name, trained.path.parent, delegate_free="int8"
    )
    assert output.name == "model-int8.tflite"
    assert agreement.decisions >= 1 - verify.ROUNDED_DECISION_LIMIT
    assert read_metadata(parsed)["precision"] == "int8"
    # Bytes: a third of what floats take, and the graph, which weighs something in a network this small.
    assert len(parsed.content) < 4 / 3 * operations.parameters + 32_768
    files = sorted((tree / "test").glob("*/*.png"))
    with Detector(output) as twin, Detector(trained.tflite) as binary:
        verdicts = [detector.verdicts(detector.predict(files)) for detector in (twin, binary)]
    assert np.mean([one == other for one, other in zip(*verdicts, strict=True)]) >= 0.8


def test_joining_two_files_is_running_one_after_the_other():
    # Small: it is converted thrice. Branches that meet again, and constants of every kind on both sides of the seam.
    layers = tf.keras.layers
    image = tf.keras.Input((32, 32, 3), dtype=tf.uint8)
    x = ForensicChannels(("rgb", "fft", "lbp"), "stable", name="channels")(image)
    x = Normalise(name="normalise")(layers.Conv2D(3, 3, padding="same", name="adapter")(x))
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    y = layers.PReLU(shared_axes=[1, 2])(layers.DepthwiseConv2D(3, padding="same")(x))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, layers.Multiply()([y, gate])]))
    model = tf.keras.Model(image, layers.Dense(1, activation="sigmoid")(x))
    front, back = builtin_ops.split_at_normalise(model)
    joined = builtin_ops.join(builtin_ops.float_file(front), builtin_ops.float_file(back))
    images = sample_images.photographs(8, 32)
    whole = builtin_ops.float_file(model)
    np.testing.assert_array_equal(verify.file_scores(joined, images), verify.file_scores(whole, images))
    assert parse_tflite(joined).outputs[0].shape[-1] == 1


@pytest.mark.slow
def test_twins_of_untrained_networks(tmp_path, capsys):
    output = tmp_path / "t.tflite"
    args = ["convert", "--untrained", "--resolution", "16", "--channels", "rgb", "--output", str(output)]
    assert main([*args, "--backbone", tiny_bnext.NAME, "--twin", "float"]) == 0
    assert "against the binary file" in capsys.readouterr().out
    assert not parse_tflite(output.read_bytes()).custom_operators


def test_other_twins_are_refused(trained):
    with pytest.raises(UsageError, match="float, int8"):
        convert.convert_run(trained.name, trained.path.parent, delegate_free="half")


def test_a_run_with_narrow_weights_is_written_on_request(trained, converted, tmp_path):
    shutil.copytree(trained.path, tmp_path / trained.name)
    output, parsed, _, agreement = convert.convert_run(trained.name, tmp_path, weights="narrow")
    assert output.read_bytes() == parsed.content
    assert len(parsed.content) < 0.97 * len(converted[1].content)
    assert {"int8", "float16"} <= {t.dtype for t in parsed.subgraphs[0].tensors}
    assert agreement.median <= verify.ROUNDED_MEDIAN_LIMIT
    assert read_metadata(parsed) == read_metadata(converted[1])
