"""Run the command line as ``python -m mcastctl``."""

from mcastctl.cli.app import script

if __name__ == "__main__":
    script()
