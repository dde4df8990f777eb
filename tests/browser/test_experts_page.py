"""The experts' page in a real browser: every chart is drawn, in both themes, without complaints."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard.app import create_app
from wideloop.results.store import Store

from tests.unit.results import experts_factory, factory

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("experts")
    artefacts = Artefacts(folder / "artefacts")
    experts_factory.seed(artefacts, "one")
    with Store.open(f"sqlite:///{folder}/results.db") as store, socket.socket() as listener:
        factory.seed(store, cycle_id="one")
        listener.bind(("127.0.0.1", 0))
        app = create_app(lambda: store, [], lambda: artefacts)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/cycles/one/experts"
        server.should_exit = True
        thread.join()


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=request.param)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("response", lambda r: complaints.append(r.url) if r.status >= 400 else None)
    yield opened
    opened.close()
    assert complaints == []


def test_every_chart_is_drawn_and_nothing_sticks_out(site: str, page: Page) -> None:
    page.goto(site)
    shown = page.locator(".role:not([hidden]) .figure")
    assert shown.count() == 7
    for number in range(shown.count()):
        expect(shown.nth(number).locator(".main-svg").first).to_be_visible()
        expect(shown.nth(number).locator(".gtitle")).to_contain_text("SIMULATED")
    for width in (1280, 700):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width, timeout=5000)


def test_the_other_role_and_layer_can_be_chosen(site: str, page: Page) -> None:
    page.goto(site)
    expect(page.get_by_role("heading", level=2).first).to_be_visible()
    page.get_by_label("decode").check()
    block = page.locator(".role[data-role=decode]")
    expect(block.locator("[data-figure=heat] .gtitle")).to_be_visible()
    expect(page.locator(".role[data-role=prefill]")).to_be_hidden()
    layer = block.locator("select.layer option").nth(2).inner_text()
    block.locator("select.layer").select_option(layer)
    expect(block.locator("[data-figure=over_time] .gtitle")).to_contain_text(f"Layer {layer} over time")


def test_colours_follow_the_theme(site: str, page: Page) -> None:
    page.goto(site)
    heat = page.locator(".role:not([hidden]) [data-figure=heat]")
    expect(heat.locator(".gtitle")).to_be_visible()
    background = heat.evaluate("chart => chart.layout.paper_bgcolor")
    page.emulate_media(color_scheme="dark" if background == "#ffffff" else "light")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark" if background == "#ffffff" else "light")
    assert heat.evaluate("chart => chart.layout.paper_bgcolor") != background
