"""What can go wrong with keys."""


class UnknownMasterKey(Exception):
    """Something was made under a master key whose version isn't among the settings."""
