"""One tensorflow-datasets builder per data set, for images that were indexed and split by this package.

Records hold resized pixels as PNG. The resize rule is that of detection (:mod:`bdd_tf.edge.images.decode`) and TensorFlow
decodes only lossless PNG, so a network is trained on exactly the pixels that it sees in detection.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bdd_tf.console import has_bars, progress_bar
from bdd_tf.datasets.index import SPLITS, Entry, Record
from bdd_tf.datasets.sources import SOURCES
from bdd_tf.edge.images.decode import load_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf  # noqa: F401 (sets legacy Keras before tensorflow_datasets imports it)

import tensorflow_datasets as tfds  # isort: skip


@dataclass(eq=False)
class PreparedConfig(tfds.core.BuilderConfig):
    """The images to prepare. Its name is their fingerprint and the resize rule, so prepared data are never out of date.

    Attributes:
        entries: Readable images with their splits.
        rule: The resize rule.
    """

    entries: tuple[Entry, ...] = ()
    rule: ResizeRule | None = None


def stored_path(record: Record) -> str:
    """Return a record's path as stored: bytes that are not UTF-8 are escaped."""
    return record.path.encode("utf-8", "backslashreplace").decode()


class _PreparedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders; a subclass names its data set."""

    VERSION = tfds.core.Version("1.0.0")
    SOURCE = ""

    def _info(self) -> tfds.core.DatasetInfo:
        source, size = SOURCES[self.SOURCE], self.builder_config.rule.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{source.title}. Licence: {source.licence}. Source: {source.page}.",
            citation=source.citation,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(LABELS)),
                    "path": tfds.features.Text(),
                    "source": tfds.features.Text(),
                    "pixel_hash": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        present = {e.record.split for e in self.builder_config.entries}
        return {split: self._generate_examples(split) for split in SPLITS if split in present}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        entries = [e for e in self.builder_config.entries if e.record.split == split]
        # On a terminal, tensorflow-datasets draws bars.
        with progress_bar(
            len(entries), "img", f"preparing {split}", disable=has_bars(sys.stderr)
        ) as progress:
            for entry in entries:
                yield self._example(entry)
                progress.update()

    def _example(self, entry: Entry) -> tuple[str, dict]:
        """Return the key and the features of an image.

        Raises:
            BddError: If the file was changed, or cannot be scaled.
        """
        from PIL import Image

        record = entry.record
        try:
            content = record.file.read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != entry.file_hash:
            # The prepared data would not match their fingerprint.
            raise BddError(f"{record.file} changed while it was being prepared; run the same command again.")
        try:
            pixels = load_image(content, self.builder_config.rule)
        except ImageError as error:
            raise BddError(f"{record.file} cannot be prepared: {error}.") from error
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG", compress_level=1)
        return stored_path(record), {
            "image": png.getvalue(),
            "label": record.label,
            "path": stored_path(record),
            "source": record.source,
            "pixel_hash": entry.pixel_hash,
        }


def _builder(name: str, title: str) -> type[_PreparedBuilder]:
    """Define the builder class of a source; tensorflow-datasets names the prepared data by the class."""
    return type(
        name.capitalize(), (_PreparedBuilder,), {"SOURCE": name, "__doc__": title, "__module__": __name__}
    )


#: By data set: the builder of every source.
BUILDERS = {name: _builder(name, source.title) for name, source in SOURCES.items()}
