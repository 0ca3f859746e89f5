"""The page in a real browser: needs the extra `page`, Playwright and a Chromium of the system."""

from __future__ import annotations

import shutil

import pytest
from test_serve_process import serving

pytestmark = pytest.mark.promise


def test_pictures_are_answered_in_a_browser_without_any_other_host(photo_run, photos, tmp_path):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("there is no chromium")
    pictures = [sorted(photos.glob(f"{name}/*"))[0] for name in ("cat", "dog")]
    asked: list[str] = []
    with serving(photo_run, tmp_path / "log", "--page=yes") as server, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.address}/", wait_until="load")
        page.wait_for_selector("text=Classify")
        page.set_input_files("input[type=file]", pictures)
        page.wait_for_selector("#answers section:nth-of-type(2)", timeout=60_000)
        answers = page.inner_text("#answers")
        assert all(picture.name in answers for picture in pictures)
        assert "of 100 pictures" in answers or "Not to be relied on" in answers
        page.wait_for_selector('img[src*="gradio_api/file="]', timeout=60_000)
        click = {"data": [[{"image": {"path": str(pictures[0])}}], 24], "fn_index": 0, "session_hash": "a"}
        assert page.request.post(f"{server.address}/gradio_api/queue/join", data=click).status == 403, "not uploaded"
        assert page.request.get(f"{server.address}/gradio_api/file={pictures[0]}").status == 404
        browser.close()
        assert pictures[0].name not in server.log.read_text()
    foreign = [url for url in asked if not url.startswith((server.address, "data:", "blob:"))]
    assert not foreign
