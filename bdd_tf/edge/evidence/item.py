"""One piece of evidence about an image file."""

from __future__ import annotations

from typing import NamedTuple

VERIFIED, BROKEN, UNVERIFIED, HINT, NEUTRAL = "verified", "broken", "unverified", "hint", "neutral"
"""Values of `Evidence.strength`."""


class Evidence(NamedTuple):
    """One statement about an image file, in words for people.

    Attributes:
        kind: ``c2pa``, ``digital_source_type``, ``generator``, ``editor``, ``software``, ``camera``, ``description``,
            ``comment``, ``maker_note``, ``thumbnail``, ``jpeg_tables``, ``trailing_bytes`` or ``damaged``
            (docs/evidence.md).
        says: The statement, at most about 330 characters on one line, without control characters. Text of the file is
            in double quotation marks.
        where: The container and the block or field that holds it, e.g. ``JPEG EXIF Software``.
        strength: ``"verified"``: signed, the signature fits the file, and the signer is on the trust list. ``"broken"``:
            signed, but signature and file do not fit. ``"unverified"``: a statement of the file that anybody can write,
            or whose signature was not checked. ``"hint"``: a property that suggests editing. ``"neutral"``: a fact that
            suggests nothing by itself.
    """

    kind: str
    says: str
    where: str
    strength: str

    def as_dict(self) -> dict[str, str]:
        """Return the four attributes as JSON values."""
        return {"kind": self.kind, "says": self.says, "where": self.where, "strength": self.strength}
