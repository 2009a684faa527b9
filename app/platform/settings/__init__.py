"""The only reader of the environment: typed, frozen settings, checked as a whole before the start.

table.py declares them. A name is looked up whole, never split at `_`.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from app.platform.settings.project import PROJECT_ROOT, VERSION
from app.platform.settings.rules import PRODUCTION, broken_rules, complete
from app.platform.settings.sources import PREFIX, Sources
from app.platform.settings.table import ENVIRONMENTS, Settings

__all__ = [
    "DECLARED",
    "EXIT_CODE",
    "PROJECT_ROOT",
    "VERSION",
    "Settings",
    "SettingsError",
    "load_settings",
]

# EX_CONFIG of sysexits.h: the configuration is wrong, so starting again doesn't help.
EXIT_CODE = 78


class SettingsError(Exception):
    """The settings can't be used: `problems` holds a sentence for each mistake, never a value.

    `production` tells whether programs read about it, as in staging and production, or people.
    """

    def __init__(self, problems: list[str], *, production: bool = False) -> None:
        lines = (f"- {problem}" for problem in problems)
        super().__init__("\n".join(["The settings can't be used:", *lines]))
        self.problems = problems
        self.production = production


_TABLE = {one.name: one for one in fields(Settings) if one.metadata}
_SHAPES = {name: one.metadata["shape"] for name, one in _TABLE.items()}
_SECRETS = frozenset(name for name, one in _TABLE.items() if not one.repr)


@dataclass(frozen=True, slots=True)
class Declared:
    """A setting as README lists it."""

    name: str
    description: str
    absent: str
    secret: bool

    @property
    def default(self) -> str:
        """Give what counts when no variable sets it: config/default.toml's value, or `absent`."""
        value = _defaults().get(self.name)
        if isinstance(value, bool):
            return str(value).lower()
        return self.absent if value is None else "none" if value in ([], {}) else str(value)


DECLARED = tuple(
    Declared(
        PREFIX + name.upper(), one.metadata["description"], one.metadata["absent"], not one.repr
    )
    for name, one in _TABLE.items()
)


def load_settings(
    environ: Mapping[str, str] | None = None, *, root: Path = PROJECT_ROOT
) -> Settings:
    """Read the settings of the environment that APP_ENV names, from files in `root` and `environ`.

    `environ` is the process's environment when it isn't given. Relative paths begin at `root`. In
    development and test, secrets that nobody set are made, and kept in the data folder.

    Raises SettingsError, with all problems at once.
    """
    variables = os.environ if environ is None else environ
    environment = variables.get("APP_ENV", "development")
    sources = Sources(root=root, shapes=_SHAPES, secrets=_SECRETS)
    sources.add_toml("config/default.toml")
    if environment in ENVIRONMENTS:
        sources.add_toml(f"config/{environment}.toml")
    if environment == "development":
        sources.add_dotenv()
    sources.add_variables(variables)
    if not environment.strip():
        sources.spoil("env", f"APP_ENV is empty; it must be one of {', '.join(ENVIRONMENTS)}.")
    given = sources.take()
    if "env" not in sources.spoiled:
        given["env"] = environment
        complete(given, sources)
    sources.problems.extend(broken_rules(given))
    # Only when the default file was cut; after other problems it would be noise.
    sources.problems = sources.problems or _without_value(given)
    if sources.problems:
        raise SettingsError(sources.problems, production=environment in PRODUCTION)
    return Settings(**given)


def _without_value(given: Mapping[str, Any]) -> list[str]:
    """Say which settings have no value."""
    return [
        f"{PREFIX}{name.upper()} has no value; put its default back into config/default.toml."
        for name, one in _TABLE.items()
        if one.default is MISSING and name not in given
    ]


@cache
def _defaults() -> Mapping[str, Any]:
    """Read the values of config/default.toml, by variable."""
    sources = Sources(root=PROJECT_ROOT, shapes=_SHAPES, secrets=_SECRETS)
    sources.add_toml("config/default.toml")
    return {PREFIX + name.upper(): raw.value for name, raw in sources.raw.items()}
