"""Options of a plug-in: the arguments of its constructor, with their types, and what a user set of them."""

import inspect
import json
import tomllib
import typing
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote

from edgeface.errors import ConfigError, PluginError


def constructor_options(made: type, given: int) -> dict[str, inspect.Parameter]:
    """Return the arguments of a constructor that a user may set, also those that it hands on to its base by `**`.

    Args:
        made: the class.
        given: so many arguments come from edgeface.
    """
    found: dict[str, inspect.Parameter] = {}
    for kind in made.__mro__:
        if "__init__" not in vars(kind) or kind is object:
            continue
        _, *parameters = inspect.signature(vars(kind)["__init__"]).parameters.values()
        by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        ours = {p.name for p in by_place[:given]}
        hints = _hints(vars(kind)["__init__"])
        for parameter in parameters:
            is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if is_named and parameter.name not in ours:
                found.setdefault(parameter.name, parameter.replace(annotation=hints.get(parameter.name, Any)))
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def check_options(
    name: str, made: type, given: int, options: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, Any]:
    """Check what a user set against the constructor of a class, and return it in the types that this asks for.

    Args:
        name: what to call the class in an error.
        made: the class.
        given: so many arguments come from edgeface.
        options: what the user set: plain values, as TOML has them.
        without: arguments that are not for a user to set.

    Raises:
        PluginError: an option that the class does not have, a value of another type, or one that is missing.
    """
    takes = {key: option for key, option in constructor_options(made, given).items() if key not in without}
    faults, checked = [], {}
    for key, value in options.items():
        if key not in takes:
            faults.append(f"it has no option {key!r}, its options are: {', '.join(takes) or 'none'}")
            continue
        try:
            checked[key] = _typed(value, takes[key].annotation)
        except ValueError as error:
            faults.append(f"{key} = {value!r} {error}")
    missing = [key for key, option in takes.items() if option.default is option.empty and key not in options]
    faults += [f"its option {key} is missing" for key in missing]
    if faults:
        raise PluginError(f"{name}: {'; '.join(faults)}")
    return checked


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME?key=value&key=value`; a value is TOML, or else taken as text, and may have `%26` and the like.

    Raises:
        ConfigError: a part is not of that form, or a key comes twice.
    """
    name, mark, rest = text.partition("?")
    options: dict[str, Any] = {}
    for part in rest.split("&") if mark else ():
        key, equals, value = part.partition("=")
        if not (key and equals) or key in options:
            raise ConfigError(f"options of a plug-in are NAME?key=value&key=value, each key once; got {part!r}")
        options[key] = toml_value(unquote(value))
    return name, options


def toml_value(text: str) -> Any:
    """Return a text as a value of TOML, or as it is: a word or a path without quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # names that only a type checker imports
        return {}


def _typed(value: Any, hint: Any) -> Any:
    """Return a plain value as a constructor wants it: a list becomes a tuple, a text a path, an int a float.

    Raises:
        ValueError: it is of another type; begins with a verb.
    """
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        raise ValueError(f"cannot be set, it is of the type {getattr(hint, '__name__', hint)}") from None
    try:
        # As JSON, because that is strict in what matters: no number for a truth, no text for a number.
        return adapter.validate_json(json.dumps(value, allow_nan=False), strict=True)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]["msg"]
            raise ValueError(f"does not fit: {first[:1].lower()}{first[1:]}") from None
        raise ValueError("is no value for an option; give a number, a text or an array") from None
