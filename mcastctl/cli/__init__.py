"""What the user types: one file per subcommand, and the frame around them."""

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
else:  # the C module has plain integers; Python's spends half a millisecond on enumerations
    import _signal as signal

if sys.argv and sys.argv[0].rpartition("/")[2] in ("mcastctl", "-m"):
    # Ctrl-C while Python still imports: end as any program does, not with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What imports make stays: looking through it for garbage is a twentieth of a short command.
    gc.disable()  # until a command runs (`options.Command.invoke`)
