"""Settings of any kind of training run: recipes, TOML files and `key=value` overrides into dataclasses of sections."""

import difflib
import math
import tomllib
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.plugin_options import toml_value

TASKS: Final = ("embed", "detect", "quality")
"""What a network can be trained for; a recipe that is not for `embed` says so with the key `task`."""

Sections = TypeVar("Sections")
"""A dataclass of dataclasses, one for each table of the TOML file."""


def read_settings(
    kind: type[Sections], task: str, path: Path | None = None, overrides: Iterable[str] = (), recipe: str = ""
) -> Sections:
    """Read settings: a recipe of this package, then a TOML file, then `key=value` overrides.

    Args:
        kind: dataclass of sections to build.
        task: of `TASKS`; the recipe has to be for it.
        path: TOML file, or None.
        overrides: such as `optimizer.lr=1e-3`; the value is TOML, or else taken as text.
        recipe: a name from `recipe_names`, or empty.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value of the wrong type or out of range.
        UnknownNameError: there is no such recipe for this task.
    """
    values: dict[str, dict[str, Any]] = {}
    source = "the overrides"
    if recipe:
        if recipe not in recipe_names(task):
            for other in TASKS:
                if recipe in recipe_names(other):
                    raise ConfigError(
                        f"the recipe {recipe} is for --task {other}, not for --task {task}; name that task"
                    )
            raise UnknownNameError("recipe", recipe, recipe_names(task))
        source = f"recipe {recipe}"
        tables = _recipe(recipe)
        tables.pop("task", None)
        _merge(kind, values, tables, source)
    if path:
        source = str(path)
        try:
            _merge(kind, values, tomllib.loads(path.read_text(encoding="utf-8-sig")), source)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {path}: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        section, dot, name = key.strip().partition(".")
        if not equals:
            raise ConfigError(f"the override {override!r} has no value; write it as key=value, as run.seed=1")
        if not dot:
            raise _unknown(kind, section, "the overrides")
        _merge(kind, values, {section: {name: toml_value(text.strip())}}, "the overrides")
    return from_tables(kind, values, source)


def from_tables(kind: type[Sections], values: Mapping[str, Any], source: str) -> Sections:
    """Build settings from nested tables; what is not named keeps its default.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range.
    """
    sections = {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for section, table in values.items():
        part = sections.get(section)
        if part is None or not isinstance(part, type) or not is_dataclass(part):
            inner = next(iter(table), "") if isinstance(table, Mapping) else ""
            raise _unknown(kind, f"{section}.{inner}" if inner else section, source)
        if not isinstance(table, Mapping):
            raise ConfigError(f"{section} in {source} is {table!r}; it should be a table of keys")
        hints = typing.get_type_hints(part)
        table = _with_plugin_options(part, table)
        for key in table:
            if key not in hints:
                raise _unknown(kind, f"{section}.{key}", source)
        built[section] = part(**{key: _typed(f"{section}.{key}", value, hints[key]) for key, value in table.items()})
    return kind(**built)


def _with_plugin_options(part: type, table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keys of a section, with those that are for the constructor of its plug-in under `options`."""
    own: frozenset[str] | None = getattr(part, "BESIDE_PLUGIN", None)
    if own is None or not part.names_plugin(table.get("name")):  # type: ignore[attr-defined]
        return table
    options = {key: value for key, value in table.items() if key not in own}
    kept = {key: value for key, value in table.items() if key in own}
    return kept | {"options": {**kept.get("options", {}), **options}}


def differences(
    defaults: Mapping[str, Mapping[str, Any]],
    old: Mapping[str, Mapping[str, Any]],
    new: Mapping[str, Mapping[str, Any]],
    without: Collection[str],
) -> list[tuple[str, Any, Any]]:
    """Return what differs in two settings as (key, old value, new value).

    Args:
        defaults: what `old` does not know yet had these.
        old: nested tables of plain values.
        new: likewise.
        without: keys that may differ, such as `data.path`.
    """
    before, after = _flat(defaults) | _flat(old), _flat(new)
    return [(k, before.get(k), v) for k, v in after.items() if k not in without and v != before.get(k)]


def recipe_names(task: str = "embed") -> tuple[str, ...]:
    """Return the names of the recipes for a task that come with the package."""
    names = sorted(f.name.removesuffix(".toml") for f in _recipes().iterdir() if f.name.endswith(".toml"))
    return tuple(name for name in names if _recipe(name).get("task", "embed") == task)


def _recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((_recipes() / f"{name}.toml").read_text(encoding="utf-8"))


def _recipes() -> Traversable:
    return resources.files("edgeface.training") / "recipes"


def _merge(kind: type, values: dict[str, dict[str, Any]], more: Mapping[str, Any], source: str) -> None:
    for section, table in more.items():
        if not isinstance(table, Mapping):
            raise _unknown(kind, section, source)
        values.setdefault(section, {}).update(table)


def _flat(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, table in config.items() for key, value in table.items()}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return `value` if it is of the type that `hint` says; an integer will do for a float, an array for a tuple."""
    if typing.get_origin(hint) is UnionType:  # X | None, where None is "not set"
        return None if value is None else _typed(key, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{key} = {value!r} is not a choice; use one of: {', '.join(choices)}")
        return value
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise ConfigError(f"{key} = {value!r} should be an array of {len(kinds)} numbers")
        return tuple(_typed(key, item, kind) for item, kind in zip(value, kinds, strict=True))
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} = {value!r} should be a table of keys")
        return dict(value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:  # bool is not an int here
        raise ConfigError(f"{key} = {value!r} is of type {type(value).__name__}; it should be {hint.__name__}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{key} = {value} is not finite; give a number")
    return value


def _unknown(kind: type, key: str, source: str) -> ConfigError:
    known = [f"{section.name}.{f.name}" for section in fields(kind) for f in fields(section.type)]  # type: ignore[arg-type]
    last = key.rpartition(".")[2]
    same = [k for k in known if k.endswith(f".{last}")]
    near = list(dict.fromkeys([*same, *difflib.get_close_matches(key, known, n=3, cutoff=0.5)]))[:3]
    hint = f"nearest: {', '.join(near)}" if near else f"the sections are {', '.join(f.name for f in fields(kind))}"
    return ConfigError(f"unknown config key {key!r} in {source}; {hint}")
