# %% [markdown]
# # The paper's figures, from your own image
#
# The input of the detector is RGB and further channels in which cameras and generators differ: the Fourier spectrum (FFT),
# local binary patterns (LBP) and, optionally, the magnitude of the Sobel gradient (Lanzino et al., arXiv 2406.04932,
# section 3.2). This notebook shows these channels for one image, and the difference between the mean spectra of real and fake
# images.
#
# To use your own data, set `IMAGE` to an image, and `PAIRS` to a folder with `REAL/` and `FAKE/`.

# %%
import os
from importlib import util
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # all commands run in the project's folder

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from PIL import Image as Pictures

from bdd_tf.datasets import sample
from bdd_tf.edge import ResizeRule, find_images, load_image
from bdd_tf.figures import style
from bdd_tf.figures.channels import channels as draw_channels
from bdd_tf.files import cache_folder
from bdd_tf.models import channel_names
from bdd_tf.models.channels import fft, lbp, sobel
from bdd_tf.models.channels.grey import grey as grey_levels

OUTPUT = Path("build/notebooks")
OUTPUT.mkdir(parents=True, exist_ok=True)
IMAGE = Path(util.find_spec("skimage").submodule_search_locations[0]) / "data" / "chelsea.png"
PAIRS = sample.make(cache_folder()) / "test"  # synthetic fakes; generated in a few seconds on first use

# %% [markdown]
# ## An image and its channels
#
# These are the network's inputs: the image is resized to a shorter side of 252 px, cropped to the central 224 px, and
# converted to grey levels, from which each channel is computed. The FFT channel shows the image's frequencies, with the
# lowest at the centre. Bright crosses result from the borders of the image, regular dots far from the centre from
# upsampling. The LBP channel counts how many of three points at a distance of six pixels are at least as bright as the pixel.

# %%
image = load_image(IMAGE, ResizeRule.reference(224))


def channel_maps(image, variant="stable"):
    """Compute the channels [S, S] of an image uint8 [S, S, 3], by name."""
    levels = grey_levels(image[None])
    functions = {
        "FFT": fft.fft_log_magnitude,
        "LBP": lbp.local_binary_pattern,
        "Sobel": sobel.sobel_magnitude,
    }
    return {name: function(levels, variant).numpy()[0, ..., 0] for name, function in functions.items()}


with Pictures.open(draw_channels(OUTPUT / "channels.png", image, channel_maps(image))) as picture:
    picture.convert("RGB").resize((860, 860 * picture.height // picture.width)).save(
        OUTPUT / "channels.jpg", quality=85
    )
display(Image(OUTPUT / "channels.jpg"))

# %% [markdown]
# There are two scalings. `paper` divides each channel by 255 regardless of its range, so that LBP has four values up to
# 0.012 and Sobel reaches several hundred. `stable`, the default for training from scratch, maps each channel to [0, 1]:

# %%
for variant in channel_names.VARIANTS:
    for name, values in channel_maps(image, variant).items():
        print(f"{variant:7} {name:6} {values.min():8.3f} to {values.max():8.3f}, mean {values.mean():8.3f}")

# %% [markdown]
# ## The spectrum of real and fake images
#
# In the mean over all images of a class, the content of single images averages out, and the traces of the generator remain.
# These fakes were produced by a small decoder with up-convolutions of stride 2, as generators have. Their spectrum differs
# where this lattice appears: at the highest frequencies, in the corners of the map.

# %%
spectra = {}
for label in ("REAL", "FAKE"):
    files = list(find_images([PAIRS / label]))[:300]
    images = np.stack([load_image(file, ResizeRule.native(32)) for file in files])
    spectra[label] = fft.fft_log_magnitude(grey_levels(images), "stable").numpy()[..., 0].mean(0)
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
# The same as a function of the distance from the centre, which is the frequency:

# %%
side = difference.shape[0]
radius = np.hypot(*(np.indices((side, side)) - side // 2)).round().astype(int)
figure, axis = plt.subplots(figsize=(6, 3), dpi=80, layout="constrained")
for label, values in spectra.items():
    ring = np.bincount(radius.ravel(), values.ravel()) / np.bincount(radius.ravel())
    axis.plot(ring[: side // 2 + 1], label=label, color=style.COLOURS[label == "FAKE"])
axis.set(xlabel="frequency, cycles per image", ylabel="mean FFT channel")
axis.grid(color="#DDDDDD")
axis.legend()
assert np.isfinite(difference).all()
assert most > 0
