"""What can go wrong with keys."""

from app.platform.errors import Unavailable


class UnknownMasterKey(Exception):
    """Something was made under a master key whose version isn't among the settings."""


class KeysUnusable(Unavailable):
    """The stored signing key can't be opened with any of APP_AUTH_MASTER_KEYS."""
