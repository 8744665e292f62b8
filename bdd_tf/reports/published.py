"""Published results, copied from their sources for comparison with ours.

The source, unless another one is named, is Lanzino et al., "Faster Than Lies: Real-time Deepfake Detection using Binary
Neural Networks", CVPR Workshops 2024, arXiv 2406.04932.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Lanzino et al., CVPRW 2024, arXiv 2406.04932"
#: Data sets in the order of the paper's tables.
DATASETS = ("cocofake", "dffd", "cifake")
SIZES = ("t", "s", "m")


@dataclass(frozen=True)
class Printed:
    """A cell of the paper's table of results.

    Attributes:
        dataset: Name of the data set, as for ``--dataset``.
        backbone: Name of the backbone, as for ``--backbone``.
        frozen: Whether only adapter and classifier were trained, with an ImageNet backbone.
        accuracy: Accuracy in [0, 1].
        auc: AUC in [0, 1].
    """

    dataset: str
    backbone: str
    frozen: bool
    accuracy: float
    auc: float

    @property
    def preset(self) -> str:
        """Name of the preset that trains it (a file of ``bdd_tf/experiments``)."""
        return f"paper-{self.dataset}-{self.backbone[-1]}{'-frozen' if self.frozen else ''}"


#: Accuracy and AUC in % of BNext-T, S and M, by data set and whether the backbone was frozen.
_RESULTS = {
    ("cocofake", True): ((83.65, 81.98), (93.15, 95.19), (84.59, 82.11)),
    ("dffd", True): ((89.56, 87.65), (89.69, 88.58), (89.61, 86.64)),
    ("cifake", True): ((83.89, 91.70), (80.71, 89.25), (82.77, 90.73)),
    ("cocofake", False): ((99.25, 99.86), (99.28, 99.89), (99.18, 99.91)),
    ("dffd", False): ((98.95, 99.94), (99.01, 99.94), (98.75, 99.92)),
    ("cifake", False): ((97.29, 99.65), (96.96, 99.55), (97.35, 99.62)),
}
RESULTS = tuple(
    Printed(dataset, f"bnext-{size}", frozen, round(accuracy / 100, 6), round(auc / 100, 6))
    for dataset in DATASETS
    for size, row in zip(
        SIZES, zip(_RESULTS[dataset, True], _RESULTS[dataset, False], strict=True), strict=True
    )
    for frozen, (accuracy, auc) in zip((True, False), row, strict=True)
)

#: Accuracy on COCOFake with a frozen BNext-T, by channels in addition to RGB, in the paper's order of rows.
ABLATION = {
    (): 0.9035,
    ("sobel",): 0.8236,
    ("fft",): 0.8818,
    ("lbp",): 0.8842,
    ("sobel", "fft"): 0.8120,
    ("sobel", "lbp"): 0.8167,
    ("fft", "lbp"): 0.9160,
    ("sobel", "fft", "lbp"): 0.8156,
}
ABLATION_ABOUT = "COCOFake, BNext-T frozen at 224 px, one run each"

#: Operations in G by backbone. The paper's definition (binary MACs / 64 + float MACs at 224 px) gives a tenth of these.
OPERATIONS = {"bnext-t": 0.89, "bnext-s": 1.91, "bnext-m": 3.39}
#: Parameters in millions from the same table, as PyTorch counts them (without batch norm statistics).
PARAMETERS = {"bnext-t": 29.8, "bnext-s": 67.1, "bnext-m": 133.0}


@dataclass(frozen=True)
class Baseline:
    """A row of the paper's comparison on COCOFake: a pretrained float network.

    Attributes:
        name: Name as printed.
        backbone: Our backbone with its function.
        run: Name of the run that holds its weights; the preset is named after it.
        hub: Repository with the weights, for ``--from-hub``.
        accuracy: Accuracy on COCOFake in [0, 1].
        parameters: Number of parameters; None if it is not printed.
        operations: Floating point operations; None if they are not printed.
    """

    name: str
    backbone: str
    run: str
    hub: str
    accuracy: float
    parameters: float | None = None
    operations: float | None = None

    @property
    def preset(self) -> str:
        """Name of the preset that trains a probe on its features."""
        return f"paper-cocofake-{self.run}-frozen"


_CLIP = "timm/vit_base_patch32_clip_224"
BASELINES = (
    Baseline("ResNet50", "resnet50-v1.5", "resnet50", "timm/resnet50.a1_in1k", 0.9031, 25.6e6, 4.8e9),
    Baseline(
        "ViT-B/32",
        "vit-b32",
        "vit-b32",
        "timm/vit_base_patch32_224.augreg_in21k_ft_in1k",
        0.8764,
        88.3e6,
        8.56e9,
    ),
    Baseline("CLIP-ResNet50", "clip-resnet50", "clip-resnet50", "timm/resnet50_clip.openai", 0.9907),
    Baseline("CLIP-ViT-B/32", "clip-vit-b32", "clip-vit-b32", f"{_CLIP}.openai", 0.9911),
    # Trained with QuickGELU, as OpenAI's.
    Baseline(
        "OpenCLIP-ViT-B/32, LAION-400M",
        "clip-vit-b32",
        "openclip-vit-b32-laion400m",
        f"{_CLIP}.laion400m_e32",
        0.9788,
    ),
    Baseline(
        "OpenCLIP-ViT-B/32, LAION-2B",
        "openclip-vit-b32",
        "openclip-vit-b32-laion2b",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        0.9968,
    ),
)

#: Accuracies in [0, 1] that others have published for CIFAKE's official test split.
ELSEWHERE_ON_CIFAKE = (
    ("the data set's first CNN (Bird and Lotfi 2024)", 0.9298),
    ("DenseNet-121 with squeeze and excitation, 32 px, from scratch", 0.9856),
    ("EfficientNet-B0", 0.985),
    ("a follow-up on the paper's code, BNext-S", 0.9875),
)
