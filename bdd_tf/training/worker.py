"""One process of `bdd train --processes N`; :mod:`bdd_tf.training.local` starts it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from bdd_tf.config import Experiment
from bdd_tf.errors import exit_code
from bdd_tf.extensions import load_plugin
from bdd_tf.runs import Run
from bdd_tf.training.cluster import from_environment
from bdd_tf.training.local import PARENT, Job


def main(text: str) -> None:
    """Train as one of the workers that ``TF_CONFIG`` names.

    Args:
        text: JSON with the experiment (``config``) and the job (``job``).
    """
    _end_with(int(os.environ[PARENT]))
    given = json.loads(text)
    job = Job(**given["job"])
    for plugin in job.plugins:
        load_plugin(plugin)
    config = Experiment.from_dict(given["config"])
    from bdd_tf.training.trainer import train
    from bdd_tf.training.workers import join

    workers = join(from_environment(), job.join_seconds)
    train(
        config,
        Run(Path(job.run)),
        runs_dir=Path(job.runs_dir),
        loader_threads=job.loader_threads,
        workers=workers,
    )


def _end_with(parent: int) -> None:
    """End this process when its parent does, which may have been killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1]), "bdd: error"))
