"""What can go wrong with keys."""

from app.platform.errors import NotFound, Unavailable


class UnknownMasterKey(Exception):
    """Something was made under a master key whose version isn't among the settings."""


class KeysUnusable(Unavailable):
    """The stored signing key can't be opened with any of APP_AUTH_MASTER_KEYS."""


class NoSuchSigningKey(NotFound):
    """No signing key has this id."""

    message = "There is no signing key with this id; `flask keys list` shows them all."
