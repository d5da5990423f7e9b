"""Plug-ins: losses, backbones, augmentations, frame sources, event sinks and detectors from outside this package.

A plug-in is a class that a user names, as `module:Class`, or by the name of an entry point that an installed package
has in one of the groups `edgeface.losses`, `edgeface.backbones`, `edgeface.augmentations`, `edgeface.sources`,
`edgeface.sinks` and `edgeface.detectors`. Its options are the arguments of its constructor.

To load a plug-in is to run its code. So only what a user names is loaded, as an option, in a file of settings or as an
argument: never what a checkpoint or a bundle names, unless the user allows just that, and never for listing. A name
that edgeface itself has always means edgeface's own. The current folder is not searched.
"""

import importlib
import importlib.util
import logging
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from typing import Any, Final

from edgeface.errors import EdgefaceError, PluginError, UnknownNameError
from edgeface.plugin_options import check_options

logger = logging.getLogger(__name__)

_PART: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE: Final = re.compile(rf"{_PART}(?:\.{_PART})*:{_PART}(?:\.{_PART})*")
_PACKAGE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)?")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+!_-]{0,100}")


class Kind(StrEnum):
    """What a plug-in is."""

    loss = "loss"
    backbone = "backbone"
    augmentation = "augmentation"
    source = "source"
    sink = "sink"
    detector = "detector"

    @property
    def group(self) -> str:
        """Group of the entry points."""
        return f"edgeface.{self}es" if self is Kind.loss else f"edgeface.{self}s"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plug-in, before its code is loaded.

    Attributes:
        kind: what it is.
        reference: `module:Class`.
        name: of its entry point; empty if it has none.
        package: distribution that brings it, as pip calls it; empty if that is not known.
        version: of the package; empty if that is not known.
    """

    kind: Kind
    reference: str
    name: str = ""
    package: str = ""
    version: str = ""

    def __str__(self) -> str:
        """The reference, with the package if that is known."""
        return f"{self.reference} of the package {self.package} {self.version}" if self.package else self.reference

    def to_json(self) -> dict[str, str]:
        """Return what a checkpoint remembers."""
        return {"kind": str(self.kind), "reference": self.reference, "package": self.package, "version": self.version}

    @classmethod
    def from_json(cls, facts: Mapping[str, str]) -> "Plugin":
        """Read what a checkpoint remembers.

        Raises:
            ValueError: it is not of that form.
        """
        plugin = cls(**{**facts, "kind": Kind(facts["kind"])})  # type: ignore[arg-type]
        is_known = _PACKAGE.fullmatch(plugin.package) and _VERSION.fullmatch(plugin.version)
        if not (is_reference(plugin.reference) and is_known) or plugin.name:
            raise ValueError(f"{plugin.reference!r} of {plugin.package!r} is no plug-in")
        return plugin


def is_reference(text: str) -> bool:
    """Tell whether a text has the form `module:Class`."""
    return _REFERENCE.fullmatch(text) is not None


def installed(kind: Kind) -> dict[str, Plugin]:
    """Return the plug-ins of installed packages by name, sorted. None of their code is loaded."""
    found: dict[str, Plugin] = {}
    twice: set[str] = set()
    for entry in metadata.entry_points(group=kind.group):
        if not is_reference(entry.value):
            logger.warning("the %s %s is left out: %r is not of the form module:Class", kind, entry.name, entry.value)
            continue
        package = entry.dist
        plugin = Plugin(kind, entry.value, entry.name, *((package.name, package.version) if package else ()))
        if found.setdefault(entry.name, plugin).reference != plugin.reference:
            twice.add(entry.name)
    for name in twice:
        logger.warning("several packages have a %s %s; name the one you mean as module:Class", kind, name)
    return {name: plugin for name, plugin in sorted(found.items()) if name not in twice}


def find(kind: Kind, name: str) -> Plugin | None:
    """Return the plug-in that a user named, None if it is neither `module:Class` nor installed.

    None of its code is loaded. Whether there is one in that module shows only when it is loaded.
    """
    if not is_reference(name):
        return installed(kind).get(name)
    for plugin in installed(kind).values():
        if plugin.reference == name:
            return plugin
    packages = metadata.packages_distributions().get(name.partition(":")[0].partition(".")[0], ())
    return Plugin(kind, name, "", packages[0], metadata.version(packages[0])) if packages else Plugin(kind, name)


def is_plugin(kind: Kind, name: str) -> bool:
    """Tell whether a name is of the form `module:Class`, or that of an installed plug-in."""
    return is_reference(name) or name in installed(kind)


def unknown(kind: Kind, name: str, known: Collection[str] = ()) -> UnknownNameError:
    """Return the error for a name that is neither `known` nor a plug-in."""
    noun = "model" if kind is Kind.backbone else str(kind)  # as the settings call it
    return UnknownNameError(noun, name, (*known, *installed(kind), "module:Class"))


def load(kind: Kind, name: str, base: type, known: Collection[str] = ()) -> type[Any]:
    """Load the class that a user named. This runs the code of its module.

    Args:
        kind: what it should be.
        name: `module:Class`, or the name of an entry point.
        base: class that it has to derive from; `object` for any.
        known: names of edgeface's own, for the error.

    Raises:
        UnknownNameError: it is neither.
        PluginError: there is no such class, it does not load, or it does not derive from `base`.
    """
    plugin = find(kind, name)
    if plugin is None:
        raise unknown(kind, name, known)
    module_name, _, path = plugin.reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise PluginError(f"{kind} {name}: there is no module {error.name!r}; {_how_to_get(plugin)}") from None
        raise PluginError(
            f"{kind} {plugin} does not load: it needs the module {error.name!r}, which is not installed; install that"
        ) from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{kind} {plugin} does not load: {_said(error)}; mend it, or use another one") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise PluginError(f"{kind} {name}: the module {module_name} has no class {path}; look for the right name there")
    if base not in found.__mro__:
        raise PluginError(
            f"{kind} {name} does not derive from {base.__module__}.{base.__name__}; make that its base class"
        )
    return found


def build(
    kind: Kind,
    name: str,
    base: type,
    given: tuple[Any, ...],
    options: Mapping[str, Any],
    also: Mapping[str, Any] | None = None,
    known: Collection[str] = (),
) -> Any:
    """Load a class that a user named, and make an object of it.

    Args:
        kind: what it should be.
        name: `module:Class`, or the name of an entry point.
        base: as `load`.
        given: what edgeface hands to the constructor, before the options.
        options: what the user set.
        also: arguments that edgeface hands over by name, and a user may not set.
        known: as `load`.

    Raises:
        UnknownNameError: as `load`.
        PluginError: as `load` and `edgeface.plugin_options.check_options`, or the constructor fails.
    """
    made, own = load(kind, name, base, known), also or {}
    checked = check_options(f"{kind} {name}", made, len(given), options, without=own)
    try:
        return made(*given, **checked, **own)
    except EdgefaceError:
        raise
    except Exception as error:
        raise PluginError(f"{kind} {name} cannot be made with these options: {_said(error)}") from error


def assert_allowed(plugin: Plugin, allowed: Collection[str], where: str) -> None:
    """Refuse a plug-in that a file names, unless the user allowed it.

    Args:
        plugin: what the file remembers of it.
        allowed: references, or names of entry points, that the user gave.
        where: the file, in words.

    Raises:
        PluginError: it is not allowed, or not installed.
    """
    resolved = {getattr(find(plugin.kind, name), "reference", "") for name in allowed}
    word = f"--allow-plugin {plugin.reference}"
    if not _is_there(plugin.reference.partition(":")[0].partition(".")[0]):
        raise PluginError(
            f"{where} needs the {plugin.kind} {plugin}, which is not installed; {_how_to_get(plugin)}, if you trust it,"
            f" and allow it with {word}"
        )
    if plugin.reference not in resolved:
        raise PluginError(
            f"{where} names the {plugin.kind} {plugin}, a plug-in, whose code would run here; if you trust it, "
            f"allow it with {word}"
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # some that are loaded say nothing of themselves
        return module in sys.modules


def _how_to_get(plugin: Plugin) -> str:
    if plugin.package:
        return f"install the package {plugin.package}"
    return "install the package that has it, or put its folder into PYTHONPATH"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
