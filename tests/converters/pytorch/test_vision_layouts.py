"""Every published layout becomes the same run; damaged and hostile files are refused in one sentence, and nothing runs."""

import hashlib
import io
import json
import math
import pickle
import re
import shlex
import struct
import zipfile

import numpy as np
import pytest

from bdd_tf.cli import main
from bdd_tf.commands.info import describe, inform
from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.runs import Run
from bdd_tf.training.weights import load_trained
from converters.pytorch.checkpoint_files import read_checkpoint
from converters.pytorch.keras_weights import import_checkpoint
from converters.pytorch.tensor_archives import read_archive
from converters.pytorch.tensor_files import read_safetensors
from converters.pytorch.vision_import import import_vision
from converters.pytorch.vision_layouts import recognise
from tests import tiny_vision
from tools.references.npz_layout import npz_arrays


@pytest.fixture(scope="module", autouse=True)
def tiny():
    tiny_vision.register()
    yield
    tiny_vision.unregister()


def torchvision_names(state, old=False):
    """A state dict of timm in torchvision's names, before 2022 or since."""
    mlp = ("mlp.linear_1", "mlp.linear_2") if old else ("mlp.0", "mlp.3")
    changes = (
        ("patch_embed.proj", "conv_proj"), ("cls_token", "class_token"), ("pos_embed", "encoder.pos_embedding"),
        ("blocks.", "encoder.layers.encoder_layer_"), ("norm1", "ln_1"), ("norm2", "ln_2"),
        ("attn.qkv.", "self_attention.in_proj_"), ("attn.proj", "self_attention.out_proj"),
        ("mlp.fc1", mlp[0]), ("mlp.fc2", mlp[1]), ("head.", "heads.head."),
    )  # fmt: skip
    found = {}
    for key, value in state.items():
        key = f"encoder.ln{key.removeprefix('norm')}" if key.startswith("norm.") else key
        for theirs, ours in changes:
            key = key.replace(theirs, ours)
        found[key] = value
    return found


def half(state):
    return {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in state.items()}


def write(kind, folder):
    """A file of each layout; returns it, the expected state dict, backbone and normalisation."""
    vit, clip = tiny_vision.state_of("tiny-vit"), tiny_vision.state_of("tiny-clip")
    resnet, clip_resnet = tiny_vision.state_of("tiny-resnet"), tiny_vision.state_of("tiny-clip-resnet")
    settings = {"input_resolution": np.array(32, np.int64), "vocab_size": np.array(9, np.int64)}
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "openai":
        path, state = folder / "ViT-B-32.pt", half(clip)
        tiny_vision.write_archive(path, state | settings, script=True)
        return path, state, "tiny-clip", "clip"
    if kind == "openai resnet":
        path, state = folder / "RN50.pt", half(clip_resnet)
        tiny_vision.write_archive(path, state | settings, script=True)
        return path, state, "tiny-clip-resnet", "clip"
    if kind == "laion400m":
        path = folder / "vit_b_32-quickgelu-laion400m_e32.pt"
        tiny_vision.write_archive(path, {f"module.{k}": v for k, v in clip.items()})
        return path, clip, "tiny-clip", "clip"
    if kind == "laion2b":
        path = folder / "CLIP-ViT-B-32-laion2B-s34B-b79K" / "open_clip_model.safetensors"
        path.parent.mkdir()
        tiny_vision.write_safetensors(path, clip)
        return path, clip, "tiny-openclip", "clip"
    if kind == "open_clip config":
        path = folder / "open_clip_pytorch_model.bin"
        tiny_vision.write_archive(path, clip)
        path.with_name("open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
        return path, clip, "tiny-clip", "clip"
    if kind == "timm":
        tiny_vision.write_safetensors(folder / "model.safetensors", vit)
        return folder / "model.safetensors", vit, "tiny-vit", "half"
    if kind == "npz":
        (folder / "ViT-B_32.npz").write_bytes(tiny_vision.npz_bytes(npz_arrays(vit, 2, 2)))
        return folder / "ViT-B_32.npz", vit, "tiny-vit", "half"
    if kind.startswith("torchvision vit"):
        path = folder / "vit_b_32.pth"
        tiny_vision.write_archive(path, torchvision_names(vit, old=kind.endswith("old")))
        return path, vit, "tiny-vit", "imagenet"
    assert kind == "resnet"
    tiny_vision.write_archive(folder / "resnet50.pth", resnet)
    return folder / "resnet50.pth", resnet, "tiny-resnet", "imagenet"


KINDS = (
    "openai", "openai resnet", "laion400m", "laion2b", "open_clip config", "timm", "npz", "torchvision vit",
    "torchvision vit old", "resnet",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_is_recognised_and_keeps_every_number(kind, tmp_path):
    path, state, backbone, normalisation = write(kind, tmp_path / "files")
    found = recognise(read_checkpoint(path).tensors, path)
    assert (found.backbone, found.normalisation) == (backbone, normalisation)
    assert any(("text tower" if "clip" in backbone else "classifier") in part for part in found.left_out)
    by_layer = {(e.layer, e.index): e for e in tiny_vision.entries_of(backbone) if e.layer}
    for entry in found.entries:
        if entry.layer:
            value = entry.layout.to_keras(found.tensors[entry.key])
            own = by_layer[entry.layer, entry.index]
            np.testing.assert_array_equal(value, own.layout.to_keras(state[own.key].astype(np.float32)))


def test_a_checkpoint_becomes_a_run_that_names_its_origin(tmp_path, capsys):
    path, state, backbone, _ = write("openai", tmp_path / "files")
    assert main(["convert", "--from-torch", str(path), "--run", "clip", "--runs-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "left out: text tower (3 tensors), settings (2 tensors)" in said
    assert "QuickGELU by OpenAI's layout" in said
    run = Run(tmp_path / "clip")
    config = Experiment.load(run.config)
    assert (config.backbone, config.resolution, config.statistics) == (backbone, 32, "clip")
    about = json.loads(run.imported.read_text())
    assert (about["file"], about["bytes"], len(about["sha256"])) == (path.name, path.stat().st_size, 64)
    kernel = load_trained(run).get_layer("feature.patch_embedding").get_weights()[0]
    np.testing.assert_array_equal(
        kernel, state["visual.conv1.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    )
    with pytest.raises(UsageError, match="exists"):
        import_checkpoint(path, "clip", tmp_path)
    wrong = ["--sha256", "0" * 64, "--run", "other", "--runs-dir", str(tmp_path)]
    assert main(["convert", "--from-torch", str(path), *wrong]) == 1
    assert "instead of 000" in capsys.readouterr().err


def test_the_activation_must_be_known(tmp_path):
    tiny_vision.write_archive(tmp_path / "weights.pt", tiny_vision.state_of("tiny-clip"))
    tensors = read_checkpoint(tmp_path / "weights.pt").tensors
    with pytest.raises(UsageError, match=r"--backbone tiny-clip .*QuickGELU.*--backbone tiny-openclip"):
        recognise(tensors, tmp_path / "weights.pt")
    for name in ("tiny-clip", "tiny-openclip"):
        assert recognise(tensors, tmp_path / "weights.pt", name).backbone == name
    with pytest.raises(UsageError, match="not the tiny-vit of --backbone"):
        recognise(tensors, tmp_path / "weights.pt", "tiny-vit")
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(BddError, match=r"open_clip_config.json is damaged"):
        recognise(tensors, tmp_path / "weights.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_info_names_the_network_of_every_layout_and_the_command_that_imports_it(kind, tmp_path):
    path, state, backbone, normalisation = write(kind, tmp_path / "files")
    about = inform(str(path))
    assert (about["backbone"], about["channels"], about["normalisation"]) == (
        backbone, ["rgb"], normalisation,
    )  # fmt: skip
    entries = [e for e in tiny_vision.entries_of(backbone) if e.layer]
    assert about["parameters"] == sum(math.prod(e.shape) for e in entries)
    statistics = sum(math.prod(e.shape) for e in entries if "running" in e.key)
    assert about["torch_parameters"] == about["parameters"] - statistics
    assert about["file_parameters"] == sum(v.size for v in state.values() if v.dtype.kind == "f")
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    text = describe(about)
    assert f"{normalisation}: mean " in text
    assert ("text tower" if "clip" in backbone else "classifier") in text
    (command,) = about["import"]
    assert command in text
    assert main([*shlex.split(command)[1:], "--runs-dir", str(tmp_path)]) == 0
    config = Experiment.load(Run(tmp_path / backbone).config)
    assert (config.backbone, config.resolution, config.statistics) == (
        backbone, about["resolution"], normalisation,
    )  # fmt: skip


def test_info_names_both_networks_where_nothing_tells_the_activation(tmp_path, capsys):
    path = tmp_path / "my weights.pt"
    tiny_vision.write_archive(path, tiny_vision.state_of("tiny-clip"))
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "tiny-clip or tiny-openclip" in text
    assert "nothing tells QuickGELU from GELU" in text
    for command in inform(str(path))["import"]:
        assert command in text
        assert main([*shlex.split(command)[1:], "--runs-dir", str(tmp_path)]) == 0
    configs = [
        Experiment.load(Run(tmp_path / name).config).backbone for name in ("tiny-clip", "tiny-openclip")
    ]
    assert configs == ["tiny-clip", "tiny-openclip"]


def test_info_refuses_damaged_checkpoints_in_one_sentence(tmp_path, capsys):
    for kind in ("truncated", "missing tensor", "another network"):
        expected = damaged(kind, tmp_path / "weights.pt")
        assert main(["info", str(tmp_path / "weights.pt")]) == 1
        error = capsys.readouterr().err
        assert re.search(expected, error)
        assert error.count("\n") == 1


def changed(state, **changes):
    found = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in found.items() if value is not None}


def pickled(path, content, storages=()):
    tiny_vision.write_zip(path, content, list(storages))


def damaged(kind, path):
    """Write a damaged file; return what the error says."""
    vit, clip = tiny_vision.state_of("tiny-vit"), tiny_vision.state_of("tiny-clip")
    tensor = tiny_vision._tensor("0", np.zeros((2, 3), np.float32))
    one = pickle.EMPTY_DICT + tiny_vision._text("a") + tensor + pickle.SETITEM + pickle.STOP
    if kind == "truncated":
        tiny_vision.write_archive(path, vit)
        path.write_bytes(path.read_bytes()[:-2000])
        return "damaged"
    if kind == "code":
        pickled(
            path,
            b"cposix\nmkdir\n"
            + tiny_vision._tuple(tiny_vision._text(str(path) + ".ran"))
            + pickle.REDUCE
            + b".",
        )
        return "it refers to posix.mkdir. Nothing was executed"
    if kind == "missing numbers":
        pickled(path, one)
        return "numbers of a are missing"
    if kind == "short numbers":
        pickled(path, one, [np.zeros(5, np.float32)])
        return "take 20 bytes instead of 24"
    if kind == "view beyond its storage":
        beyond = one.replace(
            tiny_vision._tuple(*map(tiny_vision._number, (2, 3))),
            tiny_vision._tuple(*map(tiny_vision._number, (3, 3))),
        )
        pickled(path, beyond, [np.zeros(6, np.float32)])
        return "exceeds its storage"
    if kind == "endless view":
        shape, strides = (tiny_vision._tuple(*map(tiny_vision._number, n)) for n in ((2, 3), (3, 1)))
        huge, zero = (tiny_vision._tuple(*map(tiny_vision._number, n)) for n in ((10**6, 10**6), (0, 0)))
        pickled(path, one.replace(shape, huge).replace(strides, zero), [np.zeros(6, np.float32)])
        return "more than it has"
    if kind == "memo of 16 GB":
        pickled(path, pickle.EMPTY_DICT + pickle.LONG_BINPUT + struct.pack("<I", 2**31) + pickle.STOP)
        return "holds no tensors"
    if kind == "module in itself":
        module = b"c__torch__\nM\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.BINPUT + b"\x00"
        inner = pickle.EMPTY_DICT + tiny_vision._text("me") + pickle.BINGET + b"\x00" + pickle.SETITEM
        pickled(path, module + inner + pickle.BUILD + pickle.STOP)
        return "nested in a cycle"
    if kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/constants.pkl", b"")
            archive.writestr("archive/data.pkl", bytes(80_000_000))
        return "data.pkl has more than"
    if kind == "missing tensor":
        tiny_vision.write_archive(path, changed(vit, **{"blocks__1__attn__proj__bias": None}))
        return r"missing \(1\): blocks.1.attn.proj.bias"
    if kind == "unknown tensor":
        tiny_vision.write_archive(path, changed(vit, blocks__0__ls1__gamma=np.ones(16, np.float32)))
        return r"unexpected \(1\): blocks.0.ls1.gamma"
    if kind == "another shape":
        tiny_vision.write_archive(path, changed(vit, norm__weight=np.ones(17, np.float32)))
        return r"of another shape \(1\): norm.weight \[17\] instead of \[16\]"
    if kind == "NaN":
        tiny_vision.write_archive(path, changed(vit, norm__bias=np.full(16, np.nan, np.float32)))
        return r"NaN or infinity \(1\): norm.bias"
    if kind == "a transformer of another size":
        tiny_vision.write_archive(path, {k: v for k, v in vit.items() if not k.startswith("blocks.1")})
        return "1 blocks, patches of 8 px and no projected features, which is no ViT-B/32"
    if kind == "positions without a grid":
        tiny_vision.write_archive(path, changed(vit, pos_embed=np.ones((1, 16, 16), np.float32)))
        return "16 positions, which are not one token and a square grid"
    if kind == "a residual network of another size":
        state = tiny_vision.state_of("tiny-resnet")
        tiny_vision.write_archive(path, {k: v for k, v in state.items() if not k.startswith("layer2.1")})
        return r"width 8 with 1\+1\+1\+1 bottlenecks, which is no ResNet50"
    if kind == "transformers":
        tiny_vision.write_archive(path, {"vision_model.embeddings.class_embedding": np.ones(4, np.float32)})
        return "the layout of transformers; give the file of open_clip or OpenAI"
    if kind == "another network":
        tiny_vision.write_archive(path, {"0.weight": np.ones((2, 2), np.float32)})
        return r"is not a BNext, CLIP .*it holds 0.weight \(1 tensors\)"
    assert kind == "clip without its vision tower"
    tiny_vision.write_archive(path, {k: v for k, v in clip.items() if k != "visual.positional_embedding"})
    return "visual.positional_embedding or visual.conv1.weight is missing or misshapen"


@pytest.mark.parametrize(
    "kind",
    [
        "truncated", "code", "missing numbers", "short numbers", "view beyond its storage", "endless view", "memo of 16 GB",
        "module in itself", "zip bomb", "missing tensor", "unknown tensor", "another shape", "NaN",
        "a transformer of another size", "positions without a grid", "a residual network of another size",
        "transformers", "another network", "clip without its vision tower",
    ],
)  # fmt: skip
def test_damaged_archives_are_refused_in_one_sentence(kind, tmp_path):
    path = tmp_path / "weights.pt"
    expected = damaged(kind, path)
    with pytest.raises(BddError, match=expected) as caught:
        import_vision(read_archive(path), path, None, None)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights.pt"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"\xff" * 8, "header is longer than the file"),
        (
            {"a": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]}},
            "a does not fit its place",
        ),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, "shape or place of a is impossible"),
        ({"a": {"dtype": "F32", "shape": [20], "data_offsets": [0, 80]}}, "a does not fit its place"),
        ({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, "has the type C64"),
        ({"a": 3}, "damaged"),
        (
            {k: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for k in "abc"},
            "tensors overlap",
        ),
        ({}, "holds no tensors"),
    ],
)
def test_damaged_safetensors_are_refused(header, message, tmp_path):
    path = tmp_path / "model.safetensors"
    if isinstance(header, dict):
        text = json.dumps(header).encode()
        header = struct.pack("<Q", len(text)) + text
    path.write_bytes(header + bytes(8))
    with pytest.raises(BddError, match=message):
        read_safetensors(path)


@pytest.mark.parametrize("kind", ["compressed", "objects", "too short", "misshapen", "no archive"])
def test_damaged_npz_are_refused(kind, tmp_path):
    arrays = npz_arrays(tiny_vision.state_of("tiny-vit"), 2, 2)
    path = tmp_path / "ViT.npz"
    if kind == "compressed":
        np.savez_compressed(path, **arrays)
    elif kind == "objects":
        np.savez(path, cls=np.array([{}], object))
    elif kind == "no archive":
        path.write_bytes(b"PK\x03\x04nothing")
    elif kind == "misshapen":
        path.write_bytes(
            tiny_vision.npz_bytes(arrays | {"Transformer/encoderblock_0/LayerNorm_0/scale": np.ones((2, 2))})
        )
        found = recognise(read_checkpoint(path).tensors, path)
        assert found.tensors["blocks.0.norm1.weight"].shape == (2, 2)  # refused where shapes are compared
        with pytest.raises(BddError, match=r"blocks.0.norm1.weight \[2, 2\] instead of \[16\]"):
            import_checkpoint(path, "run", tmp_path)
        return
    else:
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cls.npy", file.getvalue() + bytes(4))
    with pytest.raises(BddError, match=r"compressed|damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
