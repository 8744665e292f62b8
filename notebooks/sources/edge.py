# %% [markdown]
# # On the device
#
# This notebook runs a single `.tflite` file with NumPy and Pillow, without TensorFlow. The model is the one that
# `training_to_device` trained on the synthetic data set `sample`, if you ran that notebook, or else the model in the package,
# which was trained on CIFAKE and is valid for such images only. To use your own model, change `MODEL`.

# %%
import json
import os
import shutil
import sys
from importlib import util
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # all commands run in the project's folder

import numpy as np
from IPython.display import Image, display
from PIL import Image as Pictures

from bdd_tf.cli import main
from bdd_tf.edge import Detector, find_images, read_image
from bdd_tf.edge.shipped_model import shipped_model

trained = Path("runs/notebook/model.tflite")
MODEL = trained if trained.is_file() else shipped_model("cifake")
PHOTOGRAPHS = Path(util.find_spec("skimage").submodule_search_locations[0]) / "data"
OUTPUT = Path("build/notebooks/edge")
shutil.rmtree(OUTPUT, ignore_errors=True)
OUTPUT.mkdir(parents=True)


def bdd(*words):
    """Run a `bdd` command; stop the notebook if it fails."""
    code = main([str(word) for word in words])
    assert code == 0, f"bdd {words[0]} failed with exit code {code}"


print(MODEL)

# %% [markdown]
# ## The detector
#
# A detector describes its model and scores paths, PIL images, arrays, and lists of these. It applies the resize transform
# from the file's metadata.

# %%
detector = Detector(MODEL)
print({key: detector.metadata[key] for key in ("backbone", "channels", "resolution", "resize", "dataset")})
print("threshold", round(detector.threshold, 4))
scores = detector.predict([PHOTOGRAPHS / "astronaut.png", np.zeros((40, 40, 3), np.uint8)])
print(scores, detector.verdicts(scores))

# %% [markdown]
# ## A large image in tiles
#
# The resize transform would reduce a photograph to 32 px and remove the traces of a fake. `--crop tiles` scores squares at
# the network's resolution instead, and reports the one with the highest score. Here a square of a photograph is replaced by
# images with the noise of an up-convolving decoder.

# %%
from bdd_tf.datasets import sample
from bdd_tf.files import cache_folder

fakes = list(find_images([sample.make(cache_folder()) / "test" / "FAKE"]))
photograph = read_image(PHOTOGRAPHS / "astronaut.png").copy()
for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
    fake = read_image(fakes[3 * row + column])
    photograph[224 + 32 * row : 256 + 32 * row, 160 + 32 * column : 192 + 32 * column] = fake
Pictures.fromarray(photograph).save(OUTPUT / "patched.png")
bdd("detect", OUTPUT / "patched.png", "--model", MODEL, "--crop", "tiles", "--json")

# %% [markdown]
# ## Explanations
#
# `--explain` writes a figure next to each image. A patch is moved over the network's input. Regions where covering lowers the
# logit are evidence for FAKE (orange), those where it raises the logit are evidence for REAL (blue). The bars below show the
# effect of replacing one channel at a time. The `.tflite` file suffices for all of this: it is cut before the sigmoid and
# before the adapter (`bdd_tf/edge/tflite/cut.py`).
#
# The two images are from the synthetic data set `sample`. A model trained on CIFAKE may misclassify them, and the maps show
# why.

# %%
folder = OUTPUT / "two"
folder.mkdir()
reals = list(find_images([sample.make(cache_folder()) / "test" / "REAL"]))
for name, file in (("fake.png", fakes[0]), ("real.png", reals[0])):
    shutil.copy(file, folder / name)
bdd("detect", folder, "--model", MODEL, "--explain")
for name in ("fake.png", "real.png"):
    display(Image(folder / f"{name}.explain.png", width=600))

# %% [markdown]
# The replacement of a channel matters. By default it is the channel's own mean, but a constant spectrum never occurs in
# training and shifts the score by itself. The mean over other images is better: it isolates what is specific to this image.
# Pass such images, both real and fake ones, with `--explain-reference`:

# %%
from bdd_tf.edge import load_image
from bdd_tf.edge.explain.occlusion import Occlusion

others = np.stack([load_image(file, detector.resize) for file in (*fakes[50:82], *reals[50:82])])
seen = load_image(fakes[0], detector.resize)
for reference in (None, others):
    found = Occlusion(detector, reference=reference)(seen)
    print(f"{found.reference:18}", {name: round(value, 2) for name, value in found.channels.items()})

# %% [markdown]
# ## For programs
#
# JSON output contains the same data, and the region with the strongest evidence in pixels of the image.

# %%
import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()) as lines:
    bdd("detect", folder / "fake.png", "--model", MODEL, "--explain", "--json")
print(json.dumps(json.loads(lines.getvalue()), indent=1))
assert "tensorflow" not in sys.modules
