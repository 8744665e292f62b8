"""Fetch a checkpoint from the Hugging Face hub, at a pinned revision and with its checksum (`bdd convert --from-hub`).

Only this module imports huggingface_hub, an optional package. A file that lies in the cache already needs no network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bdd_tf.console import say
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import cache_folder, write_atomically
from converters.pytorch.checkpoint_files import SIZE_LIMIT
from converters.pytorch.vision_import import file_digest

#: Names of weights in the order of preference: open_clip's before those of other layouts, safetensors before pickles.
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
_CONFIG = "open_clip_config.json"
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Record of the downloaded files beside them: commit and checksums.
_RECORD = "hub.json"


def folder_of(repository: str) -> Path:
    """Return the folder that holds a repository's files: ``hub/OWNER--NAME`` in the cache."""
    return cache_folder() / "hub" / repository.replace("/", "--")


def fetch(identifier: str, file: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Return a repository's checkpoint, from the cache or the network.

    Args:
        identifier: ``OWNER/NAME``, optionally ``@REVISION`` (a commit, tag or branch).
        file: Name of the file in the repository; None: the first of :data:`FILES` that it has.

    Returns:
        The file, and its origin for ``imported.json``: repository, commit (None for a file that was put there by hand) and
        the hub's checksum.

    Raises:
        UsageError: For an identifier or a file name that is none, or a file that the repository does not have.
        BddError: If the hub cannot be reached or huggingface_hub is missing (the message says where to put the file), or
            the checksum differs.
    """
    repository, _, revision = identifier.partition("@")
    if not _ID.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UsageError(f"--from-hub takes OWNER/NAME or OWNER/NAME@REVISION; got {identifier!r}.")
    if file is not None and (Path(file).name != file or file.startswith(".")):
        raise UsageError(f"--file takes the name of a file in the repository, without folders; got {file!r}.")
    folder = folder_of(repository)
    record = _record(folder)
    for name in (file,) if file else FILES:
        known = record.get("files", {}).get(name)
        if (folder / name).is_file() and (
            not revision or revision in (record.get("commit"), record.get("revision"))
        ):
            say(f"using {folder / name}")
            if known:
                check_digest(folder / name, known)
            return folder / name, _origin(repository, record.get("commit") if known else None, known)
    return _download(repository, revision or "main", file, folder)


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else {}


def _origin(repository: str, commit: str | None, digest: str | None) -> dict[str, Any]:
    return {"repository": repository, "commit": commit, "hub_sha256": digest}


def _download(repository: str, revision: str, file: str | None, folder: Path) -> tuple[Path, dict[str, Any]]:
    names = file or " or ".join(FILES)
    by_hand = (
        f"download {names} (and {_CONFIG}, if there is one) from {repository} on another machine, put it into {folder}/, and run "
        "the same command again; or import it with --from-torch FILE."
    )
    try:
        import huggingface_hub
    except ImportError as error:
        raise BddError(
            f"--from-hub needs the package huggingface_hub (pip install 'bdd_tf[hub]'). Without it, {by_hand}"
        ) from error
    try:
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
        files = {sibling.rfilename: sibling for sibling in info.siblings or []}
        name = next((n for n in ((file,) if file else FILES) if n in files), None)
        if name is None:
            raise UsageError(
                f"{repository} has no {names}; it has {', '.join(sorted(files)[:12]) or 'no files'}: name one with --file."
            )
        _check_size(repository, files[name])
        for wanted in (name, *([_CONFIG] if _CONFIG in files else [])):
            huggingface_hub.hf_hub_download(repository, wanted, revision=info.sha, local_dir=folder)
    except BddError:
        raise
    except Exception as error:  # of several HTTP libraries; all mean that the file could not be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise BddError(f"{repository} cannot be fetched ({reason}): {by_hand}") from error
    lfs = getattr(files[name], "lfs", None)
    digest = (lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)) if lfs else None
    if digest:
        check_digest(folder / name, digest)
    record = {"repository": repository, "revision": revision, "commit": info.sha, "files": {name: digest}}
    write_atomically(folder / _RECORD, (json.dumps(record, indent=1) + "\n").encode())
    say(f"{repository}: {name} of commit {info.sha}, SHA-256 {digest or 'not stated by the hub'}")
    return folder / name, _origin(repository, info.sha, digest)


def _check_size(repository: str, sibling: Any) -> None:
    size = getattr(sibling, "size", None) or 0
    if size > SIZE_LIMIT:
        raise BddError(
            f"{sibling.rfilename} of {repository} has {size:,} bytes; checkpoints may have {SIZE_LIMIT:,} at most."
        )


def check_digest(path: Path, expected: str) -> None:
    """Compare a file with its checksum.

    Args:
        path: The file.
        expected: SHA-256 in 64 hexadecimal digits.

    Raises:
        UsageError: If there is no such file, or the checksum is none.
        BddError: If the file has another checksum.
    """
    if not path.is_file():
        raise UsageError(f"no such checkpoint: {path}")
    if not _DIGEST.fullmatch(expected.lower()):
        raise UsageError(f"--sha256 takes 64 hexadecimal digits; got {expected[:80]!r}.")
    found = file_digest(path)
    if found != expected.lower():
        raise BddError(
            f"{path} has the SHA-256 {found} instead of {expected.lower()}: it is damaged or another file; download it again."
        )
