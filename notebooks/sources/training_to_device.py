# %% [markdown]
# # From training to the device
#
# Synthetic data, a short training, an evaluation, a `.tflite` file, and a detector that runs it without TensorFlow. Each step
# is a `bdd` command, called from Python with the same options. All steps take a few minutes on two cores.

# %%
import json
import os
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # all commands run in the project's folder

from IPython.display import Image, display
from PIL import Image as Pictures

from bdd_tf.cli import main
from bdd_tf.runs import run_named

RUN = "notebook"
run = run_named(RUN)


def bdd(*words):
    """Run a `bdd` command; stop the notebook if it fails."""
    code = main([str(word) for word in words])
    assert code == 0, f"bdd {words[0]} failed with exit code {code}"


# %% [markdown]
# ## Data
#
# The data set `sample` consists of crops of scikit-image's photographs; its fakes are the output of a small decoder with
# up-convolutions. To use your own images, put them into `REAL/` and `FAKE/` of a folder and pass
# `--dataset folder --data-dir FOLDER`.

# %%
bdd("data", "check", "sample")

# %% [markdown]
# ## Training
#
# BNext-N with RGB, FFT and LBP at 32 px. The same command resumes an interrupted training, and does nothing if the training
# is finished.

# %%
bdd("train", "--dataset", "sample", "--run", RUN, "--epochs", "5", "--batch", "64",
     "--learning-rate", "0.003", "--warmup", "20")  # fmt: skip

# %% [markdown]
# ## Evaluation
#
# The threshold is chosen on the validation split, then the test split is evaluated once. The validation and test images of
# `sample` come from other photographs than its training images.

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
# A single file contains the whole computation from the pixels to the probability, including the channels. It is compared with
# the Keras model before it is written.

# %%
bdd("convert", "--run", RUN)

# %% [markdown]
# ## Detection
#
# `bdd_tf.edge` needs NumPy and Pillow, but no TensorFlow.

# %%
from bdd_tf.datasets import sample
from bdd_tf.edge import Detector, find_images
from bdd_tf.files import cache_folder

images = list(find_images([sample.make(cache_folder()) / "test"]))[::75]
with Detector(run.tflite) as detector:
    scores = detector.predict(images)
    for image, score, verdict in zip(images, scores, detector.verdicts(scores), strict=True):
        print(f"{verdict:4}  {score:.4f}  {image.parent.name}/{image.name}")
    print(f"threshold {detector.threshold:.4f}, {run.tflite.stat().st_size:,} bytes")

# %% [markdown]
# ## Speed
#
# One thread, batch size 1, with each kernel set that this machine supports. The machine was busy when the notebook was last
# executed. `bdd benchmark` without `--against none` compares the model with common baselines.

# %%
bdd("benchmark", "--model", run.tflite, "--threads", "1", "--rounds", "5",
     "--against", "none")  # fmt: skip

# %%
metrics = json.loads(run.metrics("test").read_text())
print(f"test accuracy {metrics['accuracy']:.4f}, AUC {metrics['auc']:.4f}")
assert metrics["auc"] > 0.8, "the detector did not learn"
