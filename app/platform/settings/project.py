"""What this copy of the project is: its folder and its version."""

from configparser import ConfigParser
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[3]

# The version stands once, in setup.cfg.
_setup = ConfigParser(interpolation=None)
_setup.read(PROJECT_ROOT / "setup.cfg", encoding="utf-8")
VERSION = _setup["metadata"]["version"]
