"""Download CIFAKE from Kaggle."""

from __future__ import annotations

from pathlib import Path

from bdd_tf.console import option
from bdd_tf.errors import BddError

HANDLE = "birdy654/cifake-real-and-ai-generated-synthetic-images"
PAGE = f"https://www.kaggle.com/datasets/{HANDLE}"
#: Timeouts in seconds for the connection and the response.
TIMEOUT = (5, 10)


def _already_there(folder: Path) -> Path | None:
    """Find the newest complete copy of an earlier download. kagglehub itself needs the network for this."""
    owner, name = HANDLE.split("/")
    base = folder / "datasets" / owner / name
    versions = [int(p.stem) for p in base.glob("*.complete") if p.stem.isdigit()]
    found = [base / "versions" / str(v) for v in sorted(versions, reverse=True)]
    return next((p for p in found if p.is_dir()), None)


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed."""
    kinds = {
        kind.__name__ for kind in type(error).__mro__
    }  # by name, because requests may be what is missing
    if "Timeout" in kinds:
        return "no answer in time"
    if "ConnectionError" in kinds:
        return "it cannot be reached from here"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def download_cifake(layout: str) -> Path:
    """Download CIFAKE with kagglehub, without a key; an existing copy in kagglehub's cache is used.

    Args:
        layout: The expected tree, for the error message.

    Returns:
        The folder of the data set.

    Raises:
        BddError: If Kaggle cannot be reached (detected within seconds) or the download fails; the message names the page
            for a manual download.
    """
    try:
        import kagglehub
        import requests
        from kagglehub.config import get_cache_folder

        found = _already_there(Path(get_cache_folder()))
        if found:
            return found
        # kagglehub retries for minutes; one request shows first whether Kaggle can be reached.
        requests.head(PAGE, timeout=TIMEOUT, allow_redirects=False)
        return Path(kagglehub.dataset_download(HANDLE))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # kagglehub, requests and urllib3 raise many types
        data_dir = option("--data-dir", "DATA_DIR=")
        raise BddError(
            f"data set cifake could not be fetched from Kaggle ({_reason(error)}). Download it in a browser from {PAGE} and "
            f"pass the archive, or the unpacked folder, with {data_dir}; your own images are given with {data_dir} as well. "
            f"Expected inside:\n{layout}"
        ) from error
