"""Whether to colour: --color, then NO_COLOR, then FORCE_COLOR, then the terminal."""

from collections.abc import Mapping


def wanted(option: str, environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Decide once for everything that is coloured (no-color.org, bixense.com/clicolors)."""
    if option != "auto":
        return option == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return terminal and environ.get("TERM") != "dumb"
