"""A bundle proves itself: a manifest of every byte, an in-toto statement over it, signed in a DSSE envelope (Ed25519).

``MANIFEST.sha256`` is what ``sha256sum -c`` reads. ``attestation.dsse.json`` holds the Statement (in-toto v1): every
file's digest as subject; verdict and provenance as predicate. Whoever has the public key can check all of it without
the private workspace. Only files of the allow-list may lie in a bundle, so that nothing can be added either.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from ops.core import files
from ops.core.errors import CallError, UnderstudyError, explain

MANIFEST, ATTESTATION = "MANIFEST.sha256", "attestation.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE, PREDICATE_TYPE = "https://in-toto.io/Statement/v1", "urn:understudy:release:v1"
#: name → first bytes that the file must have; nothing else may lie in a bundle.
ALLOWED: dict[str, bytes] = {
    r"README\.md": b"", r"datasheet\.md": b"", r"model_card\.md": b"", r"croissant\.json": b"{", r"verdict\.json": b"{",
    r"report\.html": b"<!doctype html", r"data/train-\d{5}-of-\d{5}\.parquet": b"PAR1",
    r"MANIFEST\.sha256": b"", r"attestation\.dsse\.json": b"{",
}  # fmt: skip
REQUIRED = ("README.md", "croissant.json", "verdict.json", "report.html", MANIFEST, ATTESTATION)


@dataclass(frozen=True)
class Checked:
    """What a check of a bundle found; ``problems`` is empty where every byte is as it was signed."""

    problems: list[str]
    statement: Mapping[str, Any]
    files: int

    @property
    def predicate(self) -> Mapping[str, Any]:
        value = self.statement.get("predicate")
        return value if isinstance(value, Mapping) else {}


def digests(bundle: Path, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Name relative to the bundle → SHA-256 hex of every regular file, sorted."""
    found = sorted(path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink())
    names = {path.relative_to(bundle).as_posix(): path for path in found}
    return {name: files.sha256_file(path) for name, path in names.items() if name not in leave_out}


def close(bundle: Path, predicate: Mapping[str, Any], signer: CryptoSigner) -> None:
    """Write manifest and signed attestation into a folder that is otherwise complete.

    Raises UnderstudyError where a file lies in it that is not on the allow-list.
    """
    lines = [f"{digest}  {name}\n" for name, digest in digests(bundle, (MANIFEST, ATTESTATION)).items()]
    (bundle / MANIFEST).write_text("".join(lines))
    wrong = strangers(bundle)
    if wrong:
        raise UnderstudyError(explain(expected="allow-listed files in the bundle", found=wrong[0], todo="report this"))
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in digests(bundle).items()],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }
    envelope = Envelope(files.canonical_json(statement).encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    (bundle / ATTESTATION).write_text(files.canonical_json(envelope.to_dict()))


def strangers(bundle: Path) -> list[str]:
    """What lies in a bundle and may not: links, special files, names or types that are not on the allow-list."""
    wrong = []
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            wrong.append(f"{name} is a link or a special file")
        elif path.is_dir():
            if name != "data":
                wrong.append(f"{name}/ may not be here")
        elif (start := next((magic for rule, magic in ALLOWED.items() if re.fullmatch(rule, name)), None)) is None:
            wrong.append(f"{name} may not be here")
        elif path.open("rb").read(len(start)).lower() != start.lower():
            wrong.append(f"{name} is not of its type")
    return wrong


def check(bundle: Path, key: SSlibKey) -> Checked:
    """Compare every byte with what was signed. Raises CallError where ``bundle`` is no folder; never stops half-way."""
    if not bundle.is_dir():
        raise CallError(explain(expected="the folder of a bundle", found=str(bundle), todo="unpack it first"))
    problems = strangers(bundle)
    problems += [f"{name} is missing" for name in REQUIRED if not (bundle / name).is_file()]
    statement = _statement(bundle / ATTESTATION, key, problems)
    signed = _subjects(statement)
    present = digests(bundle, (ATTESTATION,))
    for name in sorted(signed.keys() | present.keys()):
        if name not in present:
            problems.append(f"{name} was signed and is missing")
        elif name not in signed:
            problems.append(f"{name} was not signed")
        elif signed[name] != present[name]:
            problems.append(f"{name} was changed")
    return Checked(list(dict.fromkeys(problems)), statement, len(present) + 1)


def _statement(path: Path, key: SSlibKey, problems: list[str]) -> dict[str, Any]:
    """The signed statement; an empty one, and a problem, where the signature does not hold."""
    try:
        text = path.read_text()
        envelope = Envelope.from_dict(json.loads(text))
        envelope.verify([key], 1)
        statement = json.loads(envelope.payload)
        again = Envelope(envelope.payload, envelope.payload_type, envelope.signatures)
        exact = files.canonical_json(again.to_dict()) == text  # no byte of the envelope is free to change either
    except OSError:
        return {}  # its absence is a problem already
    except VerificationError:
        problems.append(f"{ATTESTATION}: no valid signature by this key")
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problems.append(f"{ATTESTATION} cannot be read: {type(error).__name__}")
        return {}
    kind = (envelope.payload_type, statement.get("_type"), statement.get("predicateType"))
    if kind != (PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE) or not exact:
        problems.append(f"{ATTESTATION} is not a release statement of this form")
        return {}
    return dict(statement)


def _subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    return {subject["name"]: subject["digest"]["sha256"] for subject in statement.get("subject", [])}


def signer(home: Path) -> CryptoSigner:
    """The workspace's signing key, made on first use: ``release.pem`` (0600) and ``release.pub.pem`` in ``home``."""
    private, public = home / "release.pem", home / "release.pub.pem"
    if not private.is_file():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Ed25519PrivateKey.generate()
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        _write_secret(private, made.private_bytes(*form))
    loaded = serialization.load_pem_private_key(private.read_bytes(), None)
    assert isinstance(loaded, Ed25519PrivateKey), type(loaded)
    half = loaded.public_key()
    if not public.is_file():
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        files.write_bytes(public, half.public_bytes(serialization.Encoding.PEM, spki))
    return CryptoSigner(loaded, SSlibKey.from_crypto(half))


def _write_secret(path: Path, data: bytes) -> None:
    """Readable by the owner alone from its first moment; of two writers at once one wins and both read the same key."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        os.fsync(handle.fileno())
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def public_key(path: Path) -> SSlibKey:
    """A public key from PEM. Raises CallError where the file is missing or no such key."""
    try:
        loaded = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise CallError(explain(expected="a public key (PEM)", found=f"{path}: {error}", todo="name --key")) from error
    if not isinstance(loaded, Ed25519PublicKey):
        raise CallError(explain(expected="an Ed25519 public key", found=type(loaded).__name__, todo="name another"))
    return SSlibKey.from_crypto(loaded)


def fingerprint(key: SSlibKey) -> str:
    """What two people can read to one another on the phone: the first 16 hex digits of the key's id."""
    return base64.b16encode(bytes.fromhex(key.keyid)).decode().lower()[:16]
