"""The page in a real browser: needs the extra `page`, Playwright and a Chromium of the system."""

from __future__ import annotations

import csv
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from test_serve_process import Process, serving

pytestmark = pytest.mark.promise
CONTROLS = ("button", "combobox", "slider", "spinbutton", "tab", "link")
FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  return [element.tagName, element.getAttribute("aria-label") || element.innerText, style.outlineStyle];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window, with a camera that shows a test picture."""
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    if (path := shutil.which("chromium")) is None:
        pytest.skip("there is no chromium")
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", *fake])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(browser, photo_run, tmp_path_factory) -> Iterator[Process]:
    with serving(photo_run, tmp_path_factory.mktemp("page") / "log", "--page=yes") as server:
        yield server


@pytest.fixture(scope="module")
def pictures(photos) -> list[pathlib.Path]:
    return [sorted(photos.glob(f"{name}/*"))[0] for name in ("cat", "dog")]


@pytest.fixture
def page(browser, server) -> Iterator[Any]:
    """The page, which asks no other host for anything and tells the console of no error."""
    asked: list[str] = []
    errors: list[str] = []
    context = browser.new_context(permissions=["camera", "clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
    page.goto(f"{server.address}/", wait_until="load")
    page.wait_for_selector("text=Classify")
    yield page
    context.close()
    assert not errors
    assert not [url for url in asked if not url.startswith((server.address, "data:", "blob:"))]


def upload(page, pictures):
    page.set_input_files("input[type=file]", pictures)
    page.wait_for_selector(f"#answers section:nth-of-type({len(pictures)})", timeout=60_000)
    page.wait_for_selector("#map img", timeout=60_000)


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def wait_for_map(page, text):
    page.wait_for_function("text => document.querySelector('#map').innerText.includes(text)", arg=text, timeout=60_000)


def test_pictures_are_answered_and_nothing_else_is_opened(page, server, pictures):
    upload(page, pictures)
    answers = page.inner_text("#answers")
    assert all(picture.name in answers for picture in pictures)
    assert "of 100 pictures" in answers or "Not to be relied on" in answers
    click = {"data": [[{"image": {"path": str(pictures[0])}}], 24], "fn_index": 0, "session_hash": "a"}
    assert page.request.post(f"{server.address}/gradio_api/queue/join", data=click).status == 403, "not uploaded"
    assert page.request.get(f"{server.address}/gradio_api/file={pictures[0]}").status == 404
    assert pictures[0].name not in server.log.read_text()


def test_maps_follow_the_last_choice_and_the_table_is_a_file(page, pictures):
    upload(page, pictures)
    for method in ("Grad-CAM++", "Occlusion", "HiResCAM"):  # faster than they are drawn
        choose(page, "Method", method)
    wait_for_map(page, "HiResCAM of stage")
    choose(page, "For", "dog")
    wait_for_map(page, "for dog")
    choose(page, "Picture", f"2: {pictures[1].name}")
    before = page.get_attribute("#map img", "src")
    slider = page.get_by_label("range slider for Strength")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("src => document.querySelector('#map img').src != src", arg=before)
    assert "HiResCAM" in page.get_attribute("#map img", "alt")
    page.get_by_role("button", name="Table of all pictures").click()
    page.get_by_role("button", name="Make a CSV file").click()
    with page.expect_download() as download:
        page.locator("a[download]").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [picture.name for picture in pictures]
    assert all(float(row["probability of cat"]) + float(row["probability of dog"]) == pytest.approx(1) for row in rows)


def test_camera_and_clipboard_are_in_sight_and_answered(page):
    box = page.locator("#pictures").bounding_box()
    for name in ("Capture from camera", "Paste from clipboard"):
        button = page.get_by_role("button", name=name).bounding_box()
        assert button["y"] + button["height"] <= box["y"] + box["height"], "not cut off"
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    page.wait_for_selector("#answers section", timeout=60_000)
    page.reload()
    page.wait_for_selector("text=Classify")
    page.evaluate("""async () => {
      const canvas = Object.assign(document.createElement("canvas"), {width: 60, height: 50});
      canvas.getContext("2d").fillRect(9, 9, 20, 20);
      const png = await new Promise((done) => canvas.toBlob(done, "image/png"));
      await navigator.clipboard.write([new ClipboardItem({"image/png": png})]);
    }""")
    page.get_by_role("button", name="Paste from clipboard").click()
    page.wait_for_selector("#answers section", timeout=60_000)


def test_everything_is_reached_by_keyboard_seen_and_named(page, pictures):
    upload(page, pictures)
    page.get_by_role("button", name="Table of all pictures").click()
    page.get_by_role("button", name="Make a CSV file").wait_for()
    unnamed = rf"- ({'|'.join(CONTROLS)})(?! \")(?: \[[^\]]*\])*:?$"
    told = [line.strip() for line in page.locator("body").aria_snapshot().splitlines()]
    assert not [line for line in told if re.match(unnamed, line)], told
    assert not [line for line in told if "common." in line], "words that Gradio lacks"
    reached: set[str] = set()
    page.get_by_role("tab", name="Pictures").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        tag, name, outline = page.evaluate(FOCUSED)
        if tag == "BODY":  # where a list of choices has closed
            continue
        reached.add(name.strip())
        assert outline != "none", f"where {name} is cannot be seen"
    expected = {"About the model", "Take a picture", "Classify", "Picture", "Method", "Stage of the network", "For"}
    assert expected | {"Make a CSV file"} <= reached
    page.get_by_role("button", name="Classify").focus()
    with page.expect_request(re.compile("/queue/join")):
        page.keyboard.press("Enter")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_fits_on_a_phone(browser, server, pictures, colours):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=colours)
    page = context.new_page()
    page.goto(f"{server.address}/")
    page.wait_for_selector("text=Classify")
    upload(page, pictures)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == (colours == "dark")
    context.close()
