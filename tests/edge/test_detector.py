import itertools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import engines, runtime
from bdd_tf.edge.detector import BATCH, Detector
from bdd_tf.edge.engines import create_engine, engine_names, register_engine
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.shipped_model import shipped_model
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
from bdd_tf.errors import BddError, UsageError
from tests.edge.runtime import float_cases
from tests.edge.small_models import SIZE, TRAINED_ON, build, metadata, with_metadata


@pytest.fixture(scope="module")
def float_detector(float_file):
    with Detector(float_file) as detector:
        yield detector


def write(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("engine", ["native", "litert"])
def test_each_engine_agrees_with_keras(engine, float_file, float_model, images):
    detector = Detector(float_file, engine=engine)
    assert detector.engine_name == engine
    scores = detector.predict_batch(images)
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 0.01  # or the comparison would say nothing
    np.testing.assert_allclose(scores, float_model.keras_scores(images), atol=1e-5)


@pytest.mark.parametrize("engine", ["native", "litert", "lce"])
@pytest.mark.parametrize("name", ["binary_model", "binary_model_on_small_map"])
def test_binary_models_agree_with_keras_where_lces_fast_kernels_would_not(
    name, engine, request, tmp_path, images
):
    model = request.getfixturevalue(name)
    detector = Detector(write(tmp_path, with_metadata(model.content)), engine=engine, num_threads=2)
    assert detector.engine_name == engine
    scores = detector.predict_batch(images)
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 0.01
    np.testing.assert_allclose(scores, model.keras_scores(images), atol=1e-4)


def test_padding_with_ones_on_a_small_map_may_run_fast(tmp_path, images):
    model = build(pool=4, pad_values=1)
    detector = Detector(write(tmp_path, with_metadata(model.content)))
    np.testing.assert_allclose(detector.predict_batch(images), model.keras_scores(images), atol=1e-4)


def test_a_batch_equals_its_images_one_by_one(float_detector, images):
    together = float_detector.predict_batch(images)
    alone = [float_detector.predict_batch(image[None])[0] for image in images]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_array_equal(float_detector.predict_batch(images), together)


def test_every_kind_of_image_gives_the_same_score(float_detector, photo, save):
    path = save(photo, "a.png")
    expected = float_detector.predict_batch(ResizeRule.reference(SIZE).apply(photo)[None])
    content = path.read_bytes()
    for single in (
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        Image.open(path),
        photo,
    ):
        result = float_detector.predict(single)
        assert (result.shape, result.dtype) == ((1,), np.float32)
        np.testing.assert_array_equal(result, expected)
    several = float_detector.predict([path, str(path), Image.open(path), photo])
    np.testing.assert_allclose(several, np.repeat(expected, 4), atol=1e-6)
    np.testing.assert_allclose(
        float_detector.predict(np.stack([photo, photo])), np.repeat(expected, 2), atol=1e-6
    )


def test_order_is_kept_over_batches_and_no_images_give_no_scores(float_detector):
    many = np.random.default_rng(2).integers(0, 256, (2 * BATCH + 3, SIZE, SIZE, 3), dtype=np.uint8)
    alone = [float_detector.predict(image)[0] for image in many]
    np.testing.assert_allclose(float_detector.predict(list(many)), alone, atol=1e-6)
    np.testing.assert_allclose(float_detector.predict(image for image in many), alone, atol=1e-6)
    assert float_detector.predict([]).shape == float_detector.predict(iter(())).shape == (0,)


@pytest.mark.parametrize("nonsense", [42, None, [42], object()])
def test_objects_that_are_no_images_are_wrong_usage(float_detector, nonsense):
    with pytest.raises(UsageError, match="an image must be"):
        float_detector.predict(nonsense)


def test_the_files_own_rule_is_applied(float_model, tmp_path, photo):
    rules = [ResizeRule.native(SIZE), ResizeRule.reference(SIZE), ResizeRule(SIZE, 20)]
    scores = []
    for rule in rules:
        detector = Detector(write(tmp_path, with_metadata(float_model.content, resize=rule.to_dict())))
        assert detector.resize == rule
        scores.append(detector.predict(photo)[0])
        np.testing.assert_allclose(
            scores[-1], float_model.keras_scores(rule.apply(photo)[None])[0], atol=1e-5
        )
    assert len(set(scores)) == len(rules)


def test_attributes(float_detector):
    assert float_detector.threshold == 0.25
    assert float_detector.labels == ("REAL", "FAKE")
    assert float_detector.metadata == metadata()
    assert float_detector.verdicts(np.array([0.2, 0.25, 0.9], np.float32)) == ["REAL", "FAKE", "FAKE"]


def test_unreadable_images_are_named(float_detector, tmp_path, photo):
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"bad\.png: not an image"):
        float_detector.predict([photo, tmp_path / "bad.png"])


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 9, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
        [np.zeros((8, 8, 3), np.uint8)],
    ],
)
def test_batches_of_other_shapes_are_wrong_usage(float_detector, batch):
    with pytest.raises(UsageError, match=r"N, 8, 8, 3"):
        float_detector.predict_batch(batch)


def test_threads_share_a_detector(float_detector):
    many = np.random.default_rng(3).integers(0, 256, (24, SIZE, SIZE, 3), dtype=np.uint8)
    expected = [float_detector.predict_batch(image[None])[0] for image in many]
    results = {}

    def work(offset):
        for index in range(offset, 24, 4):
            size = 1 + index % 3  # other threads change the batch size in between
            results[index] = float_detector.predict_batch(np.repeat(many[index][None], size, 0))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 24
    for index, scores in results.items():
        np.testing.assert_allclose(scores, expected[index], atol=1e-6)


@pytest.mark.parametrize("kind", ["float_file", "binary_file"])
def test_many_threads_get_the_same_results_until_the_detector_is_closed(kind, request, save):
    """32 threads, every kind of source, batches of all sizes; then closing it beneath them."""
    rng = np.random.default_rng(4)
    many = rng.integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    files = [save(image, f"{index}.png") for index, image in enumerate(many)]
    threads, rounds = 32, 6
    with Detector(request.getfixturevalue(kind), num_threads=2) as detector:
        expected = [detector.predict_batch(image[None])[0] for image in many]
        resized = [detector.predict(image)[0] for image in many]
        assert min(np.ptp(expected), np.ptp(resized)) > 0.01
        start = threading.Barrier(threads)

        def work(seed):
            order = np.random.default_rng(seed)
            start.wait()
            for _ in range(rounds):
                chosen = order.integers(0, len(many), order.integers(1, 2 * BATCH + 2))
                if order.integers(2):
                    scores = detector.predict(iter(files[i] if i % 2 else many[i] for i in chosen))
                    np.testing.assert_allclose(scores, np.take(resized, chosen), atol=1e-5)
                else:
                    scores = detector.predict_batch(many[chosen])
                    np.testing.assert_allclose(scores, np.take(expected, chosen), atol=1e-5)
            return rounds

        with ThreadPoolExecutor(threads) as pool:
            assert sum(pool.map(work, range(threads))) == threads * rounds

        start.reset()
        closing, closed = threading.Event(), threading.Event()

        def until_closed(_):
            start.wait()
            for count in itertools.count():
                late = closed.is_set()
                try:
                    np.testing.assert_allclose(detector.predict_batch(many[:3]), expected[:3], atol=1e-5)
                except BddError as error:
                    assert "closed" in str(error)  # noqa: PT017 (any other error is raised)
                    assert closing.is_set()
                    return count
                assert not late
            return None

        with ThreadPoolExecutor(threads + 1) as pool:
            counts = pool.map(until_closed, range(threads))
            time.sleep(0.2)
            closing.set()
            detector.close()
            closed.set()
            assert sum(counts) > 0


def test_a_closed_detector_says_so(float_file, images):
    with Detector(float_file) as detector:
        detector.predict_batch(images)
    detector.close()
    with pytest.raises(BddError, match="closed"):
        detector.predict_batch(images)


def test_models_that_are_none(tmp_path, float_model):
    with pytest.raises(UsageError, match=r"no such model: .*missing\.tflite"):
        Detector(tmp_path / "missing.tflite")
    with pytest.raises(UsageError, match="none"):
        Detector(tmp_path)
    with pytest.raises(BddError, match=r"model\.tflite: this is not a \.tflite file"):
        Detector(write(tmp_path, b"GIF89a not a model"))
    with pytest.raises(BddError, match="no bdd_tf metadata"):
        Detector(write(tmp_path, float_model.content))
    with pytest.raises(BddError, match="not JSON"):
        Detector(write(tmp_path, embed_metadata(float_model.content, METADATA_NAME, b"{")))


def test_without_an_argument_the_shipped_model_is_used():
    with Detector() as detector:
        assert detector.trained_on is not None
    with Detector(shipped_model()) as named:
        assert named.metadata == detector.metadata


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 99}, "upgrade"),
        ({"format": None}, "format"),
        ({"resize": None}, "resize rule"),
        ({"resize": {"size": 8, "shorter_side": 4}}, "shorter_side"),
        ({"resize": {"size": 16, "shorter_side": 16}}, r"\[1, 16, 16, 3\]"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"threshold": None}, "threshold"),
        ({"labels": ["FAKE", "REAL"]}, "labels"),
        ({"labels": None}, "labels"),
        ({"thresholds": [0.5]}, "thresholds"),
        ({"thresholds": {"0.01": 1.5}}, "threshold"),
        ({"thresholds": {"0.01": None}}, "threshold"),
        ({"thresholds": {"few": 0.5}}, "'few' is not a false positive rate"),
        ({"thresholds": {"1": 0.5}}, "'1' is not a false positive rate"),
        ({"thresholds": {"nan": 0.5}}, "'nan' is not a false positive rate"),
        ({"trained_on": 7}, "trained_on"),
        ({"trained_on": {**TRAINED_ON, "sides": [32]}}, "trained_on"),
        ({"trained_on": {**TRAINED_ON, "sides": [33, 32]}}, "trained_on"),
        ({"trained_on": {**TRAINED_ON, "detail": [0, float("inf")]}}, "trained_on"),
        ({"trained_on": {k: v for k, v in TRAINED_ON.items() if k != "contrast"}}, "trained_on"),
    ],
)
def test_metadata_that_contradict_the_format_are_named(tmp_path, float_model, changes, said):
    with pytest.raises(BddError, match=said) as caught:
        Detector(write(tmp_path, with_metadata(float_model.content, **changes)))
    assert caught.value.exit_code == 1  # the file is at fault, not the call


def test_models_with_another_input_are_refused(tmp_path):
    model = build(binary=False, dtype="float32")
    with pytest.raises(BddError, match=r"takes float32 \[1, 8, 8, 3\]"):
        Detector(write(tmp_path, with_metadata(model.content)))


def test_damaged_models_never_raise_anything_else(tmp_path, float_model):
    content = with_metadata(float_model.content)
    for length in range(0, len(content), 97):
        with pytest.raises(BddError):
            Detector(write(tmp_path, content[:length]))


def test_the_native_engine_is_the_default_for_what_it_covers(binary_file, float_file):
    assert engine_names()[:4] == ("auto", "native", "litert", "lce")
    for path in (binary_file, float_file):
        assert Detector(path).engine_name == "native"
    covered, uncovered = (
        parse_tflite(float_cases.model(name, (1, 4), out=(1, 4))) for name in ("ABS", "SIN")
    )
    assert create_engine(covered).name == "native"
    assert create_engine(uncovered).name == "litert"
    with pytest.raises(BddError, match="SIN"):
        create_engine(uncovered, "native")


def test_without_litert_the_operator_and_the_extra_are_named(monkeypatch):
    for name in (
        "ai_edge_litert",
        "ai_edge_litert.interpreter",
        "tflite_runtime",
        "tflite_runtime.interpreter",
    ):
        monkeypatch.setitem(sys.modules, name, None)
    model = parse_tflite(float_cases.model("SIN", (1, 4), out=(1, 4)))
    with pytest.raises(BddError, match=r"SIN, code 66.*pip install 'bdd_tf\[litert\]'"):
        create_engine(model)
    with pytest.raises(BddError, match=r"no TFLite runtime.*pip install 'bdd_tf\[litert\]'"):
        create_engine(model, "litert")


def test_without_the_library_binary_models_say_how_to_get_it_and_float_ones_run(
    binary_file, float_file, monkeypatch, tmp_path, images
):
    monkeypatch.setattr(runtime, "_FOLDER", tmp_path)
    monkeypatch.delenv("BDD_LCE_LIBRARY", raising=False)
    monkeypatch.setenv("CXX", "no-such-compiler")  # else the library would be compiled now
    with pytest.raises(BddError, match="pip install ziglang"):
        Detector(binary_file)
    Detector(float_file).predict_batch(images)
    monkeypatch.setenv("BDD_LCE_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(BddError, match=r"none\.so"):
        Detector(binary_file)
    (tmp_path / "none.so").write_bytes(b"no library")
    with pytest.raises(BddError, match="cannot load"):
        Detector(binary_file)


def test_lce_runs_models_without_binary_operators_too(float_file, float_model, images):
    detector = Detector(float_file, engine="lce")
    np.testing.assert_allclose(detector.predict_batch(images), float_model.keras_scores(images), atol=1e-5)


def test_unknown_engines_and_threads_are_wrong_usage(float_file):
    with pytest.raises(UsageError, match="auto, native, litert, lce"):
        Detector(float_file, engine="onnx")
    with pytest.raises(UsageError, match="num_threads"):
        Detector(float_file, num_threads=0)


def test_engines_can_be_added_and_are_imported_late(float_file, images, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    (tmp_path / "late_engine.py").write_text(
        "import numpy as np\n"
        "class Half:\n"
        "    name = 'half'\n"
        "    def __init__(self, model, num_threads): self.threads = num_threads\n"
        "    def run(self, images): return np.full(len(images), 0.5, np.float32)\n"
    )
    register_engine("half", "late_engine:Half")
    with pytest.raises(BddError, match="not part of this installation"):
        create_engine(parse_tflite(float_file.read_bytes()), "half")
    monkeypatch.syspath_prepend(tmp_path)
    np.testing.assert_array_equal(Detector(float_file, engine="half").predict_batch(images), 0.5)


@pytest.mark.parametrize(
    "output", ["np.full(len(images), 1.5)", "np.array([0.5])", "images[:, 0, 0, 0] * np.nan"]
)
def test_outputs_that_are_no_probabilities_are_errors(float_file, images, monkeypatch, tmp_path, output):
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    module = f"odd_engine_{abs(hash(output))}"
    (tmp_path / f"{module}.py").write_text(
        "import numpy as np\n"
        "class Odd:\n"
        "    name = 'odd'\n"
        "    def __init__(self, model, num_threads): pass\n"
        f"    def run(self, images): return {output}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    register_engine("odd", f"{module}:Odd")
    with pytest.raises(BddError, match="probability"):
        Detector(float_file, engine="odd").predict_batch(images)


def test_missing_lce_is_explained(binary_file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "larq_compute_engine.tflite.python.interpreter", None)
    with pytest.raises(BddError, match="pip install larq-compute-engine"):
        Detector(binary_file, engine="lce")
