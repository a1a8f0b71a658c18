"""Waiting for what somebody else brings: looked for again and again, with pauses that grow, and never for ever."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from millrace.errors import Conflict, DeadlineExceeded, MillraceError, NotFound

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two looks. A network file system tells nobody of new files, so that there is nothing but looking."""

TELL_SECONDS = 0.25
"""A reader says what it needs this often at most."""

PATIENCE_SECONDS = 600.0
"""For how long a reader waits for one pack, unless it is told otherwise."""


class FillFailed(Conflict):
    """The copy that a reader waits for will not be completed; the message says why."""

    code = "fill-failed"
    title = "The copy is not coming"


@dataclass(frozen=True)
class Standing:
    """How a copy stands: on its way, there and whole, or given up; and why."""

    kind: Literal["coming", "there", "failed"]
    reason: str = ""


class Filling(Protocol):
    """Whoever fills a copy, as its readers see it. Used from one thread at a time, and after forks."""

    def want(self, names: Sequence[str], waited: float) -> Standing:
        """Say which packs and chunks are needed next, in their order, and the seconds waited since the last call.

        Raises:
            MillraceError: nobody answers.
        """

    def close(self) -> None:
        """Let go of what is held."""


class Waiter:
    """Waits for files of a copy, telling whoever fills it what is needed. Adds up how long."""

    def __init__(self, filling: Filling, patience: float) -> None:
        self._filling, self._patience = filling, patience
        self._told = float("-inf")
        self._standing = Standing("coming")
        self._waited = 0.0

    @property
    def may_tell(self) -> bool:
        """Return whether the last call is long enough ago."""
        return time.monotonic() - self._told >= TELL_SECONDS

    @property
    def untold(self) -> bool:
        """Return whether there are seconds of waiting that nobody was told of."""
        return self._waited > 0

    def tell(self, names: Sequence[str]) -> Standing:
        """Say what is needed; a filler that does not answer is asked again later."""
        self._told = time.monotonic()
        try:
            self._standing = self._filling.want(names, self._waited)
        except MillraceError as error:
            if not error.transient:
                raise
        else:
            self._waited = 0.0
        return self._standing

    def close(self) -> None:
        """Say for how long was waited since the last call, and let go of whoever fills."""
        if self._waited:
            with contextlib.suppress(MillraceError):
                self.tell(())
        self._filling.close()

    def wait(self, look: Callable[[], T | None], names: Callable[[], Sequence[str]], what: str) -> T:
        """Return what `look` finds, as soon as it finds something.

        Raises:
            FillFailed: it will not come.
            NotFound: the copy is whole, and does not have it.
            DeadlineExceeded: it did not come in time.
        """
        begun = last = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            standing = self.tell(names()) if self.may_tell else self._standing
            found = look()
            now = time.monotonic()
            self._waited, last = self._waited + now - last, now
            if found is not None:
                return found
            self._judge(standing, what, now - begun)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def _judge(self, standing: Standing, what: str, waited: float) -> None:
        """Raise unless waiting goes on."""
        if standing.kind == "failed":
            raise FillFailed(f"{what} will not come: {standing.reason}")
        if standing.kind == "there":
            raise NotFound(f"the copy is complete, and {what} is not in it: {standing.reason or 'it may be damaged'}")
        if waited >= self._patience:
            said = f" ({standing.reason})" if standing.reason else ""
            raise DeadlineExceeded(f"{what} did not come within {self._patience:g} s{said}")
