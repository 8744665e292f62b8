import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.explain.channels import ablate, planes_of
from bdd_tf.edge.explain.explainers import create_explainer
from bdd_tf.edge.explain.explanation import sigmoid
from bdd_tf.edge.explain.heat_map import FAKE_COLOUR, REAL_COLOUR, colours, draw
from bdd_tf.edge.explain.occlusion import Occlusion, patches
from bdd_tf.edge.tflite.cut import channel_stack_of, extract, logit_of
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.flatbuffer import TfliteError
from bdd_tf.errors import BddError, UsageError
from tests.edge.explain.known_models import SIDE, channel_network, corner_network, file_of

NAMES = ("rgb", "fft", "lbp")


@pytest.fixture(scope="module")
def corner(tmp_path_factory):
    path = tmp_path_factory.mktemp("corner") / "model.tflite"
    path.write_bytes(file_of(corner_network()))
    return Detector(path)


@pytest.fixture(scope="module", params=["fft", "lbp", "rgb"])
def silent(request, tmp_path_factory):
    """A channel whose adapter weights are 0, the Keras network and the detector."""
    network = channel_network(request.param)
    path = tmp_path_factory.mktemp("channels") / "model.tflite"
    path.write_bytes(file_of(network, NAMES))
    return request.param, network, Detector(path)


def noise(seed=0, count=None):
    shape = (SIDE, SIDE, 3) if count is None else (count, SIDE, SIDE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def bright_corner():
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    image[: SIDE // 2, : SIDE // 2] = 120
    return image


def test_the_map_peaks_where_the_network_looks(corner):
    found = Occlusion(corner)(bright_corner())
    half = SIDE // 2
    inside, outside = found.values[:half, :half], np.delete(found.values.copy(), np.s_[: half + 2], 0)
    assert inside.min() > 0  # bright there is FAKE, and the patch is darker
    assert np.abs(outside).max() < 1e-5
    assert found.values.max() == inside.max()
    assert found.box.left + found.box.width <= half
    assert found.box.top + found.box.height <= half
    assert found.box_value > 0


def test_evidence_for_real_is_negative(corner):
    image = 160 - bright_corner()
    found = Occlusion(corner)(image)
    assert found.values[: SIDE // 2, : SIDE // 2].max() < 0
    assert found.box_value < 0


def test_a_value_is_the_change_of_the_logit_by_the_patches_over_it(corner):
    image = bright_corner()
    found = Occlusion(corner)(image)
    box, covered = found.box, image.copy()
    covered[box.top : box.top + box.height, box.left : box.left + box.width] = np.rint(image.mean((0, 1)))
    p, q = corner.predict_batch(np.stack([image, covered])).astype(np.float64)
    assert found.logit == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
    assert found.box_value == pytest.approx(np.log(p / (1 - p)) - np.log(q / (1 - q)), abs=1e-4)


def test_saturated_probabilities_still_have_a_map(corner):
    """The probability is 1.0 in float32 there; the logit in front of it is not used up."""
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    image[SIDE // 2 :] = 0
    found = Occlusion(corner)(np.where(image == 255, np.uint8(255), np.uint8(250)))
    assert found.logit > 9
    assert found.values.max() > 0


@pytest.mark.parametrize("side", [1, 2, 8, 15, 16, 32, 60, 224])
def test_patches_cover_every_pixel_and_stay_inside(side):
    covered = np.zeros((side, side), int)
    for box in patches(side):
        assert box.left >= 0
        assert box.left + box.width <= side
        covered[box.top : box.top + box.height, box.left : box.left + box.width] += 1
    assert covered.min() >= 1
    assert len(patches(side)) <= 196


@pytest.mark.parametrize("reference", [None, noise(7, 9)])
def test_a_channel_that_the_adapter_does_not_read_moves_nothing(silent, reference):
    name, _, detector = silent
    found = Occlusion(detector, reference=reference)(noise(3))
    assert set(found.channels) == set(NAMES)
    assert found.channels[name] == 0
    assert all(abs(found.channels[other]) > 1e-3 for other in NAMES if other != name)
    assert found.reference == ("own mean" if reference is None else "mean of 9 images")


def test_the_files_halves_are_the_file_and_its_stack_is_keras(silent):
    _, network, detector = silent
    from bdd_tf.models.forensic_channels import add_channels

    model, images = detector.model, noise(5, 3)
    entry, logit = model.subgraphs[0].inputs[0], logit_of(model)
    stack, depths = channel_stack_of(model, len(NAMES))
    assert depths == (3, 1, 1)
    from bdd_tf.edge.engines import create_engine

    front, tail = create_engine(extract(model, entry, stack)), create_engine(extract(model, stack, logit))
    stacks = np.stack([front.run(image[None]).reshape(SIDE, SIDE, 5) for image in images])
    np.testing.assert_allclose(stacks, add_channels(images, NAMES, "stable").numpy(), atol=1e-5)
    scores = network.predict(images, verbose=0)[:, 0]
    np.testing.assert_allclose([sigmoid(float(z)) for z in tail.run(stacks)], scores, atol=1e-5)


def test_an_ablated_channel_is_its_mean():
    stack = np.random.default_rng(0).random((4, 4, 4)).astype(np.float32)

    def logits(stacks):
        """Reads the corner of the first and of the last plane."""
        return stacks[:, 0, 0, 0].astype(np.float64) + stacks[:, 0, 0, 3]

    own = ablate(stack, planes_of(("rgb", "fft"), (3, 1)), logits)
    assert own["fft"] == pytest.approx(stack[0, 0, 3] - stack[..., 3].mean(), abs=1e-6)
    given = ablate(stack, planes_of(("rgb", "fft"), (3, 1)), logits, np.full_like(stack, 0.25))
    assert given["rgb"] == pytest.approx(stack[0, 0, 0] - 0.25, abs=1e-6)


def test_channels_of_several_planes_are_ablated_as_a_whole():
    stack = np.random.default_rng(0).random((4, 4, 9)).astype(np.float32)
    planes = planes_of(("rgb", "haar"), (3, 6))
    found = ablate(stack, planes, lambda x: x[:, 0, 0].sum(-1).astype(np.float64))
    for name, part in planes.items():
        expected = (stack[0, 0, part] - stack[..., part].mean((0, 1))).sum()
        assert found[name] == pytest.approx(expected, abs=1e-6)


def test_the_shipped_model_ablates_every_channel_that_it_names():
    detector = Detector()
    stack, depths = channel_stack_of(detector.model, len(detector.metadata["channels"]))
    assert sum(depths) == detector.model.subgraphs[0].tensors[stack].shape[-1]
    assert Occlusion(detector)._channels is not None


def test_without_channels_it_says_why(corner):
    found = Occlusion(corner)(noise())
    assert found.channels == {}
    assert "RGB" in found.why_no_channels
    assert found.to_dict()["channel_reference"] is None


def test_metadata_that_names_channels_the_file_lacks_is_no_end(corner, monkeypatch):
    monkeypatch.setitem(corner.metadata, "channels", ["rgb", "fft", "x"])
    assert "no tensor that concatenates" in Occlusion(corner)(noise()).why_no_channels
    monkeypatch.setitem(corner.metadata, "channels", {"rgb": 1})
    assert Occlusion(corner)(noise()).channels == {}


def test_a_part_that_needs_more_than_it_is_given_is_refused(silent):
    _, _, detector = silent
    graph = detector.model.subgraphs[0]
    # FFT and LBP are made of the grey levels, RGB is not.
    inner = next(op for op in graph.operators if op.name == "FLOOR").outputs[0]
    with pytest.raises(TfliteError, match="around"):
        extract(detector.model, inner, graph.outputs[0])


def test_extracting_leaves_the_model_as_it_is(corner):
    before = bytes(corner.model.content)
    part = extract(corner.model, corner.model.subgraphs[0].inputs[0], logit_of(corner.model))
    assert corner.model.content == before
    assert len(part.content) == len(before)
    assert len(part.subgraphs[0].operators) == len(corner.model.subgraphs[0].operators) - 1
    assert parse_tflite(part.content).metadata.keys() == corner.model.metadata.keys()


def test_binary_networks_are_cut_like_others(binary_file):
    detector = Detector(binary_file)
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = Occlusion(detector)(image)
    assert sigmoid(found.logit) == pytest.approx(float(detector.predict_batch(image[None])[0]), abs=1e-5)
    assert np.isfinite(found.values).all()
    assert np.abs(found.values).max() > 0


def test_unknown_explainers_and_grad_cam_without_a_run(corner):
    with pytest.raises(UsageError, match="occlusion"):
        create_explainer("magic", corner)
    with pytest.raises(UsageError, match="--run"):
        create_explainer("grad-cam", corner)


def test_a_logit_that_is_no_number_is_an_error(corner):
    explain = Occlusion(corner)
    explain._score = lambda images: np.full(len(images), np.nan, np.float32)
    with pytest.raises(BddError, match="not finite"):
        explain(noise())


def test_the_colour_scale_diverges_from_white_at_zero():
    scale = colours(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), 1.0)
    assert [tuple(c) for c in scale] == [REAL_COLOUR, REAL_COLOUR, (255,) * 3, FAKE_COLOUR, FAKE_COLOUR]
    rising = colours(np.linspace(-1, 1, 21), 1.0).astype(int)
    assert (np.diff(rising[:, 2]) <= 0)[10:].all()  # towards FAKE blue fades
    assert (np.diff(rising[:, 0]) >= 0)[:10].all()  # from REAL red grows


def test_the_picture_shows_evidence_for_each_class(corner):
    image = bright_corner()
    picture = np.asarray(draw(image, Occlusion(corner)(image), "FAKE", "a\n\udcff\u202e$x$.png")).astype(int)
    side = 320
    panel = picture[62 : 62 + side, 368 : 368 + side]
    warm = panel[..., 0] - panel[..., 2] > 60
    assert warm[: side // 2, : side // 2].mean() > 0.5
    assert warm[side // 2 + 40 :].mean() < 0.02
