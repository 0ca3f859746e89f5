"""The page at `/`: drop, paste or take pictures, see what the model says of them, why, and what it is.

Of Gradio, on the same server and by the same service as the API. It asks nothing of any other host.
"""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.middleware import Middleware

from fpclass.data.files import image_files
from fpclass.deploy.serve.batching import Busy
from fpclass.deploy.serve.guard import Guarded
from fpclass.deploy.serve.inputs import GivenImage, shown
from fpclass.deploy.serve.maps import STRENGTH, HeatMap
from fpclass.deploy.serve.service import Answered, Service
from fpclass.deploy.serve.sizes import STEP_PX, Sizes
from fpclass.deploy.serve.words import (
    COLUMNS,
    CSS,
    answer_in_words,
    how_good,
    map_in_words,
    other_size,
    row_of,
    warning,
)
from fpclass.explain.methods import METHODS

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
import gradio as gr  # pyright: ignore[reportMissingImports]
from gradio.utils import get_upload_folder  # pyright: ignore[reportMissingImports]

MAX_EXAMPLES = 12
KEEP_SECONDS = 3600
"""After which uploaded pictures are removed."""
ANSWER = "the answer"
"""Of the classes that a map may speak for."""
VISIBLE = "#pictures:has(.source-selection) {height: auto !important}"
"""Gradio would cut its buttons for camera and clipboard off."""
MISSING = {"common.webcam": "Take a picture", "common.complete": "Done", "common.error": "Error"}
"""Words that screen readers are told, and that Gradio's own list does not have."""
READABLE = {
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_dark": "*primary_700",
}
"""Colours with more contrast than Gradio's."""
TOLD = "element.setAttribute('aria-live', 'polite')"
"""Lets screen readers tell what has changed."""


@dataclasses.dataclass
class Shown:
    """The pictures of a visitor with their answers, between two clicks.

    Attributes:
      height: of the input that they were evaluated at, pixels.
      map: the last one, by what it is of: another strength of it is no other map.
    """

    answered: list[Answered]
    height: int
    map: tuple[Any, HeatMap | None] = (None, None)


class Page:
    """What the controls of the page do."""

    def __init__(self, service: Service):
        self._service = service
        self.sizes = Sizes(service.served)
        self._thread = ThreadPoolExecutor(1, "other-size")
        self._tables = tempfile.TemporaryDirectory(prefix="fpclass-")  # Gradio hands out a copy

    async def answer(self, files: Sequence[Any] | None, height: float) -> tuple[Shown, str, Any, list[list[Any]], None]:
        """The pictures, the answer to each, which of them can be looked into, the table, and no file of it yet."""
        paths = [pathlib.Path(item[0] if isinstance(item, tuple | list) else item) for item in files or []]
        height = self.sizes.nearest(height)
        if not paths:
            return Shown([], height), "", gr.update(choices=[], value=None), [], None
        if len(paths) > self._service.settings.max_images:
            raise gr.Error(f"{len(paths)} pictures at once: at most {self._service.settings.max_images}")
        images = [GivenImage(shown(path.name), path.read_bytes()) for path in paths]
        answered = await self._answered(images, height)
        names = [(f"{i + 1}: {one.answer['filename']}", i) for i, one in enumerate(answered) if one.picture]
        told = (answer_in_words(number, one.answer) for number, one in enumerate(answered, 1))
        said = other_size(height, self.sizes.height) + "".join(told)
        table = [row_of(one.answer, height) for one in answered]
        choice = gr.update(choices=names, value=names[0][1] if names else None)
        return Shown(answered, height), said, choice, table, None

    async def draw(
        self, now: Shown | None, chosen: int | None, method: str, stage: str, label: str, strength: float
    ) -> str:
        """The map over a picture, and what it shows."""
        if now is None or chosen is None or chosen >= len(now.answered):
            return ""
        wanted = chosen, method, stage, label
        _, heat = now.map if now.map[0] == wanted else (None, None)
        if heat is None:
            label = "" if label == ANSWER else label
            try:
                heat = await self._service.explain(now.answered[chosen], method, stage, label)
            except TimeoutError:
                return warning(f"{METHODS[method].title} took too long here; try Grad-CAM")
            now.map = wanted, heat
        return map_in_words(heat, strength)

    async def _answered(self, images: list[GivenImage], height: int) -> list[Answered]:
        if not self._service.is_ready:
            raise gr.Error("The model is being loaded; try again in some seconds")
        try:
            if height == self.sizes.height:
                return await self._service.answer(images)
            async with asyncio.timeout(self._service.settings.map_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._at, images, height)
        except Busy as error:
            raise gr.Error(str(error)) from None
        except TimeoutError:
            raise gr.Error("It took too long; try fewer pictures") from None

    def _at(self, images: list[GivenImage], height: int) -> list[Answered]:
        """The answers at another size; maps stay those of the usual one."""
        served, settings = self.sizes.at(height), self._service.settings
        answered = []
        for image in images:
            picture = self._service.look_at(image)
            if isinstance(picture, str):
                answered.append(Answered(None, {"filename": image.name, "error": picture}))
                continue
            resized = served.look_at(image.data, settings.max_pixels)
            (answer,) = served.predict([resized], [0], settings.batch)
            answered.append(Answered(picture, {"filename": image.name, **answer}))
        return answered

    def write_csv(self, now: Shown | None) -> str | None:
        """A file of all answers."""
        if now is None or not now.answered:
            raise gr.Error("There are no pictures yet")
        folder = pathlib.Path(tempfile.mkdtemp(dir=self._tables.name))
        with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            classes = self._service.served.predictor.class_names
            writer.writerows(row_of(one.answer, now.height, classes) for one in now.answered)
        return str(file.name)

    @property
    def columns(self) -> list[str]:
        """Of the file."""
        classes = self._service.served.predictor.class_names
        return [*COLUMNS, *(f"probability of {name}" for name in classes)]


def add_page(app: Any, service: Service) -> Any:
    """The application with the page at `/`."""
    settings = service.settings
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gr.themes.Default(primary_hue="blue", **fonts).set(**READABLE)
    guard = Middleware(Guarded, uploads=pathlib.Path(get_upload_folder()), keep_seconds=KEEP_SECONDS)
    return gr.mount_gradio_app(
        app,
        make_blocks(service),
        "/",
        app_kwargs={"middleware": [guard]},
        footer_links=[],
        show_error=False,
        max_file_size=settings.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        theme=theme,
        css=CSS + VISIBLE,
        i18n=gr.I18n(en=MISSING),
    )


def make_blocks(service: Service) -> gr.Blocks:
    """The parts of the page, and what they do."""
    page, served, explainer = Page(service), service.served, service.explainer
    own = {"api_visibility": "private"}
    with gr.Blocks(title=served.name, analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as blocks:
        now = gr.State(None, time_to_live=KEEP_SECONDS)
        gr.Markdown(f"# {served.name}\nWhich of **{', '.join(served.predictor.class_names)}** a picture shows.")
        with gr.Tab("Pictures"):
            with gr.Row():
                with gr.Column():
                    files = gr.Gallery(
                        label="Drop, paste or take pictures",
                        elem_id="pictures",
                        type="filepath",
                        sources=["upload", "webcam", "clipboard"],
                        file_types=["image"],
                        columns=4,
                        height=320,
                        buttons=[],
                        interactive=True,
                    )
                    if examples := _examples(service):
                        gr.Examples([[[path]] for path in examples], [files], label="Examples", examples_per_page=12)
                    height = _height_slider(page.sizes)
                    ask = gr.Button("Classify", variant="primary")
                    gr.Markdown(how_good(served.metrics))
                with gr.Column():
                    said = gr.HTML(label="Answers", elem_id="answers", js_on_load=TOLD)
            with gr.Accordion("Where the model looked", open=True, visible=bool(explainer.methods)), gr.Row():
                with gr.Column():
                    chosen = gr.Dropdown([], label="Picture")
                    method = gr.Dropdown(
                        [(METHODS[name].title, name) for name in explainer.methods],
                        value=next(iter(explainer.methods), None),
                        label="Method",
                    )
                    stages = [(f"{explainer.default} (default)", ""), *((name, name) for name in explainer.stages)]
                    stage = gr.Dropdown(stages, value="", label="Stage of the network")
                    label = gr.Dropdown([ANSWER, *served.predictor.class_names], value=ANSWER, label="For")
                    strength = gr.Slider(0, 1, STRENGTH, step=0.05, label="Strength of the map over the picture")
                with gr.Column():
                    drawn = gr.HTML(label="Map", elem_id="map", js_on_load=TOLD)
            with gr.Accordion("Table of all pictures", open=False):
                table = gr.Dataframe(headers=list(COLUMNS), interactive=False, wrap=True)
                save = gr.Button("Make a CSV file")
                saved = gr.File(label="CSV", interactive=False)
        with gr.Tab("About the model"):
            gr.Markdown(served.card, sanitize_html=True)
        controls = [now, chosen, method, stage, label, strength]
        # What changes while an answer is made is answered next; by itself Gradio would forget it.
        last = {"trigger_mode": "always_last", **own}
        told = [now, said, chosen, table, saved]
        answered = gr.on([ask.click, files.change, height.change], page.answer, [files, height], told, **last)
        if explainer.methods:
            answered.then(page.draw, controls, [drawn], **last)
            changes = [strength.change, *(control.input for control in (chosen, method, stage, label))]
            gr.on(changes, page.draw, controls, [drawn], **last)
        save.click(page.write_csv, [now], [saved], **own)
    blocks.queue(max_size=service.settings.max_requests, default_concurrency_limit=4)
    return blocks


def _height_slider(sizes: Sizes) -> Any:
    """The control of the size at which pictures are evaluated."""
    height = sizes.height
    if not sizes.are_possible:
        return gr.Slider(height - 1, height, height, step=1, label="Height, pixels", visible=False)
    info = f"The model learnt from {height}. At another size its probabilities are not calibrated."
    low, high = sizes.heights[0], sizes.heights[-1]
    return gr.Slider(low, high, height, step=STEP_PX, label="Height of the input, pixels", info=info)


def _examples(service: Service) -> list[str]:
    folder = service.settings.examples
    return [str(path) for path in image_files(folder)[:MAX_EXAMPLES]] if folder else []
