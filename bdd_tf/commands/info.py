"""`bdd info`: contents and cost of a .tflite file, a run or a PyTorch checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from pathlib import Path

from bdd_tf.commands.info_checkpoint import checkpoint_contents, normalisation_in_words
from bdd_tf.commands.info_costs import costs_of, weight_kind
from bdd_tf.edge.images.rules import rule_of
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.edge.labels import band_of
from bdd_tf.edge.shipped_model import model_path, shipped_models
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.metadata import METADATA_NAME, read_metadata
from bdd_tf.edge.tflite.statistics import model_statistics
from bdd_tf.errors import BddError, UsageError, did_you_mean
from bdd_tf.runs import RUNS_DIR, Run, run_named, trained_weights

#: First bytes of a file of Keras weights, and of the files of torch.save (an archive, or a bare pickle).
_HDF5, _TORCH = b"\x89HDF\r\n\x1a\n", (b"PK", b"\x80")


def inform(path: str, runs_dir: Path = Path(RUNS_DIR)) -> dict:
    """Examine a file or run.

    Args:
        path: A .tflite file, a PyTorch checkpoint, a run folder, a run's name, or the name of a shipped model.
        runs_dir: Folder in which run names are looked up.

    Returns:
        ``path``, ``kind`` (``tflite``, ``run``, ``checkpoint``), ``backbone``, ``channels``, ``resolution``,
        ``views`` (the rule for native crops in words), ``parameters``, ``torch_parameters`` (without statistics, as in
        the paper), ``binary_macs``, ``float_macs``,
        ``operations`` (binary / 64 + float), ``paper_operations`` and ``paper_parameters`` (as
        published), ``bytes``, ``bytes_by_kind``, ``operators`` and ``metadata``; of a .tflite file ``unsure`` (its band) and
        ``sha256``; of a checkpoint what :func:`bdd_tf.commands.info_checkpoint.checkpoint_contents` adds. Unknown: None.

    Raises:
        UsageError: If the file or run does not exist.
        BddError: If it is damaged.
    """
    file = model_path(path)
    if file.is_dir() or not file.exists():
        run = Run(file) if file.is_dir() else run_named(path, runs_dir)
        if not run.config.is_file():
            raise UsageError(
                f"{path} is no .tflite file, checkpoint or run ({run.config} is missing), and no shipped model "
                f"({', '.join(shipped_models())}); `bdd runs` lists the runs."
                + did_you_mean(path, shipped_models())
            )
        return _run(run)
    with file.open("rb") as opened:
        mark = opened.read(8)
    if mark[4:8] == b"TFL3" or file.suffix == ".tflite":
        return {"path": str(file), **_tflite(file)}
    if mark == _HDF5:
        raise UsageError(
            f"{path} holds Keras weights without their network; give the run's folder, {file.parent or '.'}."
        )
    if not (file.suffix == ".safetensors" or mark.startswith(_TORCH)):
        raise UsageError(f"{path} is no .tflite file, PyTorch checkpoint or run; `bdd detect` scores images.")
    return {"path": str(file), **checkpoint_contents(file)}


def _tflite(file: Path) -> dict:
    try:
        model = parse_tflite(file.read_bytes())
        found = model_statistics(model)
        metadata = read_metadata(model) if METADATA_NAME in model.metadata else {}
        rule = rule_of(metadata) if "views" in metadata else None
        views = _views(rule) if isinstance(rule, ViewRule) else None
        band = band_of(metadata)
    except BddError as error:
        raise BddError(f"{file}: {error}") from error
    return {
        "kind": "tflite",
        "backbone": metadata.get("backbone"),
        "channels": metadata.get("channels"),
        "resolution": metadata.get("resolution"),
        "views": views,
        "parameters": found.binary_weights + found.other_constants,
        "torch_parameters": None,
        **costs_of(found.binary_macs, found.float_macs, metadata.get("backbone")),
        "bytes": len(model.content),
        "bytes_by_kind": found.bytes_by_kind,
        "operators": found.operators,
        "metadata": metadata,
        "unsure": None if band is None else list(band),
        "sha256": hashlib.sha256(model.content).hexdigest(),
    }


def _views(rule: ViewRule) -> str:
    factors = ", ".join(f"{factor:g}" for factor in rule.scale)
    return (
        f"up to {rule.count} native crops of {rule.size}x{rule.size} px; score: mean logit times {factors}"
        + (" for 1, 2, ... crops" if len(rule.scale) > 1 else "")
    )


def _run(run: Run) -> dict:
    from bdd_tf.config import Experiment
    from bdd_tf.models.operation_counts import count_operations, flat_layers, is_binary
    from bdd_tf.training.weights import build

    config = Experiment.load(run.config)
    model = build(config)
    counts = count_operations(model)
    sizes: dict[str, int] = {}
    for layer in flat_layers(model):
        for weight in layer.weights:
            kind = weight_kind(len(weight.shape), is_binary(layer))
            sizes[kind] = sizes.get(kind, 0) + 4 * int(weight.shape.num_elements() or 0)
    size = None
    with contextlib.suppress(BddError):
        size = trained_weights(run).stat().st_size
        sizes["structure"] = size - sum(sizes.values())
    return {
        "path": str(run.path),
        "kind": "run",
        "backbone": config.backbone,
        "channels": list(config.channels),
        "resolution": config.resolution,
        "views": None if config.views is None else _views(config.views),
        "parameters": counts.parameters,
        "torch_parameters": _torch_parameters(config.backbone, len(config.channels) - 1),
        **costs_of(counts.binary_macs, counts.float_macs, config.backbone),
        "bytes": size,
        "bytes_by_kind": sizes,
        "operators": {},
        "metadata": config.to_dict(),
    }


def _torch_parameters(backbone: str, extra_channels: int) -> int | None:
    """Parameters as PyTorch counts them; None for other backbones than BNext, and without the source tree."""
    from bdd_tf.models.bnext_sizes import BNEXT

    try:
        from converters.pytorch.state_dict import parameter_count
    except ModuleNotFoundError:
        return None
    return parameter_count(backbone, extra_channels) if backbone in BNEXT else None


def _amount(value: float | None) -> str:
    if value is None:
        return "unknown"
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:g}"


def describe(about: dict) -> str:
    """Format the output of `bdd info`."""
    lines = [("", f"{about['path']} ({about['kind']})")]
    channels = about["channels"]
    lines.append(("network", " ".join(str(part) for part in (
        about["backbone"] or "unknown backbone", f"{about['resolution']} px" if about["resolution"] else "",
        ",".join(map(str, channels)) if channels else "",
    ) if part)))  # fmt: skip
    if about.get("unsure"):
        low, high = about["unsure"]
        lines.append(
            ("verdicts", f"FAKE from {high:.4f} upwards, REAL from {low:.4f} downwards, UNSURE between")
        )
    if about.get("sha256"):
        lines.append(("SHA-256", about["sha256"]))
    if about["views"]:
        lines.append(("views", about["views"]))
    if about.get("layout"):
        lines.append(("layout", about["layout"]))
    if about.get("normalisation"):
        lines.append(("normalisation", normalisation_in_words(about["normalisation"])))
    counted = about["torch_parameters"]
    torch = (
        f" ({_amount(counted)} as PyTorch counts them, without statistics)"
        if counted not in (None, about["parameters"])
        else ""
    )
    lines.append(("parameters", _amount(about["parameters"]) + torch))
    if about.get("left_out"):
        whole = f"not imported: {', '.join(about['left_out'])}; the file holds {_amount(about['file_parameters'])} in all"
        lines.append(("", whole))
    lines.append(("binary MACs", _amount(about["binary_macs"])))
    lines.append(("float MACs", _amount(about["float_macs"])))
    lines.append(("operations", f"{_amount(about['operations'])} (binary MACs / 64 + float MACs)"))
    if about["paper_operations"]:
        lines.append(
            (
                "paper",
                f"{about['paper_parameters']:.3g} M parameters; {about['paper_operations']} G operations published for "
                f"224 px, ten times the result of its own definition",
            )
        )
    size = about["bytes"]
    lines.append(("size", f"{size:,} bytes" if size is not None else "no weights yet"))
    lines += [(f"  {kind}", f"{count:,}") for kind, count in about["bytes_by_kind"].items()]
    if about["operators"]:
        lines.append(("operators", ", ".join(f"{n} {name}" for name, n in about["operators"].items())))
    if about["metadata"]:
        lines.append(("metadata", json.dumps(about["metadata"], default=str)))
    lines += [("import", command) for command in about.get("import", ())]
    width = max(len(name) for name, _ in lines)
    return "\n".join([lines[0][1], *(f"{name:{width}}  {text}" for name, text in lines[1:])])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd info`."""
    parser.add_argument(
        "file", help=".tflite file, PyTorch checkpoint, run folder, a run's name, or a shipped model's"
    )
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> int:
    """Run `bdd info`; returns the exit code."""
    about = inform(args.file, args.runs_dir)
    print(json.dumps(about, indent=2, default=str) if args.json else describe(about))
    return 0
