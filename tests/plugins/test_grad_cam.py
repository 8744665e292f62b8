import json
from pathlib import Path

import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.explain.channels import ChannelAblation, planes_of
from bdd_tf.edge.explain.occlusion import Occlusion
from bdd_tf.edge.images.decode import load_image
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.errors import BddError
from bdd_tf.plugins.grad_cam import CamNetwork, bottleneck
from tests.edge.explain.known_models import SIDE, channel_network, corner_network, file_of

NAMES = ("rgb", "fft", "lbp")
PLANES = planes_of(NAMES, (3, 1, 1))


@pytest.mark.parametrize("turned", [False, True])
def test_the_map_peaks_where_the_network_looks_rotated_or_not(turned):
    network = CamNetwork(corner_network(turned=turned))
    image = np.random.default_rng(0).integers(90, 150, (SIDE, SIDE, 3), dtype=np.uint8)
    cells, logit = network.cam(image)
    assert cells.shape == (4, 4)
    assert cells[:2, :2].min() > 0
    assert np.abs(cells).sum() == pytest.approx(cells[:2, :2].sum(), rel=1e-5)
    assert cells.mean() == pytest.approx(logit, rel=1e-4)  # only a mean and the classifier follow
    assert logit == pytest.approx(image[: SIDE // 2, : SIDE // 2].mean() / 25, rel=1e-3)


def test_bnexts_map_is_behind_a_whole_block_finite_and_not_empty():
    from bdd_tf.models.detector import build_detector, seed_everything

    seed_everything(0)
    network = CamNetwork(build_detector("bnext-n", 32, variant="stable"))
    # With gates and residuals around it, a layer sees only a part of the evidence.
    assert network.layer == "feature.11.ffn.add"
    cells, logit = network.cam(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert cells.shape == (4, 4)
    assert np.isfinite(cells).all()
    assert np.abs(cells).max() > 0
    assert np.isfinite(logit)


def test_a_network_whose_maps_are_too_small_is_refused():
    with pytest.raises(BddError, match="4 x 4"):
        bottleneck(corner_network_of_small_maps())


def corner_network_of_small_maps():
    from bdd_tf.legacy_keras import tf

    image = tf.keras.Input((3, 3, 3))
    return tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(image))


@pytest.mark.parametrize("silent", ["fft", "lbp", "rgb"])
def test_a_channel_that_the_adapter_does_not_read_moves_nothing(silent):
    network = CamNetwork(channel_network(silent))
    image = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    found = ChannelAblation(PLANES, network.stacks, network.logits, None)(image)
    assert found[silent] == 0
    assert all(abs(found[name]) > 1e-3 for name in NAMES if name != silent)


def test_keras_and_the_file_agree_on_the_channels(tmp_path):
    model = channel_network("lbp")
    (tmp_path / "model.tflite").write_bytes(file_of(model, NAMES))
    network, edge = CamNetwork(model), Occlusion(Detector(tmp_path / "model.tflite"))
    images = np.random.default_rng(2).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    keras = ChannelAblation(PLANES, network.stacks, network.logits, None)
    for image in images:
        found = edge(image)
        assert network.cam(image)[1] == pytest.approx(found.logit, abs=1e-4)
        assert keras(image) == pytest.approx(found.channels, abs=1e-4)


def test_a_run_is_explained_by_grad_cam_and_a_file_by_occlusion(trained, converted, tree, tmp_path, capsys):
    from bdd_tf import cli
    from bdd_tf.models.detector import logits
    from bdd_tf.runs import validated
    from bdd_tf.training.weights import load_trained

    run = ["--run", trained.name, "--runs-dir", str(trained.path.parent)]
    for name, options in (("grad-cam", run), ("occlusion", ["--model", str(trained.tflite)])):
        command = ["detect", str(tree / "test"), "--explain", str(tmp_path / name), "--json", *options]
        assert cli.main([*command, "--explain-limit", "2"]) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found = [record["explanation"] for record in records if record["explanation"]]
        assert (len(records), len(found)) == (24, 2)
        for values in found:
            assert values["method"] == name
            assert Path(values["picture"]).is_file()
            assert set(values["channels"]) == set(NAMES)
        if name == "grad-cam":
            explained = [record for record in records if record["explanation"]]
            pixels = np.stack([load_image(record["path"], ResizeRule.native(32)) for record in explained])
            as_trained = logits(load_trained(trained))(pixels, training=False).numpy()[:, 0]
            expected = as_trained / validated(trained).temperature
            assert [values["logit"] for values in found] == pytest.approx(expected, abs=1e-3)
