"""CIFAKE from Kaggle, where Kaggle can be reached."""

from __future__ import annotations

from pathlib import Path

from bdd_tf.errors import BddError

HANDLE = "birdy654/cifake-real-and-ai-generated-synthetic-images"
PAGE = f"https://www.kaggle.com/datasets/{HANDLE}"
#: Seconds to connect, and to wait for an answer, before Kaggle counts as out of reach.
TIMEOUT = (5, 10)


def _already_there(folder: Path) -> Path | None:
    """The newest complete copy of an earlier download, for which kagglehub itself would ask the network."""
    owner, name = HANDLE.split("/")
    base = folder / "datasets" / owner / name
    versions = [int(p.stem) for p in base.glob("*.complete") if p.stem.isdigit()]
    found = [base / "versions" / str(v) for v in sorted(versions, reverse=True)]
    return next((p for p in found if p.is_dir()), None)


def download_cifake(layout: str) -> Path:
    """Fetch CIFAKE with kagglehub, which needs no key; a copy in kagglehub's cache is used as it is.

    Args:
        layout: The expected tree, for the error's text.

    Returns:
        The folder that holds it.

    Raises:
        BddError: If Kaggle cannot be reached (known within seconds) or the download fails; the text names
            the page to download from by hand.
    """
    try:
        import kagglehub
        import requests
        from kagglehub.config import get_cache_folder

        found = _already_there(Path(get_cache_folder()))
        if found:
            return found
        # kagglehub retries for minutes; ask once whether anyone is there at all.
        requests.head(PAGE, timeout=TIMEOUT, allow_redirects=False)
        return Path(kagglehub.dataset_download(HANDLE))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # whatever kagglehub, requests and urllib3 have thought of
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0][:160]}"
        raise BddError(
            f"CIFAKE could not be fetched from Kaggle ({reason}). Download it in a browser from {PAGE} and "
            f"pass the archive, or the folder it unpacks to, with DATA_DIR= (--data-dir). "
            f"Expected inside:\n{layout}"
        ) from error
