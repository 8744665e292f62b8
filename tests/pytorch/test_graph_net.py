"""A Keras graph in PyTorch: the same function, the same weights there and back."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install -e .[torch]")

from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import build_detector, logits, seed_everything
from bdd_tf.pytorch.graph_net import GraphNet
from bdd_tf.pytorch.keras_graph import describe_graph, load_arrays


def built(backbone, stride=None, side=32):
    tf.keras.backend.clear_session()
    seed_everything(3)
    return build_detector(backbone, side, ("rgb", "fft", "lbp"), "stable", stride)


def randomised(net):
    """Weights of every kind away from their start."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith("running_var"):
                p.uniform_(0.5, 2.0)
            elif name.endswith(("running_mean", "bias")):
                p.normal_(0, 0.1)
    return net.eval()


def planes(model, count=4):
    """What the graph begins with, for a few images, channels first."""
    side = model.input.shape[1]
    images = np.random.default_rng(2).integers(0, 256, (count, side, side, 3), np.uint8)
    inputs = tf.keras.Model(model.input, model.get_layer("channels").output)(images).numpy()
    return images, torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())


NETS = [("resnet50", None), ("resnet50", 4), ("mobilenetv3-small", None),
        ("efficientnet-b0", None), ("densenet121", None), ("vgg16", None), ("mobilenetv2", None)]  # fmt: skip


@pytest.mark.parametrize(("backbone", "stride"), NETS)
def test_the_same_function_and_weights_there_and_back(backbone, stride):
    model = built(backbone, stride, 64 if stride == 4 else 32)
    graph = json.loads(json.dumps(describe_graph(model)))
    net = randomised(GraphNet(graph))
    arrays = net.arrays()
    load_arrays(model, arrays)
    images, x = planes(model)
    keras = logits(model)(images, training=False).numpy()
    with torch.no_grad():
        ours = net(x).numpy()
    assert ours.shape == keras.shape
    np.testing.assert_allclose(ours, keras, atol=1e-4 * max(1.0, float(np.abs(keras).max())))
    assert keras.std() > 0
    for layer in model._flatten_layers():
        if layer.weights and not isinstance(layer, tf.keras.Model):
            for one, two in zip(layer.get_weights(), arrays[layer.name], strict=True):
                np.testing.assert_array_equal(one, two)


def test_weights_that_do_not_fit_are_refused_in_one_sentence():
    model = built("mobilenetv3-small")
    before = model.get_layer("logit").get_weights()
    arrays = GraphNet(describe_graph(model)).arrays()
    arrays["logit"] = [arrays["logit"][0].T, arrays["logit"][1]]
    arrays["other"] = arrays.pop("adapter")
    with pytest.raises(BddError, match=r"missing: adapter; unexpected: other; logit: shapes"):
        load_arrays(model, arrays)
    np.testing.assert_array_equal(before[0], model.get_layer("logit").get_weights()[0])


def test_an_unknown_layer_is_named():
    graph = describe_graph(built("mobilenetv3-small"))
    graph["layers"][3]["kind"] = "LSTM"
    with pytest.raises(ValueError, match="LSTM"):
        GraphNet(graph)


def test_it_starts_as_keras_does():
    model = built("resnet50")
    arrays = GraphNet(describe_graph(model)).arrays()
    for layer in model._flatten_layers():
        if layer.name in arrays and isinstance(layer, tf.keras.layers.Conv2D | tf.keras.layers.Dense):
            theirs, ours = layer.get_weights()[0], arrays[layer.name][0]
            if theirs.size > 2000:
                assert abs(np.log(theirs.std() / ours.std())) < 0.1, layer.name
