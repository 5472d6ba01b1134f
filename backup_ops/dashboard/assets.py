"""The browser's part: modules, styles and fonts, all served from installed packages, never from another host."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from bokeh.embed.bundle import extension_dirs

FOLDER = Path(__file__).parent / "assets"
_FONTS_NAME = "backup-ops-fonts"
# panel-material-ui ships Roboto in two weights; the design's 500 and 600 are drawn with the nearest.
_FONTS = {"100 500": "roboto-latin-400-normal-*.woff2", "600 900": "roboto-latin-700-normal-*.woff2"}


@cache
def mount() -> str:
    """Makes the files reachable below `static/extensions/` of every Panel server of this process; returns that URL.

    It is relative to the page. The name carries a hash of the contents, so that a browser never mixes two versions.
    """
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    name = f"backup-ops-{digest.hexdigest()[:12]}"
    extension_dirs[name] = FOLDER
    return f"static/extensions/{name}"


def modules() -> list[str]:
    """The names of all browser modules, for the page to load side by side instead of one after the other."""
    return [path.name for path in _files() if path.suffix == ".js"]


@cache
def font_css() -> str:
    """@font-face rules for Roboto as panel-material-ui ships it; empty when that package is not installed."""
    spec = find_spec("panel_material_ui")
    if spec is None or not spec.submodule_search_locations:
        return ""
    folder = Path(spec.submodule_search_locations[0]) / "dist"
    extension_dirs[_FONTS_NAME] = folder
    return "".join(
        f"@font-face{{font-family:Roboto;font-weight:{weights};font-display:swap;"
        f"src:url(static/extensions/{_FONTS_NAME}/{path.name}) format('woff2')}}"
        for weights, pattern in _FONTS.items()
        for path in sorted(folder.glob(pattern))[:1]
    )


def _files() -> list[Path]:
    return sorted(path for path in FOLDER.iterdir() if path.suffix in (".js", ".css"))
