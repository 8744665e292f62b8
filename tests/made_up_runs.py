"""Small run folders with made-up scores, for the tests of reports."""

import numpy as np
import yaml

from bdd_tf.config import Experiment
from bdd_tf.metrics import score_files
from bdd_tf.metrics.bootstrap import metrics_document
from bdd_tf.runs import Run

HISTORY = "epoch,images,loss,seconds\n1,950,0.7,30.5\n2,1900,0.5,29.5\n"
CONFIG = "dataset: cifake\nbackbone: bnext-n\nchannels: [rgb, fft]\nresolution: 32\nepochs: 2\n"


def make_run(
    runs, name, *, shift=0.0, images=200, prefix="", noise=0, bootstrap=20, weights=False, **settings
):
    """A complete run folder; `shift` makes its scores worse, `noise` seeds them; `settings` replace some of the experiment's."""
    run = Run(runs / name)
    run.figures.mkdir(parents=True)
    (run.figures / "roc-test.png").write_bytes(b"png")
    run.config.write_text(CONFIG)
    if settings:
        config = Experiment.from_dict({**yaml.safe_load(CONFIG), **settings})
        config.save(run.config)
    run.history.write_text(HISTORY)
    run.tflite.write_bytes(b"x" * 12345)
    if weights:
        run.weights.write_bytes(b"w" * 1000)
        run.checkpoints.mkdir()
    random = np.random.default_rng(noise)
    labels = np.arange(images) % 2
    scores = np.clip(random.normal(0.3 + (0.4 - shift) * labels, 0.2), 0, 1)
    paths = [f"{prefix}{i}.png" for i in range(images)]
    for split in ("validation", "test"):
        document = metrics_document(
            labels, scores, 0.5, leaked=np.arange(images) < 20, bootstrap=bootstrap,
            about={"parameters": 7_654_321, "binary_macs": 98_304_000, "float_macs": 951_744, "channel_macs": 107_520},
        )  # fmt: skip
        score_files.write_json(run.metrics(split), document)
        score_files.write_scores_csv(run.scores(split), paths, labels, scores)
    return run, document
