"""A terminal that is slower than the network, or stuck, costs lines and never datagrams."""

from __future__ import annotations

import os
import pty
import re
import signal
import threading

from conftest import Pair
from flood import all_read
from test_send import GROUP4

NUMBER = 6000


def test_a_stuck_terminal_loses_lines_and_no_datagrams(pair: Pair) -> None:
    a, b = pair
    ours, theirs = pty.openpty()
    arguments = ["listen", GROUP4, "-i", "b0", "-T", "60s"]
    listener = b.start_mcastctl(*arguments, stdout=theirs)
    listener.wait_stderr("joined")
    a.mcastctl("send", GROUP4, "some words to show", "--pps", "20k", "-c", str(NUMBER), "-q")
    all_read(b)
    listener.signal(signal.SIGINT)
    listener.finish()  # nobody reads what it shows
    os.close(theirs)
    assert f"heard {NUMBER} datagrams" in listener.stderr
    os.close(ours)


def test_what_is_left_out_is_told_in_its_place(pair: Pair) -> None:
    a, b = pair
    ours, theirs = pty.openpty()
    arguments = ["listen", GROUP4, "-i", "b0", "-T", "60s"]
    listener = b.start_mcastctl(*arguments, stdout=theirs)
    os.close(theirs)
    listener.wait_stderr("joined")
    a.mcastctl("send", GROUP4, "some words to show", "--pps", "20k", "-c", str(NUMBER), "-q")
    shown = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                shown.extend(data)
        except OSError:
            return  # EIO: the listener closed its end

    reader = threading.Thread(target=read)
    reader.start()
    a.mcastctl("send", GROUP4, "the last one")
    all_read(b)
    listener.signal(signal.SIGINT)
    listener.finish()
    reader.join(30)
    os.close(ours)
    lines = shown.decode().splitlines()
    told = [int(found[1]) for line in lines if (found := re.match(r"\[(\d+) lines left out", line))]
    whole = [line for line in lines if " In 10." in line and line.endswith(("show", "one"))]
    assert told
    assert len(whole) + sum(told) == NUMBER + 1
    assert lines[-1].endswith("the last one")
