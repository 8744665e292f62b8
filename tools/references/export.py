"""Write a reference network with random weights in its published file format, with its outputs on given images.

    python -m tools.references.export NETWORK IMAGES.npy FOLDER

This runs in an environment of its own with torch, open_clip and timm (`make test-references`); it imports nothing of bdd_tf.
Every parameter and every statistic gets random values, so that no tensor may be lost or swapped without a difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import open_clip
import timm
import torch
import torchvision
from safetensors.torch import save_file

from tools.references.npz_layout import npz_arrays

#: Images on which the outputs of the blocks are kept.
BLOCK_IMAGES = 2
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            # Steps small enough that nothing saturates behind twelve blocks.
            p.add_(noise * (0.1 if p.ndim < 2 and "scale" not in name else 0.005))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.1 * torch.randn(b.shape, generator=generator))
            if name.endswith("running_var"):
                b.copy_(0.75 + 0.5 * torch.rand(b.shape, generator=generator))
    return model.eval()


def write_npz(model: torch.nn.Module, path: Path) -> None:
    """Write a ViT of timm in the names and shapes of the original JAX code; timm itself must read it back."""
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    np.savez(path, **npz_arrays(state, model.blocks[0].attn.num_heads, len(model.blocks)))
    again = timm.create_model("vit_base_patch32_224")
    again.load_pretrained(str(path))
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def clip(name: str, files: dict[str, str], folder: Path) -> tuple:
    model = randomise(open_clip.create_model(name))
    for kind, file in files.items():
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        if kind == "torchscript":
            # OpenAI's archives are scripted modules with half-precision weights and three settings as buffers.
            module = open_clip.create_model(name)
            module.load_state_dict(model.state_dict())
            for key, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
                if not hasattr(module, key):
                    module.register_buffer(key, torch.tensor(value))
            torch.jit.save(torch.jit.script(module.eval()), str(path))
        elif kind == "safetensors":
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(path))
        else:
            torch.save(model.state_dict(), path)
    visual = model.visual
    is_resnet = hasattr(visual, "layer1")
    blocks = (
        [b for s in (visual.layer1, visual.layer2, visual.layer3, visual.layer4) for b in s]
        if is_resnet
        else list(visual.transformer.resblocks)
    )
    return visual, blocks, lambda x: model.encode_image(x), CLIP


def network(name: str, folder: Path) -> tuple:
    """Write the files of a network; return module, blocks, function of its features, and normalisation."""
    if name == "clip-resnet50":
        return clip(
            "RN50-quickgelu",
            {"torchscript": "RN50.pt", "safetensors": "openai/open_clip_model.safetensors"},
            folder,
        )
    if name == "clip-vit-b32":
        return clip(
            "ViT-B-32-quickgelu",
            {"torchscript": "ViT-B-32.pt", "pickle": "vit_b_32-quickgelu-laion400m_e32.pt"},
            folder,
        )
    if name == "openclip-vit-b32":
        files = {
            "pickle": "laion2B/open_clip_pytorch_model.bin",
            "safetensors": "laion2B/open_clip_model.safetensors",
        }
        return clip("ViT-B-32", files, folder)
    if name == "vit-b32":
        model = randomise(timm.create_model("vit_base_patch32_224"))
        save_file(model.state_dict(), str(folder / "model.safetensors"))
        torch.save(model.state_dict(), folder / "jx_vit.pth")
        write_npz(model, folder / "ViT-B_32.npz")
        return (
            model,
            list(model.blocks),
            lambda x: model.forward_head(model.forward_features(x), pre_logits=True),
            HALF,
        )
    if name == "vit-b32-torchvision":
        model = randomise(torchvision.models.vit_b_32())
        torch.save(model.state_dict(), folder / "vit_b_32-d86f8d99.pth")
        model.heads = torch.nn.Identity()
        return model, list(model.encoder.layers), model, IMAGENET
    if name == "resnet50-v1.5":
        model = randomise(timm.create_model("resnet50"))
        torch.save(model.state_dict(), folder / "resnet50.pth")
        other = torchvision.models.resnet50()
        other.load_state_dict(model.state_dict())
        torch.save(other.state_dict(), folder / "resnet50-11ad3fa6.pth")
        blocks = [b for s in (model.layer1, model.layer2, model.layer3, model.layer4) for b in s]
        return (
            model,
            blocks,
            lambda x: model.forward_head(model.forward_features(x), pre_logits=True),
            IMAGENET,
        )
    raise SystemExit(f"unknown network {name}")


def main() -> None:
    name, images, folder = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    model, blocks, features, (mean, deviation) = network(name, folder)
    kept: dict[str, np.ndarray] = {}

    def keep(number: int, out: torch.Tensor) -> None:
        kept.setdefault(f"block{number}", out[:BLOCK_IMAGES].numpy())

    for i, block in enumerate(blocks):
        block.register_forward_hook(lambda _, __, out, i=i: keep(i, out))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    with torch.no_grad():
        found = torch.cat([features(part) for part in x.split(10)]).numpy()
    parameters = sum(p.numel() for p in model.parameters())
    np.savez(folder / "expected.npz", features=found, parameters=parameters, **kept)


if __name__ == "__main__":
    main()
