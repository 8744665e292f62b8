"""Compare training steps with our kernels and with TensorFlow's graph, in turns: `python benchmarks/training_step.py`.

A step processes a batch of random images: forensic channels, network, gradients, AdamW.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from bdd_tf.config import GRADIENTS, Experiment
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import logits
from bdd_tf.presets import experiment
from bdd_tf.training.native import blocks
from bdd_tf.training.optimizer import AdamW
from bdd_tf.training.step import fused_blocks
from bdd_tf.training.weights import build


def one_step(config: Experiment, images: tf.Tensor, labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function that runs one training step of an experiment."""
    model = build(config)
    fused, whole = fused_blocks(model, config), logits(model)
    optimizer, variables = AdamW(1e-3), model.trainable_variables

    @tf.function
    def step(seed: tf.Tensor) -> tf.Tensor:
        logit = blocks.logits(model, fused, images, True, seed) if fused else whole(images, training=True)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logit))
        optimizer.apply_gradients(zip(tf.gradients(loss, variables), variables, strict=True))
        return loss

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="bnext-n")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--channels", default="rgb,fft,lbp")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5, help="number of turns of each variant; default 5")
    parser.add_argument("--steps", type=int, default=4, help="steps per turn; default 4")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    side = args.resolution
    images = tf.constant(rng.integers(0, 256, (args.batch, side, side, 3)).astype(np.uint8))
    labels = tf.constant(rng.integers(0, 2, (args.batch, 1)).astype(np.float32))
    steps = {}
    for gradients in GRADIENTS:
        config = experiment(
            dataset="folder",
            backbone=args.backbone,
            resolution=side,
            channels=tuple(args.channels.split(",")),
            batch=args.batch,
            gradients=gradients,
        )
        steps[gradients] = one_step(config, images, labels)
    seconds = {name: [] for name in steps}
    for step in steps.values():
        for k in range(2):
            step(tf.constant(k))
    for turn in range(args.rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            for k in range(args.steps):
                step(tf.constant(turn * args.steps + k))
            seconds[name].append((time.perf_counter() - began) / args.steps)
    base = statistics.median(seconds["keras"])
    print(f"{args.backbone}, {side} px, {args.channels}, batch {args.batch}: median of {args.rounds} turns")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:8} {median * 1e3:8.0f} ms  {args.batch / median:6.0f} images/s  x {base / median:.2f}")


if __name__ == "__main__":
    main()
