"""Check the signature of a C2PA manifest with c2pa-python, without any request to the network."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from bdd_tf.edge.evidence.item import BROKEN, UNVERIFIED, VERIFIED
from bdd_tf.errors import UsageError

TRUST_VARIABLE = "BDD_C2PA_TRUST"
"""Environment variable with the path of the trust list, a PEM file of root certificates."""

_MIME_TYPES = {
    "JPEG XL": "image/jxl",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
}
# Codes of the C2PA specification that concern the certificate, not the file.
_CREDENTIAL, _UNTRUSTED = "signingCredential.", "signingCredential.untrusted"


def trust_list() -> Path | None:
    """Return the trust list in the environment variable `TRUST_VARIABLE`; None if it is not set.

    Raises:
        UsageError: If it names no file.
    """
    given = os.environ.get(TRUST_VARIABLE)
    if not given:
        return None
    if not Path(given).is_file():
        raise UsageError(f"{TRUST_VARIABLE} names a file that does not exist: {given}")
    return Path(given)


def check_signature(file: BinaryIO, where: str) -> tuple[str, str] | None:
    """Check the signature of a file's active manifest.

    Args:
        file: The whole file.
        where: Place of the manifest, as the walker names it; its first word is the container.

    Returns:
        A clause about the signature, and a strength; None if c2pa-python is not installed.

    Raises:
        UsageError: If the trust list does not exist, or is none.
    """
    try:
        c2pa = importlib.import_module("c2pa")
    except ImportError:
        return None
    mime = next(mime for name, mime in _MIME_TYPES.items() if where.startswith(name))
    anchors = trust_list()
    settings = _settings(c2pa, anchors)
    try:
        with c2pa.Context(settings) as context, c2pa.Reader(mime, file, context=context) as reader:
            report = json.loads(reader.json())
    except (c2pa.C2paError, ValueError) as error:
        return f"the C2PA library cannot read it: {' '.join(str(error).split())[:160]}", BROKEN
    return _verdict(report, anchors)


def _settings(c2pa: Any, anchors: Path | None) -> Any:
    values: dict[str, Any] = {
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}
    }
    try:
        if anchors is not None:
            values["trust"] = {"trust_anchors": anchors.read_text()}
        return c2pa.Settings.from_dict(values)
    except (c2pa.C2paError, OSError, ValueError) as error:
        raise UsageError(
            f"{TRUST_VARIABLE} must name a PEM file of certificates; {anchors} is none: {error}"
        ) from None


def _verdict(report: dict[str, Any], anchors: Path | None) -> tuple[str, str]:
    manifest = report.get("manifests", {}).get(report.get("active_manifest"), {})
    signature = manifest.get("signature_info", {})
    names = [signature[key] for key in ("common_name", "issuer") if signature.get(key)]
    signer = f'signed by "{", ".join(names)}"' if names else "signed"
    failures = report.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    codes = sorted({failure["code"] for failure in failures})
    broken = [code for code in codes if not code.startswith(_CREDENTIAL)]
    if broken or (not codes and report.get("validation_state") == "Invalid"):
        reason = ", ".join(broken) or "invalid"
        return (
            f"{signer}, but the signature does not fit the file, which was changed since ({reason})",
            BROKEN,
        )
    invalid = [code for code in codes if code != _UNTRUSTED]
    if invalid:
        return (
            f"{signer}; the signature fits the file, but its certificate is not valid ({', '.join(invalid)})",
            UNVERIFIED,
        )
    if anchors is None:
        return (
            f"{signer}; the signature fits the file; the signer was not checked, for want of a trust list",
            UNVERIFIED,
        )
    if codes or report.get("validation_state") != "Trusted":
        return (
            f"{signer}; the signature fits the file; the signer is not on the trust list {anchors.name}",
            UNVERIFIED,
        )
    return f"{signer}, who is on the trust list {anchors.name}; the signature fits the file", VERIFIED
