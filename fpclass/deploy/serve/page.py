"""The page at `/`: drop, paste or take pictures, see what the model says of them, why, and what it is.

Of Gradio, on the same server and by the same service as the API. It asks nothing of any other host.
"""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import html
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
from fpclass.deploy.serve.maps import STRENGTH
from fpclass.deploy.serve.service import Answered, Service
from fpclass.deploy.serve.sizes import Sizes
from fpclass.explain.methods import METHODS

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
import gradio as gr  # pyright: ignore[reportMissingImports]
from gradio.utils import get_upload_folder  # pyright: ignore[reportMissingImports]

MAX_EXAMPLES = 12
KEEP_SECONDS = 3600
"""After which uploaded pictures are removed."""
AUTOMATIC = "last (default)"
CSS = """
.bar {display: flex; align-items: center; gap: .5em; margin: .15em 0}
.bar > span:first-child {min-width: 8em; overflow-wrap: anywhere}
.bar > div {flex: 1; background: var(--neutral-200)}
.bar > div > div {background: #4477aa; height: 1em}
.unsure {border-left: .4em solid #b4530a; padding-left: .6em; margin: .4em 0}
"""
KIND = "image/*"


@dataclasses.dataclass
class Shown:
    """The pictures of a visitor with their answers, between two clicks."""

    answered: list[Answered]


class Page:
    """What the controls of the page do."""

    def __init__(self, service: Service):
        self._service = service
        self.sizes = Sizes(service.served)
        self._thread = ThreadPoolExecutor(1, "other-size")
        self._tables = tempfile.TemporaryDirectory(prefix="fpclass-")  # Gradio hands out a copy

    async def answer(self, files: Sequence[Any] | None, height: float) -> tuple[Shown, str, Any, list[list[Any]]]:
        """The pictures, the answer to each, which of them can be looked into, and the table."""
        paths = [pathlib.Path(item[0] if isinstance(item, tuple | list) else item) for item in files or []]
        if not paths:
            return Shown([]), "", gr.update(choices=[], value=None), []
        if len(paths) > self._service.settings.max_images:
            raise gr.Error(f"{len(paths)} pictures at once: at most {self._service.settings.max_images}")
        images = [GivenImage(shown(path.name), path.read_bytes()) for path in paths]
        height = self.sizes.nearest(height)
        answered = await self._answered(images, height)
        names = [(f"{i + 1}: {one.answer['filename']}", i) for i, one in enumerate(answered) if one.picture]
        warning = ""
        if height != self.sizes.height:
            warning = (
                f'<div class="unsure" role="alert">Evaluated at a height of {height} pixels. The model learnt, '
                f"was calibrated and was judged at {self.sizes.height}: nothing is known of how good this is.</div>"
            )
        said = warning + "".join(_in_words(number, one.answer) for number, one in enumerate(answered, 1))
        table = [_row(one.answer) for one in answered]
        return Shown(answered), said, gr.update(choices=names, value=names[0][1] if names else None), table

    async def draw(
        self, now: Shown | None, chosen: int | None, method: str, stage: str, label: str, strength: float
    ) -> tuple[Any, str]:
        """The map over a picture, and what it shows."""
        if now is None or chosen is None or chosen >= len(now.answered):
            return None, ""
        one = now.answered[chosen]
        stage = "" if stage == AUTOMATIC else stage
        label = "" if label not in self._service.served.predictor.class_names else label
        try:
            heat = await self._service.explain(one, method, stage, label)
        except TimeoutError:
            raise gr.Error(f"{METHODS[method].title} took too long here; try Grad-CAM") from None
        words = METHODS[method].words
        where = f"stage {heat.stage}" if heat.stage else "the pixels"
        about = f"{METHODS[method].title} of {where}, for {label or one.answer['label']}: {words}."
        return heat.picture(strength, at_least=400), about

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
            writer.writerows(_row(one.answer, self._service.served.predictor.class_names) for one in now.answered)
        return str(file.name)

    @property
    def columns(self) -> list[str]:
        """Of the file."""
        classes = self._service.served.predictor.class_names
        return [*COLUMNS, *(f"probability of {name}" for name in classes)]


COLUMNS = ("file", "class", "probability", "rely on it", "why not")


def add_page(app: Any, service: Service) -> Any:
    """The application with the page at `/`."""
    settings = service.settings
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
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
        css=CSS,
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
                    gr.Markdown(_how_good(service))
                with gr.Column():
                    said = gr.HTML(label="Answers", elem_id="answers")
            with gr.Accordion("Where the model looked", open=True, visible=bool(explainer.methods)), gr.Row():
                with gr.Column():
                    chosen = gr.Dropdown([], label="Picture")
                    method = gr.Dropdown(
                        [(METHODS[name].title, name) for name in explainer.methods],
                        value=next(iter(explainer.methods), None),
                        label="Method",
                    )
                    stage = gr.Dropdown([AUTOMATIC, *explainer.stages], value=AUTOMATIC, label="Stage of the network")
                    label = gr.Dropdown(["the answer", *served.predictor.class_names], value="the answer", label="For")
                    strength = gr.Slider(0, 1, STRENGTH, step=0.05, label="Strength of the map over the picture")
                with gr.Column():
                    drawn = gr.Image(label="Map", interactive=False, format="png", buttons=["fullscreen"])
                    about = gr.Markdown()
            with gr.Accordion("Table of all pictures", open=False):
                table = gr.Dataframe(headers=list(COLUMNS), interactive=False, wrap=True)
                save = gr.Button("Make a CSV file")
                saved = gr.File(label="CSV", interactive=False)
        with gr.Tab("About the model"):
            gr.Markdown(served.card, sanitize_html=True)
        controls = [now, chosen, method, stage, label, strength]
        answered = gr.on(
            [ask.click, files.change, height.release], page.answer, [files, height], [now, said, chosen, table], **own
        )
        if explainer.methods:
            answered.then(page.draw, controls, [drawn, about], **own)
            for control in (chosen, method, stage, label):
                control.input(page.draw, controls, [drawn, about], **own)
            strength.release(page.draw, controls, [drawn, about], **own)
        save.click(page.write_csv, [now], [saved], **own)
    blocks.queue(max_size=service.settings.max_requests, default_concurrency_limit=4)
    return blocks


def _height_slider(sizes: Sizes) -> Any:
    """The control of the size at which pictures are evaluated."""
    height = sizes.height
    if not sizes.are_possible:
        return gr.Slider(height - 1, height, height, step=1, label="Height, pixels", visible=False)
    info = f"The model learnt from {height}. At another size its probabilities are not calibrated."
    lowest, highest = min(sizes.heights[0], height), max(sizes.heights[-1], height)
    step = sizes.heights[0] if height % 32 else 32
    return gr.Slider(lowest, highest, height, step=min(step, 32), label="Height of the input, pixels", info=info)


def _examples(service: Service) -> list[str]:
    folder = service.settings.examples
    return [str(path) for path in image_files(folder)[:MAX_EXAMPLES]] if folder else []


def _how_good(service: Service) -> str:
    """The accuracy with its interval, in words."""
    metrics = service.served.metrics
    accuracy = (metrics.get("scores") or {}).get("accuracy")
    if not accuracy:
        return "How good this model is was not measured: see *About the model*."
    low, high = (round(100 * accuracy[end]) for end in ("low", "high"))
    about = f"{metrics['num_images']} {metrics['images']}" if metrics.get("num_images") else metrics["images"]
    return (
        f"Of 100 pictures like those it was judged on, between **{low} and {high}** are answered right "
        f"(accuracy {accuracy['value']:.3f}, 95 % interval [{accuracy['low']:.3f}, {accuracy['high']:.3f}], {about})."
    )


def _in_words(number: int, answer: dict[str, Any]) -> str:
    """An answer as HTML: the class, bars, and what to make of them."""
    title = f"{number}. {html.escape(str(answer['filename']))}"
    if "error" in answer:
        why = html.escape(answer["error"])
        return f'<section><h3>{title}</h3><div class="unsure">cannot be read: {why}</div></section>'
    bars = []
    for name, share in sorted(answer["probabilities"].items(), key=lambda pair: -pair[1]):
        bar = f'<div aria-hidden="true"><div style="width:{100 * share:.1f}%"></div></div>'
        bars.append(f'<div class="bar"><span>{html.escape(name)}</span>{bar}<span>{100 * share:.1f} %</span></div>')
    label, share = html.escape(answer["label"]), 100 * answer["probability"]
    said = f"<p><b>{label}</b>: of 100 pictures that are answered like this, about {share:.0f} are {label}.</p>"
    if answer["abstain"]:
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in answer["abstain_because"])
        said = f'<div class="unsure" role="alert">Not to be relied on: <b>{label}</b>, but<ul>{reasons}</ul></div>'
    if len(answer.get("set", [])) > 1:
        said += f"<p>It may be any of {html.escape(', '.join(answer['set']))}.</p>"
    others = [note["text"] for note in answer["notes"] if not note["is_unlike"]]
    said += f"<p>{html.escape('; '.join(others))}</p>" if others else ""
    if answer["calibration"] == "none":
        said += "<p>These probabilities are not calibrated.</p>"
    return f"<section><h3>{title}</h3>{said}{''.join(bars)}</section>"


def _row(answer: dict[str, Any], classes: Sequence[str] = ()) -> list[Any]:
    """An answer as a row; a cell that a spreadsheet would compute is none."""
    name = str(answer["filename"])
    name = f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
    if "error" in answer:
        return [name, "", "", "no", answer["error"], *("" for _ in classes)]
    why = "; ".join(answer["abstain_because"])
    row = [name, answer["label"], answer["probability"], "no" if answer["abstain"] else "yes", why]
    return [*row, *(answer["probabilities"][each] for each in classes)]
