"""What a person sees who logs in to the Airflow that ran a cycle: the results page, the form, the graph."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect
from wideloop.operators.commands.demo.airflow_home import USER
from wideloop.results.dashboard.formats import number, percent
from wideloop.results.records import Recommendation, Trial

from tests.airflow_server import AirflowServer

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


@pytest.fixture(scope="module")
def session(browser: Browser, airflow: AirflowServer) -> Iterator[BrowserContext]:
    """A browser in which somebody has logged in through Airflow's own form."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, base_url=airflow.home.url)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(airflow.home.password())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Wide-EP").wait_for()
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(session: BrowserContext) -> Iterator[Page]:
    opened = session.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert errors == []


def keep(page: Page, name: str) -> None:
    """Leave a picture for a person to look at, where one is wanted."""
    if folder := os.environ.get("WIDELOOP_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


def recommended(airflow: AirflowServer, run_id: str) -> tuple[Recommendation, dict[int, Trial]]:
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == run_id)
        recommendation = store.recommendation(cycle.cycle_id)
        assert recommendation is not None
        return recommendation, {t.number: t for t in store.trials(cycle_id=cycle.cycle_id)}


def open_results(page: Page) -> FrameLocator:
    page.goto("/")
    page.get_by_role("link", name="Wide-EP").click()
    frame = page.frame_locator("iframe")
    frame.locator("#answer").wait_for()
    return frame


def test_the_recommendation_is_one_click_from_airflows_home(
    airflow: AirflowServer, finished_cycle: str, page: Page
) -> None:
    recommendation, trials = recommended(airflow, finished_cycle)
    frame = open_results(page)
    frame.locator("#chart .main-svg").first.wait_for()
    answer = frame.locator(".answer")
    expect(answer.locator("h2")).to_contain_text(f"Use trial {recommendation.trial_number}'s configuration")
    expect(answer).to_contain_text(percent(recommendation.gain))
    expect(answer).to_contain_text(
        f"95 % interval {percent(recommendation.gain_low)} to {percent(recommendation.gain_high)}"
    )
    expect(answer.locator(".simulated")).to_have_text("Simulated")
    expect(frame.locator(".notice .simulated")).to_be_visible()
    rows = frame.locator("#trials-table tbody tr")
    expect(rows).to_have_count(len(trials))
    for trial in trials.values():
        row = frame.locator(f"#trials-table tr[data-trial='{trial.number}']")
        expect(row.locator("td").nth(4)).to_contain_text(number(trial.value))
    keep(page, "results")


def test_the_page_wears_airflows_dark_theme(airflow: AirflowServer, finished_cycle: str, page: Page) -> None:
    page.goto("/")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    try:
        frame = open_results(page)
        expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
        frame.locator("#chart .main-svg").first.wait_for()
        keep(page, "results-dark")
    finally:
        page.evaluate("localStorage.setItem('theme', 'light')")


@pytest.mark.parametrize("path", ["/wideep/", "/wideep/cycles", "/wideep/api/cycles"])
def test_a_stranger_gets_no_data(airflow: AirflowServer, finished_cycle: str, path: str) -> None:
    answer = httpx.get(airflow.home.url + path)
    assert answer.status_code == 401
    assert "trial" not in answer.text.lower()


def test_the_trigger_form_is_the_manual(airflow: AirflowServer, page: Page) -> None:
    page.goto("/dags/wideep_cycle")
    page.get_by_role("button", name="Trigger").click()
    form = page.get_by_role("dialog")
    for section, title, explained in (
        ("Where and what", "Hardware profile", "how prefill and decode workers share them"),
        ("Workload", "Input length (ISL)", "Tokens per prompt."),
        ("Objective (SLO)", "TTFT p99 limit (ms)", "Time to first token of 99 % of requests."),
        ("Default knobs", "Redundant experts", "must be divisible by EP"),
        ("Sweep", "Memory fraction, at most", "Configurations that run out of memory count as infeasible"),
    ):
        form.get_by_role("button", name=section, exact=True).click()
        expect(form.get_by_text(title).first).to_be_visible()
        expect(form.get_by_text(explained).first).to_be_visible()
        keep(page, f"trigger-form-{section.split()[0].lower()}")


def test_the_grid_shows_the_cycle(airflow: AirflowServer, finished_cycle: str, page: Page) -> None:
    page.goto(f"/dags/wideep_cycle/runs/{finished_cycle}")
    page.get_by_text("confirm").first.wait_for()
    keep(page, "grid")
