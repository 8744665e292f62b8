"""Read multipart forms with image files, piece by piece as they arrive."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from bdd_tf.service.limits import Limits, Refusal, Share

PREAMBLE_BYTES = 64 * 1024
"""Maximum size of the text that may precede the first boundary (RFC 2046, section 5.1.1)."""

FIELDS = 16
"""Maximum number of parts that are not files."""

HINT = "send an image as the body, or one or more as files in a form: curl -F image=@photo.jpg"

# Parameters of a header; a quoted value is one token, so that no parameter is found inside it.
_PARAMETER = re.compile(r';\s*([^=;\s"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
# RFC 5987, section 3.2: charset ' language ' percent-encoded text.
_EXTENDED = re.compile(r"([\w!#$%&+^`{}~-]+)'[\w-]*'([\w!#$&+.^`|~%-]*)", re.ASCII)
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}


@dataclass
class Upload:
    """One file of a request.

    Attributes:
        name: Name that the client gave, unchanged; None if it gave none, or one that cannot be decoded.
        content: The file; empty if it is too large.
        size: Number of bytes received.
        too_large: Whether the file exceeds the limit for a single one.
    """

    name: str | None = None
    content: bytearray = field(default_factory=bytearray)
    size: int = 0
    too_large: bool = False


class Form:
    """A form with one or more files, in fields of any name; other fields are ignored.

    Text before the first boundary (a preamble) is skipped. A file beyond the limit for a single one is discarded while
    it arrives, and does not affect the others.

    Args:
        boundary: Parameter of the Content-Type.
        limits: Limits on the size and number of files.
        share: Accounts for the memory; the bytes of discarded files are given back.

    Raises:
        Refusal: 400, if there is no boundary, or one that no form can have.
    """

    def __init__(self, boundary: bytes, limits: Limits, share: Share) -> None:
        if not boundary:
            raise Refusal(400, "The Content-Type of the form has no boundary.")
        self._limits, self._share = limits, share
        # A boundary begins a line; that of the first line is found as if another one had ended before it.
        self._delimiter = b"\r\n--" + boundary
        self._preamble: bytearray | None = bytearray(b"\r\n")
        self._searched = 0
        self._files: list[Upload] = []
        self._fields = 0
        self._in_file = self._ended = False
        self._name, self._value = bytearray(), bytearray()
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except (FormParserError, UnicodeError) as error:
            raise _damaged(error) from None

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Refusal: 400, if the form is damaged, or has too many parts.
        """
        if self._preamble is not None:
            self._preamble += data
            start = self._first_boundary()
            if start is None:
                if len(self._preamble) > PREAMBLE_BYTES:
                    raise Refusal(
                        400, f"The form has no boundary within its first {PREAMBLE_BYTES // 1024} KiB."
                    )
                return
            data, self._preamble = bytes(self._preamble[start:]), None
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _damaged(error) from None

    def files(self) -> list[Upload]:
        """Return the files, once all bytes have been written.

        Raises:
            Refusal: 400, if the form is incomplete or has no file.
        """
        if not self._ended:
            raise Refusal(400, "The form ends before its last boundary.")
        # A browser sends an empty file without a name for an input in which no file was chosen.
        chosen = [file for file in self._files if file.size or file.name]
        if not self._files:
            raise Refusal(400, f"The form contains no file; {HINT}.")
        return chosen or self._files[:1]

    def _first_boundary(self) -> int | None:
        """Return where the first boundary begins; None if it has not arrived yet."""
        text, line = self._preamble or bytearray(), self._delimiter
        while (at := text.find(line, self._searched)) >= 0:
            after = text[at + len(line) :][:2]
            if bytes(after) in (b"\r\n", b"--"):
                return at + 2
            if len(after) < 2:
                self._searched = at
                return None
            # A longer word that merely begins like the boundary.
            self._searched = at + 2
        self._searched = max(self._searched, len(text) - len(line))
        return None

    def _begin_part(self) -> None:
        self._in_file = False

    def _end_headers(self) -> None:
        self._fields += not self._in_file
        if self._fields > FIELDS:
            raise Refusal(400, f"The form has more than {FIELDS} parts that are not files; {HINT}.")

    def _begin_header(self) -> None:
        self._name.clear()
        self._value.clear()

    def _end_header(self) -> None:
        if self._name.lower() != b"content-disposition" or self._in_file:
            return
        is_file, name = file_name(bytes(self._value))
        if not is_file:
            return
        self._in_file = True
        if len(self._files) == self._limits.images:
            raise Refusal(
                400, f"The form has more than {self._limits.images} files, which is the limit for a request."
            )
        self._files.append(Upload(name))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            return
        file = self._files[-1]
        file.size += end - start
        if file.size > self._limits.upload_bytes and not file.too_large:
            file.too_large = True
            self._share.give(len(file.content))
            file.content = bytearray()
        if file.too_large:
            self._share.give(end - start)
        else:
            file.content += data[start:end]

    def _end(self) -> None:
        self._ended = True


def file_name(disposition: bytes) -> tuple[bool, str | None]:
    """Read the name of a file from a Content-Disposition header.

    The extended notation of RFC 5987 (``filename*=UTF-8''na%C3%AFve.jpg``) takes precedence over ``filename``, as
    RFC 6266 says. Bytes of a plain name are UTF-8 or, if they are not, ISO 8859-1.

    Args:
        disposition: Value of the header.

    Returns:
        Whether the part is a file; and its name, or None if it cannot be decoded.
    """
    parameters = {key.lower(): value for key, value in _PARAMETER.findall(disposition.decode("latin-1"))}
    extended = parameters.get("filename*")
    if extended is not None and (name := _extended(extended.strip())) is not None:
        return True, name
    try:
        _, options = parse_options_header(disposition)
    except (ValueError, UnicodeError):
        options = {}
    plain = options.get(b"filename")
    if plain is None:
        return extended is not None, None
    try:
        return True, plain.decode("utf-8")
    except UnicodeDecodeError:
        return True, plain.decode("latin-1")


def _extended(value: str) -> str | None:
    match = _EXTENDED.fullmatch(value)
    charset = _CHARSETS.get(match[1].lower()) if match else None
    if match is None or charset is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(charset)
    except UnicodeDecodeError:
        return None


def _damaged(error: Exception) -> Refusal:
    return Refusal(400, f"The form is damaged ({str(error)[:120].rstrip('.')}).")
