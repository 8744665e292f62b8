"""Named experiments: the rows of the paper's tables, the shipped models and their baselines.

Each is a file in ``bdd_tf/experiments``. It opens with the command, the expected accuracy and the time, and then holds
the fields of :class:`bdd_tf.config.Experiment` that it sets; the remaining fields keep their defaults.
"""

from __future__ import annotations

from pathlib import Path

from bdd_tf.config import PHOTOS, Experiment, read_fields
from bdd_tf.errors import one_of

#: Preset name -> its file.
PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "experiments").glob("*.yaml"))}

#: Side of the square input, by data set, if neither the preset nor the user gives one.
DEFAULT_RESOLUTION = {"cifake": 32, "sample": 32, "photos": 96}
LARGE_RESOLUTION = 224


def experiment(preset: str | None = None, **given: object) -> Experiment:
    """Build an experiment from a preset and the user's settings.

    Args:
        preset: A key of :data:`PRESETS`; None: ``paper`` if ``init`` is given, else ``scratch``.
        given: Fields of :class:`Experiment`, which override the preset's; None means not given.

    Returns:
        The experiment. If neither the preset nor the user gives a resolution, it follows from the data set.

    Raises:
        UsageError: For an unknown preset, key or value.
        BddError: If the preset's file cannot be read.
    """
    given = {key: value for key, value in given.items() if value is not None}
    if preset is None:
        preset = "paper" if given.get("init") else "scratch"
    if preset not in PRESETS:
        raise one_of("preset", preset, tuple(PRESETS))
    values = {**read_fields(PRESETS[preset]), **given}
    dataset = str(values.get("dataset", Experiment.dataset))
    if dataset == PHOTOS and "resize" not in given:
        values["resize"] = "views"
        values["augment"] = given.get("augment", [])
    if "resolution" not in values:
        values["resolution"] = DEFAULT_RESOLUTION.get(dataset, LARGE_RESOLUTION)
        if values["resolution"] == LARGE_RESOLUTION:
            values.setdefault("resize", "reference")
    return Experiment.from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})
