"""The command `serve`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
from typing import Any

from fpclass.common.console import program
from fpclass.common.flags import Command, at_least, path, refuse
from fpclass.errors import ConfigError

TOKEN = "FPCLASS_TRAIN_TOKEN"
"""Variable of the environment with the token of POST /train: a flag could be read by everybody on the machine."""
MIN_TOKEN = 16
"""Letters of it."""
NEEDED = {
    "fastapi": "fastapi",
    "httptools": "httptools",
    "prometheus-client": "prometheus_client",
    "python-multipart": "multipart",
    "uvicorn": "uvicorn",
}
"""What the extra `serve` installs, with the module of each."""
EPILOG = f"""
It needs what the extra `serve` names: pip install {" ".join(NEEDED)}.
docs/deploy.md has proxies, containers and clouds.

  fpclass serve runs/photos                                              on this machine alone: http://127.0.0.1:8000
  fpclass serve runs/study --host=0.0.0.0 --port=80                      for everybody who can reach it
  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/predict
  curl -F file=@cat.jpg -F file=@dog.jpg http://127.0.0.1:8000/predict
  {TOKEN}=… fpclass serve runs/photos --allow-train=configs/mine.py      with POST /train
"""


def serve(args: argparse.Namespace, overrides: list[str]) -> int:
    """Serves a run or a study on the network: POST /predict answers images, with limits, metrics and documentation."""
    refuse(overrides, "serve")
    missing = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"serve needs {', '.join(missing)}, not installed: pip install {' '.join(missing)}")
    folder = args.bundle or args.folder
    if not folder:
        raise ConfigError(f"serve: say what: {program()} serve RUN, or --bundle=DIR")
    from fpclass.deploy.serve.run import serve
    from fpclass.deploy.serve.served import open_served

    served = open_served(pathlib.Path(folder))
    return serve(served, _settings(args), args.host, args.port, with_page=_has_page(args.page))


def _has_page(wanted: str) -> bool:
    """Whether there is a page: where it is not said, if Gradio is installed."""
    is_installed = importlib.util.find_spec("gradio") is not None
    if wanted == "yes" and not is_installed:
        raise ConfigError("--page=yes needs Gradio, which is not installed: pip install gradio")
    return wanted == "yes" or (wanted == "auto" and is_installed)


def _settings(args: argparse.Namespace) -> Any:
    """The settings that flags and environment ask for."""
    from fpclass.deploy.serve.settings import Settings

    allowed = {pathlib.Path(file).stem: pathlib.Path(file) for file in args.allow_train}
    token = os.environ.pop(TOKEN, "")
    if absent := [str(file) for file in allowed.values() if not file.is_file()]:
        raise ConfigError(f"--allow-train={absent[0]}: no such file")
    if allowed and len(token) < MIN_TOKEN:
        raise ConfigError(f"--allow-train needs a token of at least {MIN_TOKEN} letters in the environment: {TOKEN}=…")
    return Settings(
        max_body_mb=args.max_mb,
        max_pixels=int(args.max_megapixels * 1e6),
        max_images=args.max_images,
        max_connections=args.max_connections,
        seconds=args.seconds,
        batch=args.batch,
        batch_wait_ms=args.batch_wait_ms,
        origins=tuple(args.allow_origin),
        train_configs=allowed,
        train_token=token,
        jobs=pathlib.Path(args.jobs),
        examples=pathlib.Path(args.examples) if args.examples else None,
    )


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", nargs="?", default="", type=path, metavar="RUN", help="folder of a run, a study or a bundle")
    add("--bundle", default="", type=path, metavar="DIR", help="the same")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on; 0.0.0.0: all; default %(default)s")
    add("--port", default=8000, type=at_least(0, at_most=65535), metavar="N", help="0: any free; default %(default)s")
    add("--max-mb", default=32.0, type=at_least(0.001), metavar="MB", help="of a request; default %(default)g")
    megapixels = "of an image, looked at before it is decoded; default %(default)g"
    add("--max-megapixels", default=40.0, type=at_least(0.001, at_most=150.0), metavar="N", help=megapixels)
    add("--max-images", default=64, type=at_least(1), metavar="N", help="in a request; default %(default)s")
    add("--max-connections", default=1000, type=at_least(1), metavar="N", help="open at once; default %(default)s")
    add("--seconds", default=30.0, type=at_least(0.1), metavar="S", help="that a request may take; default %(default)g")
    add("--batch", default=16, type=at_least(1), metavar="N", help="images predicted at once; default %(default)s")
    wait = "for images that are still being decoded; default %(default)g"
    add("--batch-wait-ms", default=20.0, type=at_least(0.0), metavar="MS", help=wait)
    origin = "of pages that may call from a browser (CORS), once for each; default none"
    add("--allow-origin", action="append", default=[], metavar="URL", help=origin)
    train = f"a config that POST /train may start, once for each; needs {TOKEN} in the environment"
    add("--allow-train", action="append", default=[], type=path, metavar="FILE", help=train)
    add("--jobs", default="runs/jobs", type=path, metavar="DIR", help="of these trainings; default %(default)s")
    page = "the page at /, by Gradio; auto: where it is installed"
    add("--page", default="auto", choices=("auto", "yes", "no"), help=page)
    add("--examples", default="", type=path, metavar="DIR", help="images that the page offers to try")


COMMANDS = (Command("serve", serve, _add_flags, EPILOG),)
