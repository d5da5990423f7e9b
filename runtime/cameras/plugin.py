"""Frame sources from outside this package; see `edgeface.plugins` for how one is named and when its code is run."""

from collections.abc import Mapping
from typing import Any

from edgeface.errors import EdgefaceError, PluginError, SourceError
from edgeface.plugin_options import check_options
from edgeface.plugins import Kind, load
from edgeface.runtime.cameras.frames import FrameSource


def load_source(name: str, options: Mapping[str, Any]) -> type[FrameSource]:
    """Load the class of a source that a user named, which runs its code, and check the options for it.

    The class derives from `FrameSource` and has `live`, True or False, as an attribute. Its constructor opens it.

    Raises:
        UnknownNameError, PluginError: as `edgeface.plugins.load` and `edgeface.plugin_options.check_options`; or the
            class does not say whether it is live.
    """
    made: type[FrameSource] = load(Kind.source, name, FrameSource)
    if not isinstance(getattr(made, "live", None), bool):
        raise PluginError(
            f"source {name} does not say whether it is live; write `live = True` in its class if frames come by "
            "themselves, as from a camera, or else `live = False`"
        )
    check_options(f"source {name}", made, 0, options)
    return made


def open_source(made: type[FrameSource], name: str, options: Mapping[str, Any]) -> FrameSource:
    """Open a source, as often as one likes.

    Raises:
        SourceError: it cannot be opened.
    """
    try:
        source = made(**check_options(f"source {name}", made, 0, options))
    except EdgefaceError:
        raise
    except Exception as error:
        raise SourceError(f"source {name} cannot be opened: {type(error).__name__}: {error}") from error
    for attribute, usual in (("name", name), ("fps", None)):
        if not hasattr(source, attribute):
            setattr(source, attribute, usual)
    return source
