"""From images to answers: decoded in threads, predicted in batches, explained one at a time. API and page share it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fpclass.common.threads import UNSTOPPABLE
from fpclass.deploy.serve.batching import Batcher
from fpclass.deploy.serve.inputs import GivenImage
from fpclass.deploy.serve.maps import Explainer, HeatMap
from fpclass.deploy.serve.observe import Metrics, log
from fpclass.deploy.serve.served import NewPicture, Served
from fpclass.deploy.serve.settings import Settings
from fpclass.errors import DecodeError
from fpclass.train.trained import BATCH_GROWTH

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Answered:
    """An image with its answer.

    Attributes:
      picture: None where it could not be decoded.
      answer: JSON: as `Served.predict` gives it, or `error`; and `filename`.
    """

    picture: NewPicture | None
    answer: dict[str, Any]


class Service:
    """A model that is loaded, and everything that waits for it."""

    def __init__(self, served: Served, settings: Settings):
        self.served, self.settings, self.metrics = served, settings, Metrics()
        self.is_ready = False
        self.explainer = Explainer(served)
        self._decoders = ThreadPoolExecutor(settings.decoders, "decode")
        self._explaining = ThreadPoolExecutor(1, "explain")
        self._batcher: Batcher[NewPicture, dict[str, Any]] | None = None

    async def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Loads and compiles in the background; what goes wrong there is handed to `on_failure`."""
        self._batcher = Batcher(
            self._predict,
            batch=self.settings.batch,
            wait_seconds=self.settings.batch_wait_ms / 1e3,
            max_waiting=self.settings.max_waiting,
            observe=self.metrics.batches.observe,
        )
        self._batcher.start()
        self.metrics.waiting.set_function(lambda: self._batcher.num_here if self._batcher else 0)

        loop = asyncio.get_running_loop()

        def load() -> None:
            try:
                self.warm_up()
            except Exception as error:
                loop.call_soon_threadsafe(on_failure, error)
                return
            self.is_ready = True
            self.metrics.ready.set(1)
            log("ready", model=self.served.name, version=self.served.version)

        threading.Thread(target=load, name=UNSTOPPABLE, daemon=True).start()

    async def stop(self) -> None:
        """Answers what is here, and ends."""
        if self._batcher:
            await self._batcher.stop()
        for pool in (self._decoders, self._explaining):
            pool.shutdown(wait=False, cancel_futures=True)

    def warm_up(self) -> None:
        """Restores the weights and compiles a program for every size of a batch, and the default map."""
        size, blank = 1, self.served.blank()
        while True:
            size = min(size, self.settings.batch)
            self.served.predict([blank] * size, [0] * size, self.settings.batch)
            if size == self.settings.batch:
                break
            size *= BATCH_GROWTH
        if self.explainer.methods:
            self.explainer.explain(blank, 0)

    async def answer(self, images: Sequence[GivenImage]) -> list[Answered]:
        """The answers for the images of a request, in order.

        Raises:
          Busy: too many images wait.
          TimeoutError: it took longer than `Settings.seconds`.
        """
        assert self._batcher is not None, "start comes first"
        async with asyncio.timeout(self.settings.seconds):
            with self._batcher.room_for(len(images)) as answers:
                looked = await asyncio.gather(*(self._in(self._decoders, self.look_at, image) for image in images))
                pictures = [picture for picture in looked if isinstance(picture, NewPicture)]
                predicted = iter(await answers(pictures) if pictures else ())
        answered = []
        for image, picture in zip(images, looked, strict=True):
            is_fine = isinstance(picture, NewPicture)
            answer = next(predicted) if is_fine else {"error": picture}
            answered.append(Answered(picture if is_fine else None, {"filename": image.name, **answer}))
            outcome = "abstained" if answer.get("abstain") else "decided" if is_fine else "unread"
            self.metrics.images.labels(outcome).inc()
        return answered

    async def explain(self, answered: Answered, method: str, stage: str, label: str = "") -> HeatMap:
        """Where the model looked in an image for a class, by default the one it chose.

        Raises:
          TimeoutError: it took longer than `Settings.map_seconds`.
        """
        index = self.served.predictor.class_names.index(label or answered.answer["label"])
        async with asyncio.timeout(self.settings.map_seconds):
            return await self._in(self._explaining, self.explainer.explain, answered.picture, index, method, stage)

    def look_at(self, image: GivenImage) -> NewPicture | str:
        """An image, decoded, or why it cannot be."""
        try:
            return self.served.look_at(image.data, self.settings.max_pixels)
        except DecodeError as error:
            return str(error)

    def _predict(self, pictures: list[NewPicture], people: list[int]) -> list[dict[str, Any]]:
        return self.served.predict(pictures, people, self.settings.batch)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
