"""API keys: who is let in."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from rdtf.app.errors import WrongKeyError
from rdtf.errors import ConfigError

_LEAST_CHARACTERS = 16


class ApiKeys:
    """The keys that are let in; none = everybody is. Only their hashes are kept."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        for key in keys:
            if len(key) < _LEAST_CHARACTERS or not key.isascii() or not key.isprintable():
                raise ConfigError(f"an API key needs {_LEAST_CHARACTERS} or more ASCII characters")
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def from_file(cls, path: Path | str) -> ApiKeys:
        """One key a line; empty lines and lines that start with # do not count."""
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"API key file {path} can't be read: {error}") from error
        keys = tuple(s for line in lines if (s := line.strip()) and not s.startswith("#"))
        if not keys:
            raise ConfigError(f"API key file {path} holds no key; write one per line")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holds(self, key: str) -> bool:
        """Whether `key` is one of them; takes as long whichever it is."""
        given = _digest(key)
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(given, digest)
        return found

    def owner(self, authorization: str | None) -> str:
        """Whose jobs a request may see: a name for each key, "" if there are no keys.

        Args:
            authorization: the header, `Bearer KEY`.

        Raises:
            WrongKeyError: no key, or none of ours.
        """
        if not self:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not self.holds(key.strip()):
            raise WrongKeyError("a valid API key is required: send Authorization: Bearer KEY")
        return f"key-{_digest(key.strip()).hex()[:16]}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
