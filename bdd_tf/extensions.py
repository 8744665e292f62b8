"""Backbones, channels and augmentations from outside the package. No TensorFlow until a network is built.

A plug-in is a module that calls the ``register_`` functions when it is imported. ``bdd train --plugin ./mine.py`` loads it,
and so do evaluation and conversion of the run. An installed package announces its module as an entry point instead
(:mod:`bdd_tf.entry_points`) and needs no option. ``docs/extending.md`` has an example of each kind.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets import augment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models import channel_names, registry

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,39}")


def register_backbone(
    name: str, build: Callable[[Any, int], Any], *, stem_strides: Sequence[int] = (2, 1), stage_stride: int
) -> None:
    """Make a backbone known by its name.

    Args:
        name: Its name for ``--backbone``: lower-case letters, digits, ``.``, ``_`` and ``-``.
        build: ``build(x, stem_stride)``: adds Keras layers to a tensor float32 [N, H, W, 3] (ImageNet-normalised RGB after
            the adapter) and returns features [N, C]. It is called when a network is built, so that it may import
            TensorFlow itself, by ``from bdd_tf.legacy_keras import tf``.
        stem_strides: Possible strides of its first layers: the usual one first, the one for images below 96 px last.
        stage_stride: Product of the other strides. The resolution must be a multiple of both together.

    Raises:
        UsageError: For a name that is taken or not allowed, or strides below 1.

    Example:
        >>> register_backbone("doctest-net", lambda x, stem_stride: x, stage_stride=4)
    """
    _check_name("backbone", name, registry.BACKBONES)
    strides = (*stem_strides, stage_stride)
    if not stem_strides or any(not isinstance(s, int) or isinstance(s, bool) or s < 1 for s in strides):
        raise UsageError(f"backbone {name}: strides must be whole numbers of at least 1; got {strides}.")
    _check_function("backbone", name, build)
    registry.BACKBONES[name] = registry.Backbone(name, tuple(stem_strides), stage_stride, build)


def register_channel(
    name: str,
    function: Callable[[Any], Any],
    *,
    depth: int = 1,
    mean: float = 0.5,
    scale: float = 2.0,
) -> None:
    """Make an input channel known by its name.

    Args:
        name: Its name for ``--channels``.
        function: Computes the channel with TensorFlow operations that TFLite has: RGB float32 [N, H, W, 3] with integers
            in [0, 255] -> float32 [N, H, W, depth], preferably in [0, 1]. It becomes a part of the converted file.
        depth: Number of planes.
        mean: Subtracted from the channel by a direct stem.
        scale: Factor of the difference there.

    Raises:
        UsageError: For a name that is taken or not allowed, or a depth below 1.
    """
    _check_name("channel", name, channel_names.known())
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise UsageError(f"channel {name}: depth must be a whole number of at least 1; got {depth!r}.")
    _check_function("channel", name, function)
    channel_names.REGISTERED[name] = channel_names.Channel(name, function, depth, float(mean), float(scale))


def register_augmentation(
    name: str, function: Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
) -> None:
    """Make an augmentation of training images known by its name.

    Args:
        name: Its name for ``--augment``; augmentations are applied in the order in which the user gives them, behind the
            built-in ones.
        function: ``function(image, random)`` returns the changed image: uint8 RGB [S, S, 3] -> the same shape and type. All
            randomness must come from ``random``, whose stream depends on seed, epoch and position only, so that a resumed
            run draws the same.

    Raises:
        UsageError: For a name that is taken or not allowed.
    """
    _check_name("augmentation", name, augment.known())
    _check_function("augmentation", name, function)
    augment.REGISTERED[name] = function


def load_plugin(plugin: str) -> None:
    """Import a plug-in, which registers what it adds; a second time has no effect.

    Args:
        plugin: Path of a ``.py`` file, or name of an importable module.

    Raises:
        UsageError: If there is no such file or module.
        BddError: If it raises an error; names the line.
    """
    path = Path(plugin)
    try:
        if path.suffix != ".py":
            importlib.import_module(plugin)
            return
        name = f"bdd_plugin_{path.resolve().as_posix()}"
        if name in sys.modules:
            return
        if not path.is_file():
            raise UsageError(f"--plugin {plugin}: there is no such file.")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    except BddError:
        raise
    except ModuleNotFoundError as error:
        if error.name != plugin.split(".")[0] and error.name != plugin:
            raise _failed(plugin, error) from error
        raise UsageError(
            f"--plugin {plugin}: there is no such module; give the path of a file, such as ./mine.py, or install it."
        ) from error
    except Exception as error:
        raise _failed(plugin, error) from error


def as_options(plugins: Sequence[str]) -> str:
    """Return the options that load the same plug-ins again, each with a space in front."""
    return "".join(f" --plugin {plugin}" for plugin in plugins)


def _failed(plugin: str, error: Exception) -> BddError:
    trace, where = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file != __file__:
            where = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return BddError(f"--plugin {plugin} failed{where}: {type(error).__name__}: {error}")


def _check_name(kind: str, name: str, taken: Sequence[str] | dict[str, Any]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"name of a {kind}: {name!r}; it must start with a lower-case letter and have at most 40 of a-z, 0-9, '.', '_', '-'."
        )
    if name in taken:
        raise UsageError(f"there is a {kind} {name!r} already; choose another name.")


def _check_function(kind: str, name: str, function: object) -> None:
    if not callable(function):
        raise UsageError(f"{kind} {name}: a function is needed; got {type(function).__name__}.")
