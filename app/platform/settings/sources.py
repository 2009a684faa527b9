"""Where the raw values of settings come from, and how they are read.

The later source wins: config/default.toml, config/<environment>.toml, `.env` (in development
only), variables.

An empty value, or one of spaces only, counts as not set, wherever it stands: Compose and CI systems
hand over empty variables for what nobody filled in, and an empty secret must never count as one.
Two exceptions are problems: an empty APP_ENV, because a server would silently become a development
machine, and an empty secret file, because somebody meant it to hold a secret.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dotenv.parser import parse_stream
from environs import Env, EnvValidationError

from app.platform.settings.values import Shape

PREFIX = "APP_"
FILE_SUFFIX = "_FILE"
SECRET_FILE_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as somebody wrote it; `origin` begins the sentence that says what is wrong."""

    value: Any = field(repr=False)
    origin: str


class _Reader(Env):
    """An environs reader of collected values, which never looks at the process's environment."""

    def __init__(self, raw: Mapping[str, Raw]) -> None:
        super().__init__(eager=False)
        self.raw = raw
        self.add_parser("shaped", lambda value, *, shape: shape(value))

    def _get_value(self, env_key: str, _default: Any) -> Any:
        """Look a value up: the step of environs that its own FileAwareEnv replaces, too."""
        return self.raw[env_key].value


@dataclass(slots=True, kw_only=True)
class Sources:
    """Collects raw values by field, layer over layer, and every problem on the way.

    `spoiled` are the fields whose value is no good, so that nobody asks for them a second time.
    """

    root: Path
    shapes: Mapping[str, Shape]
    secrets: frozenset[str]
    raw: dict[str, Raw] = field(default_factory=dict, repr=False)
    problems: list[str] = field(default_factory=list)
    spoiled: set[str] = field(default_factory=set)

    def add(self, name: str, value: Any, origin: str) -> None:
        """Lay a value over an earlier one, unless it is empty."""
        if isinstance(value, str) and not value.strip():
            return
        if not all(text.isprintable() for text in _texts(value)):
            self.spoil(name, f"{origin} contains a line break or another invisible character.")
        elif isinstance(value, str) and value != value.strip():
            self.spoil(name, f"{origin} begins or ends with a space.")
        else:
            self.raw[name] = Raw(value, origin)

    def spoil(self, name: str, problem: str) -> None:
        """Remember what is wrong with the value of a field."""
        self.spoiled.add(name)
        self.problems.append(problem)

    def take(self) -> dict[str, Any]:
        """Turn the values that were added since the last time into typed ones.

        Those that don't fit their shape are left out, and are problems.
        """
        raw, self.raw = self.raw, {}
        reader = _Reader(raw)
        given = {name: reader.shaped(name, shape=self.shapes[name]) for name in raw}
        try:
            reader.seal()
        except EnvValidationError as error:
            # environs gives a list instead only when it stops at the first error.
            for name, messages in cast("dict[str, list[str]]", error.error_messages).items():
                self.spoil(name, f"{raw[name].origin} {'; '.join(messages)}.")
        return {name: value for name, value in given.items() if name not in self.spoiled}

    def add_toml(self, relative: str) -> None:
        """Lay the values of a TOML file over those that are there."""
        try:
            with (self.root / relative).open("rb") as file:
                document = tomllib.load(file)
        except OSError as error:
            self.problems.append(f"{relative} can't be read: {error.strerror}.")
            return
        except ValueError as error:
            reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
            self.problems.append(f"{relative} isn't valid TOML: {reason}.")
            return
        for section, content in document.items():
            for key, value in (content if isinstance(content, dict) else {"": content}).items():
                self._add_key(relative, section, key, value)

    def _add_key(self, relative: str, section: str, key: str, value: Any) -> None:
        """Add a key of a TOML file, or say why it can't stand there."""
        name = f"{section}_{key}"
        where = f"[{section}] {key} in {relative}" if key else f"{section} in {relative}"
        # A section is the first word of the name, so each setting has one place.
        if name not in self.shapes or "_" in section:
            self.problems.append(f"{where} is not a setting; README lists all of them.")
        elif name in self.secrets:
            variable = PREFIX + name.upper()
            self.spoil(
                name,
                f"{where} is a secret, and files of the project hold none: remove it there, replace"
                f" it if others saw it, and set {variable} or {variable}{FILE_SUFFIX}.",
            )
        else:
            self.add(name, value, where)

    def add_dotenv(self) -> None:
        """Lay the variables of `.env` over the values that are there; a missing file is fine."""
        try:
            with (self.root / ".env").open(encoding="utf-8-sig") as file:
                # python-dotenv's own reader logs a broken line and goes on without it.
                # Nothing is interpolated: a `$` in a password means itself.
                bindings = list(parse_stream(file))
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            self.problems.append(f".env can't be read: {reason}.")
            return
        for text, first in (binding.original for binding in bindings if binding.error):
            # python-dotenv counts the empty lines before a broken one as part of it.
            line = first + text[: len(text) - len(text.lstrip())].count("\n")
            self.problems.append(f".env, line {line}, isn't of the form NAME=value.")
        found = {one.key: one.value or "" for one in bindings if one.key and not one.error}
        if found.pop("APP_ENV", None) is not None:
            self.problems.append(
                "APP_ENV can't stand in .env, which only development reads; set it as a variable."
            )
        self.add_variables(found, place=" in .env")

    def add_variables(self, variables: Mapping[str, str], *, place: str = "") -> None:
        """Lay `APP_…` variables, and the secret files that some name, over what is there.

        Other names are left alone: in `.env` they are Compose's, which reads the same file.
        """
        for variable in sorted(variables):
            if variable.startswith(PREFIX):
                self._check_name(variable, place)
        for name in self.shapes:
            variable = PREFIX + name.upper()
            text = variables.get(variable, "")
            path = variables.get(variable + FILE_SUFFIX, "") if name in self.secrets else ""
            if text.strip() and path.strip():
                self.spoil(
                    name, f"{variable} and {variable}{FILE_SUFFIX} are both set{place}; remove one."
                )
            elif path.strip():
                self._add_file(name, path, f"The file that {variable}{FILE_SUFFIX}{place} names")
            else:
                self.add(name, text, variable + place)

    def _check_name(self, variable: str, place: str) -> None:
        """Say what is wrong with the name of a variable, if anything is."""
        bare = variable.removesuffix(FILE_SUFFIX)
        declared = {PREFIX + name.upper() for name in self.shapes}
        secrets = {PREFIX + name.upper() for name in self.secrets}
        if variable in declared or (bare in secrets and variable != bare):
            return
        if bare in declared:
            self.problems.append(f"{variable}{place}: only secrets come as files; set {bare}.")
        else:
            # Only a start that fails pays for this import.
            from difflib import get_close_matches

            close = get_close_matches(variable, sorted(declared), n=1, cutoff=0.8)
            advice = f"did you mean {close[0]}?" if close else "README lists all of them."
            self.problems.append(f"{variable}{place} is not a setting; {advice}")

    def _add_file(self, name: str, path: str, origin: str) -> None:
        """Add a secret from its file, without the line break at the end of it.

        The path never shows: it may be the secret itself, put into the wrong variable.
        """
        try:
            with (self.root / path).open("rb") as file:
                content = file.read(SECRET_FILE_LIMIT + 1)
            text = content.decode().rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it isn't a text"
            self.spoil(name, f"{origin} can't be read: {reason}.")
            return
        if not text.strip() or len(content) > SECRET_FILE_LIMIT:
            self.spoil(name, f"{origin} is {'too long' if text.strip() else 'empty'}.")
        else:
            self.add(name, text, origin)


def _texts(value: Any) -> Iterator[str]:
    """Give a value's texts, those in lists and tables too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(item)
