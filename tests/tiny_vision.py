"""Small networks of every published family, and random state dicts in their names, written without PyTorch."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from bdd_tf.models import registry
from bdd_tf.models.vision_sizes import RESNETS, TRANSFORMERS, ResNetSize, TransformerSize
from converters.pytorch.vision_entries import resnet_entries, transformer_entries

_WIDTH = {"width": 16, "depth": 2, "heads": 2, "patch": 8}
SIZES = {
    "tiny-vit": TransformerSize(**_WIDTH),
    "tiny-clip": TransformerSize(
        **_WIDTH, activation="quick_gelu", epsilon=1e-5, projection=12, normalisation="clip"
    ),
    "tiny-openclip": TransformerSize(**_WIDTH, epsilon=1e-5, projection=12, normalisation="clip"),
    "tiny-resnet": ResNetSize(8, (1, 2, 1, 1)),
    "tiny-clip-resnet": ResNetSize(8, (1, 2, 1, 1), projection=12, normalisation="clip"),
}
#: Tokens of an image of 32 px: a class token and 4 x 4 patches; of CLIP's pooling at 64 px, the mean and 2 x 2 positions.
TOKENS, POOL_TOKENS = 17, 5


def register() -> None:
    """Make the sizes known by their names, in this process."""
    for name, size in SIZES.items():
        (TRANSFORMERS if isinstance(size, TransformerSize) else RESNETS)[name] = size
        registry.BACKBONES[name] = registry.vision_backbone(name)


def unregister() -> None:
    """Forget the sizes: other tests run for every registered backbone."""
    for name in SIZES:
        for table in (TRANSFORMERS, RESNETS, registry.BACKBONES):
            table.pop(name, None)


def entries_of(name: str, library: str = "timm") -> list:
    size = SIZES[name]
    if isinstance(size, ResNetSize):
        return list(resnet_entries(size, POOL_TOKENS))
    return list(transformer_entries(size, "clip" if size.is_clip else library, TOKENS))


def state_of(name: str, library: str = "timm", seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors in the names of a library, with text tower or classifier."""
    rng = np.random.default_rng(seed)
    state = {}
    for entry in entries_of(name, library):
        value = rng.normal(0, 0.2, entry.shape).astype(np.float32)
        if entry.key.endswith("running_var"):
            value = np.abs(value) + np.float32(0.5)
        if entry.key.endswith("num_batches_tracked"):
            value = np.array(3, np.int64)
        state[entry.key] = value
    if SIZES[name].is_clip:
        state |= {
            "logit_scale": np.float32(4.6) * np.ones((), np.float32),
            "text_projection": np.ones((4, 12), np.float32),
        }
        state["transformer.resblocks.0.ln_1.weight"] = np.ones(4, np.float32)
    else:
        head = (
            "fc"
            if isinstance(SIZES[name], ResNetSize)
            else "heads.head"
            if library == "torchvision"
            else "head"
        )
        state |= {f"{head}.weight": np.ones((10, 4), np.float32), f"{head}.bias": np.ones(10, np.float32)}
    return state


def write_safetensors(path: Path, state: dict[str, np.ndarray]) -> None:
    header, start = {}, 0
    for key, value in state.items():
        stop = start + value.nbytes
        kind = {"f4": "F32", "f2": "F16", "i8": "I64"}[value.dtype.str[1:]]
        header[key], start = {"dtype": kind, "shape": list(value.shape), "data_offsets": [start, stop]}, stop
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in state.values()))


def _text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def _number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _tensor(key: str, value: np.ndarray) -> bytes:
    """The instructions of a pickled tensor, as torch writes them."""
    kind = {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage"}[value.dtype.str[1:]]
    storage = _tuple(
        _text("storage"), f"ctorch\n{kind}\n".encode(), _text(key), _text("cpu"), _number(value.size)
    )
    strides = [s // value.itemsize for s in np.ascontiguousarray(value).strides] if value.ndim else []
    shape = _tuple(*map(_number, value.shape))
    hooks = b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = _tuple(
        storage + pickle.BINPERSID, _number(0), shape, _tuple(*map(_number, strides)), pickle.NEWFALSE, hooks
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + pickle.REDUCE


def write_archive(path: Path, state: dict[str, np.ndarray], *, script: bool = False) -> None:
    """Write what torch.save writes of a state dict, or with `script` what torch.jit.save writes of a module."""
    numbers = {key: str(i) for i, key in enumerate(state)}

    def module(prefix: str) -> bytes:
        below = {k.removeprefix(prefix): k for k in state if k.startswith(prefix)}
        items = pickle.MARK + _text("training") + pickle.NEWFALSE
        for name in dict.fromkeys(k.partition(".")[0] for k in below):
            key = below.get(name)
            items += _text(name) + (_tensor(numbers[key], state[key]) if key else module(f"{prefix}{name}."))
        built = b"c__torch__.clip.model\nCLIP\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ
        return built + pickle.EMPTY_DICT + items + pickle.SETITEMS + pickle.BUILD

    if script:
        content = module("")
    else:
        items = b"".join(_text(key) + _tensor(numbers[key], value) for key, value in state.items())
        content = pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    write_zip(path, pickle.PROTO + b"\x02" + content + pickle.STOP, list(state.values()), script)


def write_zip(path: Path, pickled: bytes, storages: list[np.ndarray], script: bool = False) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        if script:
            archive.writestr("archive/constants.pkl", b"\x80\x02).")
            code = zipfile.ZipInfo("archive/code/__torch__.py")
            archive.writestr(code, "raise SystemExit('executed')\n" * 20, zipfile.ZIP_DEFLATED)
        for i, value in enumerate(storages):
            archive.writestr(f"archive/data/{i}", value.tobytes())


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
