"""One tensorflow-datasets builder per data set, for images that were indexed and split by this package.

Records hold resized pixels as PNG. The resize rule is that of detection (:mod:`bdd_tf.edge.images.decode`) and TensorFlow
decodes only lossless PNG, so a network is trained on exactly the pixels that it sees in detection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bdd_tf.console import progress_bar
from bdd_tf.datasets import shards
from bdd_tf.datasets.index import SPLITS, Entry
from bdd_tf.datasets.sources import SOURCES
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.legacy_keras import tf  # noqa: F401 (sets legacy Keras before tensorflow_datasets imports it)

import tensorflow_datasets as tfds  # isort: skip


@dataclass(eq=False)
class PreparedConfig(tfds.core.BuilderConfig):
    """The images to prepare. Its name is their fingerprint and the resize rule, so prepared data are never out of date.

    Attributes:
        entries: Readable images with their splits.
        rule: The resize rule.
        processes: How many processes prepare them.
    """

    entries: tuple[Entry, ...] = ()
    rule: ResizeRule | None = None
    processes: int = 1


class _PreparedBuilder(tfds.core.dataset_builder.FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders; a subclass names its data set."""

    VERSION = tfds.core.Version("1.0.0")
    SOURCE = ""

    def _info(self) -> tfds.core.DatasetInfo:
        source = SOURCES[self.SOURCE]
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{source.title}. Licence: {source.licence}. Source: {source.page}.",
            citation=source.citation,
            features=shards.features(self.builder_config.rule),
            supervised_keys=("image", "label"),
        )

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        """Write the files of all splits (:mod:`bdd_tf.datasets.shards`), into a folder that is renamed when all is done."""
        del dl_manager, download_config
        config = self.builder_config
        tasks: list[shards.Task] = []
        for split in SPLITS:
            entries = shards.ordered(config.entries, split)
            ranges = shards.parts(len(entries), config.rule) if entries else []
            names = self._names(split)
            tasks += [
                shards.Task(
                    Path(names.sharded_filepath(shard_index=k, num_shards=len(ranges))),
                    split,
                    tuple(entries[part.start : part.stop]),
                    config.rule,
                )
                for k, part in enumerate(ranges)
            ]
        with progress_bar(len(config.entries), "img", "preparing") as progress:
            sizes = shards.write_all(tasks, config.processes, progress.update)
        found = []
        for split in dict.fromkeys(task.split for task in tasks):
            mine = [(task, size) for task, size in zip(tasks, sizes, strict=True) if task.split == split]
            found.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[len(task.entries) for task, _ in mine],
                    num_bytes=sum(size for _, size in mine),
                    filename_template=self._names(split),
                )
            )
        self.info.set_splits(tfds.core.splits.SplitDict(found))

    def _names(self, split: str) -> tfds.core.ShardedFileTemplate:
        return tfds.core.ShardedFileTemplate(
            split=split, dataset_name=self.name, data_dir=self.data_path, filetype_suffix="tfrecord"
        )


def _builder(name: str, title: str) -> type[_PreparedBuilder]:
    """Define the builder class of a source; tensorflow-datasets names the prepared data by the class."""
    return type(
        name.capitalize(), (_PreparedBuilder,), {"SOURCE": name, "__doc__": title, "__module__": __name__}
    )


#: By data set: the builder of every source.
BUILDERS = {name: _builder(name, source.title) for name, source in SOURCES.items()}
