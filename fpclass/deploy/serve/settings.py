"""What the owner of a server decides: where it listens, and what it takes."""

from __future__ import annotations

import dataclasses
import pathlib

from fpclass.common.threads import num_cores


@dataclasses.dataclass(frozen=True)
class Settings:
    """Limits and switches of a server.

    Attributes:
      max_body_mb: of a request, in MB of 10^6 bytes; larger ones are refused, with or without a Content-Length.
      max_pixels: of an image; a larger one is refused before any pixel of it is decoded.
      max_images: in a request.
      max_connections: that are open at once; any more are told to come back.
      max_requests: that are read or answered at once; any more are told to come back.
      max_waiting: images that wait to be predicted; any more are told to come back.
      seconds: for a request to arrive, for it to be answered, and for the answer to be read.
      map_seconds: for a map, whose first one of a method waits for the compiler.
      batch: images that go through the network at once, at most.
      batch_wait_ms: how long a batch waits for images that have arrived and are still being decoded.
      decoders: threads that decode.
      origins: of pages that may call from a browser (CORS); none by default.
      train_configs: config files that POST /train may start, by name.
      train_token: what a caller has to show for that; "": there is no training.
      jobs: folder of the trainings.
      examples: folder of images that the page offers to try.
    """

    max_body_mb: float = 32.0
    max_pixels: int = 40_000_000
    max_images: int = 64
    max_connections: int = 1000
    max_requests: int = 128
    max_waiting: int = 256
    seconds: float = 30.0
    map_seconds: float = 120.0
    batch: int = 16
    batch_wait_ms: float = 4.0
    decoders: int = dataclasses.field(default_factory=num_cores)
    origins: tuple[str, ...] = ()
    train_configs: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    train_token: str = dataclasses.field(default="", repr=False)
    jobs: pathlib.Path = pathlib.Path("runs/jobs")
    examples: pathlib.Path | None = None

    @property
    def max_bytes(self) -> int:
        """Of a request."""
        return int(self.max_body_mb * 1e6)
