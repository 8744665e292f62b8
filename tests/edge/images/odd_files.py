"""A corpus of small odd image files: modes x formats x depths x byte orders x palettes x shapes x damage.

Each generator yields (name, content). Nothing is downloaded: the files are written by `writers`, tifffile and Pillow.
"""

import io
import struct

import numpy as np
import tifffile
from PIL import Image

from tests.edge.images.writers import drawn, png, tiff

SHAPES = ((1, 1), (1, 9), (9, 1), (6, 9))
ORDERS = {"<": "little", ">": "big"}
DAMAGES = 12


def palette_of(depth):
    return np.random.default_rng(depth).integers(0, 256, (2**depth, 3))


def pngs():
    for shape in SHAPES:
        about = f"{shape[0]}x{shape[1]}"
        for depth in (1, 2, 4, 8, 16):
            samples, _ = drawn(depth, shape=shape, seed=depth)
            key = struct.pack(">H", int(samples[0, 0]))
            yield f"grey{depth}-{about}.png", png(0, depth, samples)
            yield f"grey{depth}-key-{about}.png", png(0, depth, samples, key)
        for depth in (1, 2, 4, 8):
            samples, _ = drawn(depth, shape=shape, seed=depth)
            alpha = bytes(255 * (i % 2) for i in range(2**depth))
            yield f"palette{depth}-{about}.png", png(3, depth, samples, palette=palette_of(depth))
            yield f"palette{depth}-alpha-{about}.png", png(3, depth, samples, alpha, palette_of(depth))
        for depth in (8, 16):
            for kind, channels in ((2, 3), (4, 2), (6, 4)):
                samples, _ = drawn(depth, channels, shape=shape, seed=depth)
                yield f"kind{kind}-{depth}-{about}.png", png(kind, depth, samples)
            samples, _ = drawn(depth, 3, shape=shape, seed=depth)
            key = struct.pack(">HHH", *map(int, samples[0, 0]))
            yield f"rgb{depth}-key-{about}.png", png(2, depth, samples, key)


def tiffs():
    for order, word in ORDERS.items():
        for shape in ((1, 8), (6, 9), (7, 16)):
            about = f"{word}-{shape[0]}x{shape[1]}"
            for depth in (1, 2, 4, 8, 12, 16):
                for photometric in (0, 1):
                    samples, _ = drawn(depth, shape=shape, seed=depth)
                    if depth == 12 and shape[1] % 2:
                        continue
                    yield f"grey{depth}-{photometric}-{about}.tif", tiff(samples, depth, photometric, order)
            for depth in (4, 8):
                samples, _ = drawn(depth, shape=shape, seed=depth)
                yield f"palette{depth}-{about}.tif", tiff(samples, depth, 3, order, palette_of(depth))
            for depth in (8, 16):
                samples, _ = drawn(depth, 3, shape=shape, seed=depth)
                yield f"rgb{depth}-{about}.tif", tiff(samples, depth, 2, order)
                samples, _ = drawn(depth, 4, shape=shape, seed=depth)
                for extra in (0, 2):
                    yield f"rgb{depth}-extra{extra}-{about}.tif", tiff(samples, depth, 2, order, extra=extra)
                yield f"cmyk{depth}-{about}.tif", tiff(samples, depth, 5, order)
            shares = np.random.default_rng(0).random(shape)
            for photometric in (0, 1):
                content = tiff(shares, 32, photometric, order, floats=True)
                yield f"float32-{photometric}-{about}.tif", content


def scientific_tiffs():
    """Files as microscopes and scanners write them: every type of number, tiles, planes, predictors, big files."""
    layouts = {
        "strips": {"rowsperstrip": 3},
        "tiles": {"tile": (16, 16)},
        "deflate": {"compression": "zlib"},
        "predictor": {"compression": "zlib", "predictor": True},
        "big": {"bigtiff": True},
        "white": {"photometric": "miniswhite"},
        "rgb": {"photometric": "rgb"},
        "planes": {"photometric": "rgb", "planarconfig": "separate"},
        "planes-deflate": {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
        "planes-tiles": {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)},
    }
    types = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")
    for order in ORDERS:
        for name, options in layouts.items():
            for kind in types:
                if name == "predictor" and kind.startswith("float"):
                    continue  # tifffile needs another package for it
                shape = {"rgb": (20, 33, 3), "planes": (3, 20, 33)}.get(name.partition("-")[0], (20, 33))
                whole = np.dtype(kind).kind != "f"
                values = np.random.default_rng(len(name)).random(shape)
                pixels = (values * min(np.iinfo(kind).max, 65535) if whole else values).astype(kind)
                file = io.BytesIO()
                with tifffile.TiffWriter(
                    file, byteorder=order, bigtiff=options.get("bigtiff", False)
                ) as writer:
                    rest = {"photometric": "minisblack", **options}
                    rest.pop("bigtiff", None)
                    writer.write(pixels, metadata=None, **rest)
                yield f"{kind}-{name}-{ORDERS[order]}.tif", file.getvalue()


def saved():
    """Files as Pillow writes them: every mode that a format has."""
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (6, 8, 4), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((33, 21), Image.Resampling.BICUBIC)
    images = {mode: photo.convert("RGB").convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr")}
    images |= {"RGBA": photo, "LA": photo.convert("LA"), "RGBa": photo.convert("RGBa")}
    images["I;16"] = Image.fromarray(random.integers(0, 65536, (21, 33), dtype=np.uint16))
    jpegs = {
        "plain": {},
        "progressive": {"progressive": True},
        "full": {"subsampling": 0},
        "half": {"subsampling": 1},
        "poor": {"quality": 5},
        "restart": {"restart_marker_blocks": 2},
    }
    jobs = [(f"{m}-{name}.jpg", m, "JPEG", o) for m in ("L", "RGB", "CMYK") for name, o in jpegs.items()]
    jobs += [(f"{m}-{c}.tif", m, "TIFF", {"compression": c})
             for m in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16")
             for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")]  # fmt: skip
    jobs += [(f"1-{c}.tif", "1", "TIFF", {"compression": c}) for c in ("group3", "group4")]
    jobs += [(f"{m}-jpeg.tif", m, "TIFF", {"compression": "jpeg"}) for m in ("L", "RGB")]
    jobs += [(f"{m}.bmp", m, "BMP", {}) for m in ("1", "L", "P", "RGB", "RGBA")]
    jobs += [(f"{m}.gif", m, "GIF", {}) for m in ("1", "L", "P", "RGB", "RGBA")]
    jobs += [(f"{m}-{lossless}.webp", m, "WEBP", {"lossless": lossless})
             for m in ("L", "RGB", "RGBA") for lossless in (False, True)]  # fmt: skip
    jobs += [
        (f"{m}.avif", m, "AVIF", {"speed": 10, "quality": 95, "subsampling": "4:4:4"})
        for m in ("L", "RGB", "RGBA")
    ]
    jobs += [(f"{m}-several.{s}", m, f, {"save_all": True, "append_images": [images[m].rotate(90)]})
             for m, s, f in (("RGB", "mpo", "MPO"), ("RGB", "apng", "PNG"), ("P", "gif", "GIF"),
                             ("L", "tif", "TIFF"), ("RGB", "webp", "WEBP"))]  # fmt: skip
    for name, mode, form, options in jobs:
        file = io.BytesIO()
        images[mode].save(file, form, **options)
        yield name, file.getvalue()


def damaged(sound):
    """Truncated, overwritten, extended and beheaded copies of one file of every kind."""
    wanted = (
        "kind6-8-6x9.png palette4-alpha-6x9.png grey16-key-6x9.png rgb8-little-6x9.tif float32-1-big-6x9.tif "
        "uint16-tiles-little.tif uint8-predictor-big.tif RGB-plain.jpg RGB-progressive.jpg RGB-tiff_lzw.tif 1-group4.tif "
        "P.bmp P-several.gif RGB-True.webp RGBA-False.webp RGB.avif RGB-several.mpo RGB-several.apng"
    ).split()
    for name in wanted:
        content = sound[name]
        random = np.random.default_rng(len(content))
        for number in range(DAMAGES):
            copy = bytearray(content)
            if number < 4:
                copy = copy[: max(1, len(copy) * (2 * number + 1) // 8)]
            elif number < 10:
                low, high = (0, 64) if number < 7 else (0, len(copy))
                for at in random.integers(low, min(high, len(copy)), 4):
                    copy[at] ^= int(random.integers(1, 256))
            elif number == 10:
                copy += b"\xff" * 100
            else:
                copy[: len(copy) // 4] = bytes(len(copy) // 4)
            stem, _, suffix = name.rpartition(".")
            yield f"{stem}-damage{number}.{suffix}", bytes(copy)
