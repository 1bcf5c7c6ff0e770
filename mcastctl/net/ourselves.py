"""This very program as a child: the same interpreter and modules, none of a directory's own."""

import os
import sys

ARGV = (sys.executable, "-P", "-m")
"""Before a module's name. -P: the directory we happen to be in holds no modules of ours."""


def environment() -> dict[str, str]:
    """Return our environment with the way to our modules, also where they are in one file."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
