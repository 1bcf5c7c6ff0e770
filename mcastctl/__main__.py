"""Run the command line as ``python -m mcastctl``."""

from mcastctl.cli.app import main

if __name__ == "__main__":
    main()
