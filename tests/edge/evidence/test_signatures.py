"""Signatures of C2PA manifests: trusted, of an unknown signer, broken, absent."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("c2pa", reason="c2pa-python is not installed: pip install 'bdd_tf[c2pa]'")
pytest.importorskip(
    "cryptography", reason="cryptography, which makes the test's certificates, is not installed"
)

from bdd_tf.edge.evidence import Evidence, find_evidence
from bdd_tf.edge.evidence.signatures import TRUST_VARIABLE
from bdd_tf.errors import UsageError
from tests.edge.evidence.containers import c2pa_store, encoded, jpeg, jumbf_segments
from tests.edge.evidence.signing import GENERATOR, credentials, other_root, signed

FORMS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
}


@pytest.fixture(params=FORMS)
def content(request: pytest.FixtureRequest) -> bytes:
    return signed(encoded(request.param), FORMS[request.param])


@pytest.fixture
def trust(tmp_path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "our-list.pem"
    path.write_bytes(credentials().root)
    monkeypatch.setenv(TRUST_VARIABLE, str(path))
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)

    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _two(found: tuple[Evidence, ...]) -> tuple[Evidence, Evidence]:
    """The manifest, and the source type in its actions."""
    (manifest,) = (item for item in found if item.kind == "c2pa")
    (source,) = (item for item in found if item.kind == "digital_source_type")
    assert GENERATOR in manifest.says
    return manifest, source


def test_a_signer_on_the_trust_list_is_verified(content: bytes, trust):
    manifest, source = _two(find_evidence(content))
    assert manifest.strength == source.strength == "verified"
    assert "test signer" in manifest.says
    assert "our-list.pem" in manifest.says


def test_a_signer_is_not_verified_without_a_trust_list(content: bytes):
    manifest, source = _two(find_evidence(content))
    assert manifest.strength == source.strength == "unverified"
    assert "signature fits the file" in manifest.says
    assert "trust list" in manifest.says


def test_a_signer_that_is_not_on_the_trust_list(content: bytes, trust):
    trust.write_bytes(other_root())
    manifest, source = _two(find_evidence(content))
    assert manifest.strength == source.strength == "unverified"
    assert "not on the trust list our-list.pem" in manifest.says


@pytest.mark.parametrize("form", ["JPEG", "PNG", "AVIF"])
def test_changed_pixels_break_the_signature(form: str, trust, tmp_path):
    changed = bytearray(signed(encoded(form), FORMS[form]))
    changed[-40] ^= 1
    path = tmp_path / "file"
    path.write_bytes(changed)
    for found in (find_evidence(bytes(changed)), find_evidence(path)):
        manifest, source = _two(found)
        assert manifest.strength == source.strength == "broken"
        assert "does not fit" in manifest.says


def test_a_changed_statement_breaks_the_signature(trust):
    changed = signed(encoded("PNG"), "image/png").replace(
        b"trainedAlgorithmicMedia", b"digitalCapture000000000"
    )
    (manifest,) = (item for item in find_evidence(changed) if item.kind == "c2pa")
    assert manifest.strength == "broken"


def test_a_manifest_without_a_signature_is_broken(trust):
    (manifest,) = (i for i in find_evidence(jpeg(*jumbf_segments(c2pa_store()))) if i.kind == "c2pa")
    assert manifest.strength == "broken"
    assert "cannot read" in manifest.says


def test_a_trust_list_that_is_none(tmp_path, monkeypatch: pytest.MonkeyPatch):
    content = signed(encoded("PNG"), "image/png")
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match=r"missing\.pem"):
        find_evidence(content)
    (tmp_path / "text.pem").write_text("not a certificate")
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "text.pem"))
    with pytest.raises(UsageError, match=r"text\.pem"):
        find_evidence(content)


def test_without_the_library_a_manifest_is_unverified(content: bytes, trust, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "c2pa", None)
    manifest, source = _two(find_evidence(content))
    assert manifest.strength == source.strength == "unverified"
    assert "was not checked" in manifest.says
