# %% [markdown]
# # On the device
#
# Everything here runs from one `.tflite` file with numpy, Pillow and LiteRT: no TensorFlow is loaded. The model is the one
# that `training_to_device` trained on the made-up `sample`, if that was run; else the one in `results/`, which knows
# CIFAKE's pictures and nothing else. Put your own into `MODEL`.

# %%
import json
import os
import shutil
import sys
from importlib import util
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # the project's folder, as for all commands

import numpy as np
from IPython.display import Image, display
from PIL import Image as Pictures

from bdd_tf.cli import main
from bdd_tf.edge import Detector, find_images, read_image
from bdd_tf.edge.shipped import shipped_model

trained = Path("runs/notebook/model.tflite")
MODEL = trained if trained.is_file() else shipped_model()
PHOTOGRAPHS = Path(util.find_spec("skimage").submodule_search_locations[0]) / "data"
OUTPUT = Path("build/notebooks/edge")
shutil.rmtree(OUTPUT, ignore_errors=True)
OUTPUT.mkdir(parents=True)


def bdd(*words):
    """The command `bdd`; an error ends the notebook."""
    code = main([str(word) for word in words])
    assert code == 0, f"bdd {words[0]} failed with exit code {code}"


print(MODEL)

# %% [markdown]
# ## The detector
#
# It says what it is, and scores paths, PIL images, arrays, or lists of these. The file's own resize rule is applied.

# %%
detector = Detector(MODEL)
print({key: detector.metadata[key] for key in ("backbone", "channels", "resolution", "resize", "dataset")})
print("threshold", round(detector.threshold, 4))
scores = detector.predict([PHOTOGRAPHS / "astronaut.png", np.zeros((40, 40, 3), np.uint8)])
print(scores, detector.verdicts(scores))

# %% [markdown]
# ## A large image in tiles
#
# The file's rule would shrink a photograph to 32 px, and with it what gives a fake away. `--crop tiles` looks at squares
# at the network's own resolution instead, and says which is the worst. Here a square of a photograph is replaced by noise
# as an up-convolving decoder leaves it.

# %%
from bdd_tf.datasets import sample
from bdd_tf.datasets.index import cache_folder

fakes = list(find_images([sample.make(cache_folder()) / "test" / "FAKE"]))
photograph = read_image(PHOTOGRAPHS / "astronaut.png").copy()
for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
    fake = read_image(fakes[3 * row + column])
    photograph[224 + 32 * row : 256 + 32 * row, 160 + 32 * column : 192 + 32 * column] = fake
Pictures.fromarray(photograph).save(OUTPUT / "patched.png")
bdd("detect", OUTPUT / "patched.png", "--model", MODEL, "--crop", "tiles", "--json")

# %% [markdown]
# ## Why?
#
# `--explain` draws a picture beside each image. A patch slides over what the network saw; where the logit falls because
# a place is covered, that place speaks for FAKE (orange), where it rises, for REAL (blue). The bars below take one channel
# away at a time. All of this comes out of the `.tflite` file alone: it is cut in front of the sigmoid and in front of the
# adapter (`bdd_tf/edge/tflite_cut.py`).
#
# The two images here are the made-up ones of `bdd data --dataset sample`; a model that knows CIFAKE's may well be wrong on
# them, and the maps show what misled it.

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
# What stands in for a channel matters. Its own mean over the image is a flat map, which no network has seen of a
# spectrum, and which pushes the score by itself. The mean over other images asks the better question: what does this
# image's channel have that others' have not? Give such images, real and fake ones, with `--explain-reference`:

# %%
from bdd_tf.edge import load_image
from bdd_tf.edge.explanation import Occlusion

others = np.stack([load_image(file, detector.resize) for file in (*fakes[50:82], *reals[50:82])])
seen = load_image(fakes[0], detector.resize)
for reference in (None, others):
    found = Occlusion(detector, reference=reference)(seen)
    print(f"{found.reference:18}", {name: round(value, 2) for name, value in found.channels.items()})

# %% [markdown]
# ## For programs
#
# JSON lines hold the same, with the most telling region in pixels of the image.

# %%
import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()) as lines:
    bdd("detect", folder / "fake.png", "--model", MODEL, "--explain", "--json")
print(json.dumps(json.loads(lines.getvalue()), indent=1))
assert "tensorflow" not in sys.modules
