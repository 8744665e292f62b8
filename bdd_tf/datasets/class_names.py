"""The names of classes in folders and manifests, and the place of a data set whose names the user gave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError, one_of

#: Pairs of class folders that data sets use, REAL first, in lower case with "_" for spaces and hyphens.
PAIRS = (
    ("real", "fake"),
    ("0_real", "1_fake"),
    ("nature", "ai"),
    ("human", "ai"),
    ("real", "ai"),
    ("real_images", "fake_images"),
    ("real_images", "ai_images"),
    ("authentic", "generated"),
    ("real", "generated"),
    ("original", "generated"),
    ("real", "synthetic"),
    ("real", "ai_generated"),
    ("real", "deepfake"),
    ("0", "1"),
)
#: Columns of a manifest.
COLUMNS = ("path", "label", "split", "source")


@dataclass(frozen=True)
class Classes:
    """The names of class folders and labels.

    Attributes:
        real: Names that mean REAL, in any case; empty for the usual ones.
        fake: Names that mean FAKE, in any case; empty for the usual ones.
    """

    real: tuple[str, ...] = ()
    fake: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        both = {plain(name) for name in self.real} & {plain(name) for name in self.fake}
        if both:
            raise UsageError(
                f"{', '.join(sorted(both))} cannot be both REAL and FAKE; give it to one of them."
            )
        if bool(self.real) != bool(self.fake):
            raise UsageError("--real and --fake name the classes' folders together; give both.")

    @property
    def labels(self) -> dict[str, int]:
        """Plain label of a manifest -> 0 or 1: the given names, or else all usual ones."""
        if self.real:
            return self.words(())
        return {name: label for pair in PAIRS for label, name in zip((REAL, FAKE), pair, strict=True)}

    def words(self, seen: Iterable[str]) -> dict[str, int]:
        """Choose the names that mean a class.

        Args:
            seen: Plain names of all folders on the way to an image.

        Returns:
            Plain name -> label: the given names, else the pairs of which both occur, else all usual names.
        """
        if self.real:
            return {**{plain(n): REAL for n in self.real}, **{plain(n): FAKE for n in self.fake}}
        names = set(seen)
        complete = [pair for pair in PAIRS if set(pair) <= names]
        if len(complete) > 1:  # numbered folders are often folds or object classes
            complete = [pair for pair in complete if pair != ("0", "1")]
        found: dict[str, int] = {"real": REAL, "0_real": REAL, "fake": FAKE, "1_fake": FAKE} if names else {}
        for real, fake in complete or _unpaired(names):
            found |= {real: REAL, fake: FAKE}
        return found


def _unpaired(names: set[str]) -> tuple[tuple[str, str], ...]:
    """The pairs to try where none is complete: 0 and 1 count only beside each other."""
    named = tuple(pair for pair in PAIRS if pair != ("0", "1"))
    return named if any(names & set(pair) for pair in named) else ()


def plain(name: str) -> str:
    """Return a folder's name as it is compared: lower case, with ``_`` for spaces and hyphens."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


@dataclass(frozen=True)
class Location:
    """Where a data set is, and the names in it.

    Attributes:
        path: Folder, archive or manifest; None: the data set's own source.
        classes: Names of the classes' folders, or labels of a manifest.
        columns: ``"COLUMN=NAME"`` for each column of a manifest that has another name than in :data:`COLUMNS`.

    Raises:
        UsageError: If a column is unknown, or an entry is no pair.
    """

    path: str | None = None
    classes: Classes = Classes()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self.column_names

    @property
    def column_names(self) -> dict[str, str]:
        """Column -> its lower-case name in the manifest."""
        names = {column: column for column in COLUMNS}
        for entry in self.columns:
            column, equals, name = entry.partition("=")
            if not equals or not name.strip():
                raise UsageError(f"--columns takes COLUMN=NAME, such as path=file_name; got {entry!r}.")
            if column not in names:
                raise one_of("column", column, COLUMNS)
            names[column] = name.strip().lower()
        return names

    @property
    def has_names(self) -> bool:
        """Whether the user gave any name."""
        return bool(self.classes.real or self.columns)
