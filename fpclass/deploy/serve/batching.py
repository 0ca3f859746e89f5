"""Images of several requests go through the network together.

Nobody waits for a batch to fill up: a batch is what has arrived while the one before it was computed. It waits only,
and no longer than a bound, for images that are here already and still being decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Busy(Exception):
    """There is no room for more; `seconds` is when to come back."""

    def __init__(self, seconds: int):
        super().__init__(f"as much as this server takes at once is waiting; try again in {seconds} s")
        self.seconds = seconds


@dataclasses.dataclass
class _Waiting(Generic[Item, Answer]):
    items: Sequence[Item]
    future: asyncio.Future[list[Answer]]


class Batcher(Generic[Item, Answer]):
    """Puts the items of callers together, and hands them to a function in a thread of its own.

    Args:
      function: of the items of a batch and, for each, the number of its caller; gives an answer for each.
      batch: items at once, at most, unless one caller has more: those of a caller stay together.
      wait_seconds: the bound.
      max_waiting: items that are here, at most.
      observe: is told the size of each batch.
    """

    def __init__(
        self,
        function: Callable[[list[Item], list[int]], list[Answer]],
        *,
        batch: int,
        wait_seconds: float,
        max_waiting: int,
        observe: Callable[[int], None] = lambda _: None,
    ):
        self._function, self._batch, self._wait_seconds = function, batch, wait_seconds
        self._max_waiting, self._observe = max_waiting, observe
        self._queue: deque[_Waiting[Item, Answer]] = deque()
        self._thread = ThreadPoolExecutor(1, "predict")
        self._arrived = asyncio.Event()
        self._num_here = 0
        self._coming: set[object] = set()  # callers whose items are being made ready
        self._rate = 100.0  # items a second, until measured
        self._task: asyncio.Task[None] | None = None

    @property
    def num_here(self) -> int:
        """Items that were let in and have no answer yet."""
        return self._num_here

    @contextlib.contextmanager
    def room_for(self, num_items: int) -> Iterator[Callable[[Sequence[Item]], Awaitable[list[Answer]]]]:
        """Lets a caller in, who makes items ready and calls what this gives with them, for the answers in order.

        What goes wrong in the function comes out there.

        Raises:
          Busy: there is no room; a caller who has more than there is room for comes in when nobody else is here.
        """
        if self._num_here and self._num_here + num_items > self._max_waiting:
            raise Busy(max(1, round(self._num_here / self._rate)))
        caller = object()
        self._num_here += num_items
        self._coming.add(caller)

        async def answers(items: Sequence[Item]) -> list[Answer]:
            waiting: _Waiting[Item, Answer] = _Waiting(items, asyncio.get_running_loop().create_future())
            self._queue.append(waiting)
            self._coming.discard(caller)
            self._arrived.set()
            return await waiting.future

        try:
            yield answers
        finally:
            self._num_here -= num_items
            self._coming.discard(caller)
            self._arrived.set()

    def start(self) -> None:
        """Begins to answer."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Ends when what is here is answered."""
        while self._queue or self._num_here:
            await asyncio.sleep(0.01)
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if self._queue:
                await self._wait_for_more()
            callers = self._next()
            if not callers:
                continue
            items = [item for caller in callers for item in caller.items]
            whose = [number for number, caller in enumerate(callers) for _ in caller.items]
            started = loop.time()
            try:
                answers = await loop.run_in_executor(self._thread, self._function, items, whose)
            except Exception as error:
                for caller in callers:
                    if not caller.future.done():
                        caller.future.set_exception(error)
                continue
            self._rate = 0.9 * self._rate + 0.1 * len(items) / max(loop.time() - started, 1e-4)
            self._observe(len(items))
            for caller in callers:
                its, answers = answers[: len(caller.items)], answers[len(caller.items) :]
                if not caller.future.done():  # who had no patience is gone
                    caller.future.set_result(its)

    @property
    def _num_queued(self) -> int:
        return sum(len(waiting.items) for waiting in self._queue)

    async def _wait_for_more(self) -> None:
        """Waits until nobody is coming, the batch is full, or the bound is reached."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while self._coming and self._num_queued < self._batch:
                    self._arrived.clear()
                    await self._arrived.wait()

    def _next(self) -> list[_Waiting[Item, Answer]]:
        """The callers of the next batch, without those who have gone."""
        callers: list[_Waiting[Item, Answer]] = []
        num_items = 0
        while self._queue and (not callers or num_items + len(self._queue[0].items) <= self._batch):
            waiting = self._queue.popleft()
            if not waiting.future.done():
                callers.append(waiting)
                num_items += len(waiting.items)
        if not self._queue:
            self._arrived.clear()
        return callers
