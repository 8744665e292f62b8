"""Writers of PNG and TIFF files of every depth, order, palette and photometric interpretation."""

import struct
import zlib

import numpy as np

SHAPE = (6, 9)


def packed(samples, depth, order):
    """Rows of samples, each filled up to a whole byte."""
    rows = samples.reshape(len(samples), -1)
    if depth >= 8 and depth != 12:
        return [row.astype(f"{order}u{depth // 8}").tobytes() for row in rows]
    bits = ["".join(format(int(value), f"0{depth}b") for value in row) for row in rows]
    bits = [text + "0" * (-len(text) % 8) for text in bits]
    return [bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)) for text in bits]


def png(kind, depth, samples, transparent=None, palette=None):
    """A PNG file of a colour type, written without a library."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if palette is not None:
        content += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparent is not None:
        content += chunk(b"tRNS", transparent)
    rows = b"".join(b"\0" + row for row in packed(samples, depth, ">"))
    return content + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(samples, depth, photometric, order, palette=None, extra=None, floats=False):
    """A TIFF file of one strip, written without a library; `order` is ``<`` or ``>``."""
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    data = samples.astype(f"{order}f4").tobytes() if floats else b"".join(packed(samples, depth, order))
    tags = {
        256: [width], 257: [height], 258: [depth] * count, 259: [1], 262: [photometric], 277: [count], 278: [height],
        339: [3 if floats else 1] * count, 279: [len(data)], 273: [0],
    }  # fmt: skip
    if palette is not None:
        tags[320] = (palette.T.reshape(-1) * 257).tolist()
    if extra is not None:
        tags[338] = [extra]
    start, blobs, entries = 14 + 12 * len(tags), b"", b""
    for tag in sorted(tags):
        letter = "I" if tag in (273, 279) else "H"
        value = struct.pack(order + letter * len(tags[tag]), *tags[tag])
        if len(value) > 4:
            value, blobs = (
                struct.pack(order + "I", start + len(blobs)),
                blobs + value + b"\0" * (len(value) % 2),
            )
        entries += struct.pack(order + "HHI", tag, 4 if letter == "I" else 3, len(tags[tag])) + value.ljust(
            4, b"\0"
        )
    place = entries.index(struct.pack(order + "HHI", 273, 4, 1)) + 8
    entries = entries[:place] + struct.pack(order + "I", start + len(blobs)) + entries[place + 4 :]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "IH", 8, len(tags)) + entries + b"\0\0\0\0" + blobs + data


def drawn(depth, *channels, seed=0, shape=SHAPE):
    """Random samples that contain the largest value, and the same in [0, 1]."""
    samples = np.random.default_rng(seed).integers(0, 2**depth, (*shape, *channels))
    samples.reshape(-1)[0] = 2**depth - 1
    return samples, samples / (2**depth - 1)
