"""Encryption at rest: the keys, and what they seal (ADR 0007).

A sealed value is ``C1 01``, four bytes that tell the key, a nonce of 12 bytes, and AES-256-GCM's ciphertext and tag. No
MessagePack and no JSON begins with C1, so that sealed and plain values can lie side by side.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from cadenza.errors import KeyMissing, StoreCorrupt, UsageError

MARK = b"\xc1\x01"
HEAD_BYTES = 6
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
ONE, SEVERAL = "CADENZA_KEY", "CADENZA_KEYS"
MAKE_ONE = "make one with: openssl rand -base64 32"
EXTRA = "Encryption needs the package cryptography: pip install 'cadenza[encryption]'"
CHECK = b"a value that only the right key opens"


class Key:
    """One key. ``name`` is for people; ``head`` begins whatever it has sealed."""

    def __init__(self, name: str, secret: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # an extra
        except ImportError:
            raise UsageError(EXTRA) from None
        self.name = name
        self.head = MARK + hashlib.sha256(b"cadenza key\0" + secret).digest()[: HEAD_BYTES - len(MARK)]
        self._cipher = AESGCM(hmac.digest(secret, b"cadenza values", "sha256"))
        self._digests = hmac.digest(secret, b"cadenza digests", "sha256")

    def seal(self, raw: bytes, where: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return self.head + nonce + self._cipher.encrypt(nonce, raw, where)

    def unseal(self, sealed: bytes, where: bytes) -> bytes | None:
        """What was sealed; None if it was not sealed with this key, for this place."""
        from cryptography.exceptions import InvalidTag

        nonce = sealed[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES]
        try:
            return self._cipher.decrypt(nonce, sealed[HEAD_BYTES + NONCE_BYTES :], where)
        except (InvalidTag, ValueError):
            return None

    def digest(self, payload: bytes) -> bytes:
        """A content hash that says nothing to whoever does not have the key."""
        return hmac.digest(self._digests, payload, "sha256")


class KeyRing:
    """The keys of a store. The first one seals; each of them opens what it has sealed."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.first = keys[0]
        self._keys = {key.head: key for key in keys}
        self.names = [key.name for key in keys]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Self | None:
        """The keys in ``CADENZA_KEY`` (base64), or in ``CADENZA_KEYS`` (``name:base64,…``); None if there are none.

        Raises:
            UsageError: they cannot be read, or the extra is not installed. Keys are never shown.
        """
        one, several = variables.get(ONE, "").strip(), variables.get(SEVERAL, "").strip()
        if one and several:
            raise UsageError(f"both ${ONE} and ${SEVERAL} are set; put all keys into ${SEVERAL}, the newest first")
        if not one and not several:
            return None
        if one:
            return cls([Key("key", _secret(one, f"${ONE}"))])
        keys: list[Key] = []
        for number, part in enumerate(several.split(","), 1):
            name, colon, text = part.strip().partition(":")
            if not colon or not re.fullmatch(r"[\w.-]{1,40}", name):
                raise UsageError(f"key {number} in ${SEVERAL} has no name; write name:base64,name:base64")
            keys.append(Key(name, _secret(text, f"the key {name!r} in ${SEVERAL}")))
        return cls(keys)

    def seal(self, raw: bytes, where: bytes) -> bytes:
        return self.first.seal(raw, where)

    def find(self, sealed: bytes) -> Key | None:
        """The key that has sealed this, if it is on the ring."""
        return self._keys.get(sealed[:HEAD_BYTES])


def unsealed(raw: bytes, where: bytes, keys: KeyRing | None, location: str) -> bytes:
    """What ``raw`` holds, sealed or plain. Raises KeyMissing, StoreCorrupt."""
    if not raw.startswith(MARK) or len(raw) < HEAD_BYTES + NONCE_BYTES + TAG_BYTES:
        return raw
    key = keys.find(raw) if keys is not None else None
    if key is None:
        raise _missing(location, f"the key {raw[2:HEAD_BYTES].hex()}", keys)
    found = key.unseal(raw, where)
    if found is None:
        raise StoreCorrupt(location, f"{where.decode()} cannot be decrypted: it is not what was written")
    return found


def check_keys(connection: Any, location: str, keys: KeyRing | None) -> None:
    """Refuse a store for which a key is missing; remember the key that seals from now on. Raises KeyMissing."""
    known: set[bytes] = set()
    for head, name, sealed in connection.execute("SELECT head, name, sealed FROM sealing").fetchall():
        key = keys.find(head) if keys is not None else None
        if key is None or key.unseal(sealed, b"check") != CHECK:
            raise _missing(location, f"the key {name!r} ({head[2:].hex()})", keys)
        known.add(head)
    if keys is not None and keys.first.head not in known:
        first = keys.first
        statement = "INSERT INTO sealing (head, name, sealed) VALUES (?, ?, ?) ON CONFLICT (head) DO NOTHING"
        connection.execute(statement, (first.head, first.name, first.seal(CHECK, b"check")))


def _missing(location: str, key: str, keys: KeyRing | None) -> KeyMissing:
    given = f", and the keys that are given ({', '.join(keys.names)}) do not open it" if keys is not None else ""
    hint = f"Set ${ONE}, or ${SEVERAL} to all of its keys (name:base64,…)."
    return KeyMissing(location, f"it is encrypted with {key}{given}", hint)


def _secret(text: str, what: str) -> bytes:
    try:
        secret = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"{what} is not base64; {MAKE_ONE}") from None
    if len(secret) != KEY_BYTES:
        raise UsageError(f"{what} has {len(secret)} bytes, not {KEY_BYTES}; {MAKE_ONE}")
    return secret
