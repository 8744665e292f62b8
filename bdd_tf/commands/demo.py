"""`make demo`: train, evaluate, convert and detect on generated data, in minutes; prints one table.

It exits with code 1 if the detector does not learn or its .tflite file disagrees with Keras.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from bdd_tf.errors import BddError

RUN = "demo"
AUC_LIMIT = 0.9
EPOCHS = 6


def demonstrate(runs_dir: Path, epochs: int = EPOCHS) -> dict:
    """Train BNext-N on ``sample``, evaluate, convert, compare, detect.

    Args:
        runs_dir: Parent of the run folder; an older demo is replaced.
        epochs: Passes over the training split.

    Returns:
        The rows of the table: name -> value.

    Raises:
        BddError: If the test AUC is below :data:`AUC_LIMIT`, or Keras and the file disagree.
    """
    from bdd_tf.commands.convert import describe
    from bdd_tf.datasets.pipeline import load_dataset
    from bdd_tf.edge import Detector, load_image
    from bdd_tf.evaluation import evaluate
    from bdd_tf.figures.training import training_history
    from bdd_tf.presets import experiment
    from bdd_tf.reports.figures import image_channels
    from bdd_tf.runs import Run
    from bdd_tf.training import trainer
    from converters.convert import convert_run

    began = time.monotonic()
    run = Run(runs_dir / RUN)
    shutil.rmtree(run.path, ignore_errors=True)
    config = experiment(dataset="sample", epochs=epochs, batch=64, learning_rate=3e-3, warmup=20)
    trainer.train(config, run, runs_dir=runs_dir)
    trained = time.monotonic() - began
    training_history(run.figures / "history.png", run.history, title="demo")
    evaluate.evaluate_run(run, "validation")
    document = evaluate.evaluate_run(run, "test")
    output, parsed, operations, agreement = convert_run(RUN, runs_dir)
    print(describe(output, parsed, operations, agreement))

    data = load_dataset("sample", rule=config.rule)
    items = data.items("test")
    step = max(len(items) // 6, 1)
    chosen = [items[i] for i in range(0, len(items), step)][:6]
    with Detector(run.tflite) as detector:
        scores = detector.predict([data.file(i.path) for i in chosen])
        print("\nscores of the file for six test images:")
        for item, score, word in zip(chosen, scores, detector.verdicts(scores), strict=True):
            print(f"  {word:4}  {score:.3f}  label {detector.labels[item.label]:4}  {item.path}")
    image_channels(run.figures / "channels.png", load_image(data.file(chosen[0].path), config.rule))
    if document["auc"] is None or document["auc"] < AUC_LIMIT:
        raise BddError(
            f"the demo's test AUC is {document['auc']}, below {AUC_LIMIT}: the detector did not learn."
        )
    return {
        "training": f"{trained:.0f} s, {config.epochs} epochs of {data.size('train')} images",
        "test accuracy": f"{document['accuracy']:.4f}  ({document['images']} images)",
        "test AUC": f"{document['auc']:.4f}",
        "file": f"{output}, {output.stat().st_size:,} bytes",
        "file against Keras": f"largest difference {agreement.largest:.2g} on {agreement.images} images",
        "figures": ", ".join(sorted(str(p) for p in run.figures.glob("*.png"))),
        "total time": f"{time.monotonic() - began:.0f} s",
    }


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser("python -m bdd_tf.commands.demo", description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        table = demonstrate(args.runs_dir, args.epochs)
    except BddError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(table, indent=2))
    else:
        width = max(map(len, table))
        print("\n" + "\n".join(f"{name:{width}}  {value}" for name, value in table.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
