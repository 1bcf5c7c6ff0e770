"""Work in a child process: for a namespace of its own, or to answer while we ask."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcastctl.model.errors import SocketError
from mcastctl.model.records import Finding


def findings(work: Callable[[], list[Finding]]) -> list[Finding]:
    """Run `work` in a child process and return its findings.

    An McastError of the child is raised here as a SocketError with the same words.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_report(work, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    if not told:
        raise SocketError("the test process ended without an answer", hint="run the test again")
    answered = json.loads(told)
    if "message" in answered:
        raise SocketError(answered["message"], hint=answered["hint"])
    return [Finding(**row) for row in answered["findings"]]


def _report(work: Callable[[], list[Finding]], writer: int) -> int:
    try:
        answer: dict[str, object] = {"findings": [one._asdict() for one in work()]}
    except SocketError as error:
        answer = {"message": error.message, "hint": error.hint}
    with os.fdopen(writer, "wb") as out:
        out.write(json.dumps(answer).encode())
    return 0


@contextmanager
def companion(work: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Run `work` in a child beside the body; enter the body when it calls what it is given.

    The child is ended with the body, whatever happened in either.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        work(lambda: os.close(writer) if os.write(writer, b"+") else None)
        os._exit(0)
    os.close(writer)
    try:
        ready = os.read(reader, 1)
        if not ready:
            raise SocketError("the answering process did not start", hint="run the test again")
        yield
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
