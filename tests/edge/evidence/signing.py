"""Images with C2PA manifests, signed with certificates made for the tests. Needs c2pa-python and cryptography."""

from __future__ import annotations

import datetime
import io
import json
from functools import cache
from typing import NamedTuple

GENERATOR = "bdd_tf test generator"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


class Credentials(NamedTuple):
    """PEM files: the signer's chain, its private key, and the root that signed it."""

    chain: bytes
    key: bytes
    root: bytes


def _certificate(name, public_key, issuer, issuer_key, *, is_root):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text):
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, text),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "bdd_tf tests"),
            ]
        )

    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=is_root,
                crl_sign=is_root,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not is_root:
        use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(use, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@cache
def credentials() -> Credentials:
    """A root certificate, and a signer's that it signed."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("test root", root_key.public_key(), "test root", root_key, is_root=True)
    leaf = _certificate("test signer", key.public_key(), "test root", root_key, is_root=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Credentials(leaf.public_bytes(pem) + root.public_bytes(pem), private, root.public_bytes(pem))


def other_root() -> bytes:
    """A root certificate that signed nothing."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("other root", key.public_key(), "other root", key, is_root=True)
    return root.public_bytes(serialization.Encoding.PEM)


def signed(content: bytes, mime: str) -> bytes:
    """The file with a manifest which says that a trained model made it."""
    import c2pa

    made = credentials()
    manifest = {
        "claim_generator_info": [{"name": GENERATOR, "version": "1.0"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}]},
            }
        ],
    }
    info = c2pa.C2paSignerInfo(b"es256", made.chain, made.key, None)
    out = io.BytesIO()
    settings = c2pa.Settings.from_dict({"verify": {"verify_after_sign": False}})
    with (
        c2pa.Context(settings) as context,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(json.dumps(manifest), context) as builder,
    ):
        builder.sign(signer, mime, io.BytesIO(content), out)
    return out.getvalue()
