"""Work in a child process: for a namespace of its own, or to answer while we ask."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcastctl.model.errors import McastError, SocketError
from mcastctl.model.records import Finding

_READY = b"+"


def findings(work: Callable[[], list[Finding]]) -> list[Finding]:
    """Run `work` in a child process and return its findings.

    An McastError of the child is raised here as a SocketError with the same words.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _report(work, writer)
        finally:  # nothing of the child may go on in the parent's code
            os._exit(0)
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


def _report(work: Callable[[], list[Finding]], writer: int) -> None:
    try:
        answer: dict[str, object] = {"findings": [one._asdict() for one in work()]}
    except McastError as error:
        answer = {"message": error.message, "hint": error.hint}
    with os.fdopen(writer, "wb") as out:
        out.write(json.dumps(answer).encode())


@contextmanager
def companion(work: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Run `work` in a child beside the body; enter the body when it calls what it is given.

    The child is ended with the body, whatever happened in either. An McastError before the call
    is raised here as a SocketError with the same words.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _beside(work, writer)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        told = os.read(reader, 4096)
        if not told:
            raise SocketError("the answering process did not start", hint="run the test again")
        if told != _READY:
            message, _, hint = told.decode().partition("\n")
            raise SocketError(message, hint=hint)
        yield
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _beside(work: Callable[[Callable[[], None]], None], writer: int) -> None:
    try:
        work(lambda: os.close(writer) if os.write(writer, _READY) else None)
    except McastError as error:
        os.write(writer, f"{error.message}\n{error.hint}".encode())
