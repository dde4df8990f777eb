"""The results page in a real browser, without Airflow: what only a browser can tell."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, Page, expect
from wideloop.results.dashboard.app import create_app
from wideloop.results.store import Store

from tests.unit.results import factory

pytestmark = pytest.mark.browser

#: The frame Airflow shows plugin pages in (3.3, ui/src/pages/Iframe.tsx).
FRAME = """<html class="{theme}"><body><iframe src="/wideep/" sandbox="allow-scripts allow-same-origin allow-forms
allow-downloads" style="width: 1200px; height: 860px"></iframe>"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('results')}/results.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def site(store: Store) -> Iterator[str]:
    host = FastAPI()
    host.mount("/wideep", create_app(lambda: store, []))
    host.add_api_route("/frame/{theme}", lambda theme: HTMLResponse(FRAME.format(theme=theme)))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(host, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("response", lambda r: complaints.append(r.url) if r.status >= 400 and "favicon" not in r.url else None)
    yield opened
    opened.close()
    assert complaints == []


def test_a_running_cycle_updates_itself_without_a_reload(store: Store, site: str, page: Page) -> None:
    owner = factory.seed(store, "running", cycle_id="live")
    page.goto(f"{site}/wideep/cycles/live")
    expect(page.get_by_role("heading", name="Trial 7 of 10 is running")).to_be_visible()
    page.locator("#chart .main-svg").first.wait_for()
    page.evaluate("window.stillTheSamePage = true")
    page.get_by_role("button", name="tok/s/GPU").click()
    page.get_by_role("button", name="tok/s/GPU").click()
    store.put(factory.trial(owner, 6), *factory.trial_measurements(owner, 6), factory.trial(owner, 7, state="running"))
    expect(page.get_by_role("heading", name="Trial 8 of 10 is running")).to_be_visible(timeout=15_000)
    assert page.evaluate("window.stillTheSamePage") is True
    # The reader's sorting, by descending throughput, outlives the update; what was not measured stays last.
    numbers = page.locator("#trials-table tbody tr").evaluate_all("rows => rows.map(r => Number(r.dataset.trial))")
    assert numbers == [4, 2, 1, 6, 0, 5, 3, 7]
    assert page.locator("#trials-table th[aria-sort=descending]").inner_text() == "tok/s/GPU"


def test_the_page_follows_airflows_theme_inside_its_frame(store: Store, site: str, page: Page) -> None:
    factory.seed(store, cycle_id="framed")
    page.goto(f"{site}/frame/dark")
    frame = page.frame_locator("iframe")
    frame.locator("#chart .main-svg").first.wait_for()
    root = frame.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    background = "document.getElementById('chart').layout.paper_bgcolor"
    dark = page.frames[1].evaluate(background)
    page.evaluate("document.documentElement.className = 'light'")
    expect(root).to_have_attribute("data-theme", "light")
    assert page.frames[1].evaluate(background) != dark


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_sticks_out_of_the_page(store: Store, site: str, page: Page, width: int) -> None:
    factory.seed(store, cycle_id="wide")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/wideep/cycles/wide")
    page.locator("#chart .main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_chart_can_be_shown_per_decode_gpu(store: Store, site: str, page: Page) -> None:
    factory.seed(store, cycle_id="axes")
    page.goto(f"{site}/wideep/cycles/axes")
    title = page.locator("#chart .gtitle")
    expect(title).to_contain_text("per GPU")
    page.get_by_label("per decode GPU").check()
    expect(title).to_contain_text("SIMULATED")
    expect(title).to_contain_text("per decode GPU")
