"""What the user types: one file per subcommand, and the frame around them."""

import signal
import sys

if sys.argv and sys.argv[0].rpartition("/")[2] in ("mcastctl", "-m"):
    # Ctrl-C while Python still imports: end as any program does, not with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
