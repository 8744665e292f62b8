# %% [markdown]
# # The paper's figures, from your own image
#
# The detector reads RGB and, beside it, what a camera and a generator do differently: the Fourier spectrum (FFT),
# local binary patterns (LBP) and, on request, the length of the Sobel gradient (Lanzino et al., arXiv 2406.04932,
# section 3.2). Here are these channels for one image, and what tells real and fake apart in the mean spectrum.
#
# Put the path of your own image into `IMAGE`, and a folder with `REAL/` and `FAKE/` into `PAIRS`.

# %%
import os
from importlib import util
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # the project's folder, as for all commands

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from PIL import Image as Pictures

from bdd_tf import channels, figures
from bdd_tf.datasets import sample
from bdd_tf.datasets.index import cache_folder
from bdd_tf.edge import ResizeRule, find_images, load_image

OUTPUT = Path("build/notebooks")
OUTPUT.mkdir(parents=True, exist_ok=True)
IMAGE = Path(util.find_spec("skimage").submodule_search_locations[0]) / "data" / "chelsea.png"
PAIRS = sample.make(cache_folder()) / "test"  # made-up fakes; takes a few seconds the first time

# %% [markdown]
# ## An image and its channels
#
# As the network gets them: shorter side to 252, the centre 224 px of it, grey levels, then one map per channel. The
# FFT shows the image's frequencies, the lowest in the middle; bright crosses come from the image's edges, regular
# dots far from the middle from upsampling. LBP counts how many of three points six pixels away are at least as bright
# as the pixel itself.

# %%
image = load_image(IMAGE, ResizeRule.reference(224))


def channel_maps(image, variant="stable"):
    """uint8 [S, S, 3] to [S, S] maps by name."""
    levels = channels.grey(image[None])
    functions = {
        "FFT": channels.fft_log_magnitude,
        "LBP": channels.local_binary_pattern,
        "Sobel": channels.sobel_magnitude,
    }
    return {name: function(levels, variant).numpy()[0, ..., 0] for name, function in functions.items()}


with Pictures.open(figures.channels(OUTPUT / "channels.png", image, channel_maps(image))) as picture:
    picture.convert("RGB").resize((860, 860 * picture.height // picture.width)).save(
        OUTPUT / "channels.jpg", quality=85
    )
display(Image(OUTPUT / "channels.jpg"))

# %% [markdown]
# Two scales are on offer. The paper divides each channel by 255, whatever its range: LBP then has four values within
# 0.012, and Sobel reaches hundreds. `stable`, the default from scratch, maps each to [0, 1]:

# %%
for variant in channels.VARIANTS:
    for name, values in channel_maps(image, variant).items():
        print(f"{variant:7} {name:6} {values.min():8.3f} to {values.max():8.3f}, mean {values.mean():8.3f}")

# %% [markdown]
# ## The spectrum of real and fake images
#
# The mean over all images of a class: what is peculiar to one picture averages out, what the generator leaves in each
# of them stays. These fakes went through a small decoder that up-convolves at stride 2, as generators do, and their
# spectrum differs where such a lattice shows: at the highest frequencies, in the corners of the map.

# %%
spectra = {}
for label in ("REAL", "FAKE"):
    files = list(find_images([PAIRS / label]))[:300]
    images = np.stack([load_image(file, ResizeRule.native(32)) for file in files])
    spectra[label] = channels.fft_log_magnitude(channels.grey(images), "stable").numpy()[..., 0].mean(0)
difference = spectra["FAKE"] - spectra["REAL"]

figure, axes = plt.subplots(1, 3, figsize=(9, 3), dpi=80, layout="constrained")
for axis, (label, values) in zip(axes, spectra.items(), strict=False):
    axis.imshow(values, cmap="gray", vmin=0.35, vmax=0.65)
    axis.set_title(f"{label}, mean FFT channel")
most = np.abs(difference).max()
shown = axes[2].imshow(difference, cmap="RdBu_r", vmin=-most, vmax=most)
axes[2].set_title("FAKE less REAL")
figure.colorbar(shown, ax=axes[2])
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# The same by distance from the middle, that is, by frequency:

# %%
side = difference.shape[0]
radius = np.hypot(*(np.indices((side, side)) - side // 2)).round().astype(int)
figure, axis = plt.subplots(figsize=(6, 3), dpi=80, layout="constrained")
for label, values in spectra.items():
    ring = np.bincount(radius.ravel(), values.ravel()) / np.bincount(radius.ravel())
    axis.plot(ring[: side // 2 + 1], label=label, color=figures.COLOURS[label == "FAKE"])
axis.set(xlabel="frequency, cycles per image", ylabel="mean FFT channel")
axis.grid(color="#DDDDDD")
axis.legend()
assert np.isfinite(difference).all()
assert most > 0
