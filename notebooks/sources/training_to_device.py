# %% [markdown]
# # From training to the device
#
# Made-up data, a short training, evaluation, one `.tflite` file, and a detector that runs it without TensorFlow. Each
# step is one command of `bdd`; here they are called from Python, with the same options. A few minutes on two cores.

# %%
import json
import os
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # the project's folder, as for all commands

from IPython.display import Image, display
from PIL import Image as Pictures

from bdd_tf.cli import main
from bdd_tf.runs import run_named

RUN = "notebook"
run = run_named(RUN)


def bdd(*words):
    """The command `bdd`; an error ends the notebook."""
    code = main([str(word) for word in words])
    assert code == 0, f"bdd {words[0]} failed with exit code {code}"


# %% [markdown]
# ## Data
#
# `sample` is cut from scikit-image's photographs; its fakes went through a small up-convolving decoder. Your own images
# go in the same way: `--dataset folder --data-dir FOLDER` with `REAL/` and `FAKE/` in it.

# %%
bdd("data", "check", "sample")

# %% [markdown]
# ## Training
#
# BNext-N on RGB, FFT and LBP at 32 px. The same command resumes a training that was interrupted, and does nothing more
# once it is finished.

# %%
bdd("train", "--dataset", "sample", "--run", RUN, "--epochs", "5", "--batch", "64",
     "--learning-rate", "0.003", "--warmup", "20")  # fmt: skip

# %% [markdown]
# ## Evaluation
#
# The threshold is chosen on the validation split, then the test split is looked at once. `sample`'s validation and
# test images come from other photographs than its training images.

# %%
bdd("evaluate", "--run", RUN, "--split", "validation")
bdd("evaluate", "--run", RUN)

# %%
shown = Path("build/notebooks/gallery.jpg")
shown.parent.mkdir(parents=True, exist_ok=True)
with Pictures.open(run.figures / "gallery-test.png") as picture:
    picture.convert("RGB").resize((900, 900 * picture.height // picture.width)).save(shown, quality=85)
display(Image(shown))

# %% [markdown]
# ## Conversion
#
# One file holds everything from the bytes of the image to the probability, the channels included; it is compared with
# Keras before it is written.

# %%
bdd("convert", "--run", RUN)

# %% [markdown]
# ## Detection
#
# `bdd_tf.edge` needs numpy, Pillow and LiteRT, no TensorFlow.

# %%
from bdd_tf.datasets import sample
from bdd_tf.datasets.index import cache_folder
from bdd_tf.edge import Detector, find_images

images = list(find_images([sample.make(cache_folder()) / "test"]))[::75]
with Detector(run.tflite) as detector:
    scores = detector.predict(images)
    for image, score, verdict in zip(images, scores, detector.verdicts(scores), strict=True):
        print(f"{verdict:4}  {score:.4f}  {image.parent.name}/{image.name}")
    print(f"threshold {detector.threshold:.4f}, {run.tflite.stat().st_size:,} bytes")

# %% [markdown]
# ## Speed
#
# One thread, one image at a time, each set of kernels this machine has. Other work ran beside this when the notebook was
# last executed; the full comparison, with what one would pick instead, is `make benchmark`.

# %%
bdd("benchmark", "--model", run.tflite, "--threads", "1", "--rounds", "5",
     "--against", "none")  # fmt: skip

# %%
metrics = json.loads(run.metrics("test").read_text())
print(f"test accuracy {metrics['accuracy']:.4f}, AUC {metrics['auc']:.4f}")
assert metrics["auc"] > 0.8, "the detector did not learn"
