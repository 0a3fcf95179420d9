"""The page in Chromium: it sorts, filters and selects, and every plot follows."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from pipeline.compare.comparison import compare
from pipeline.compare.figures import Contents
from pipeline.compare.page import render_page
from pipeline.compare.records import Run

TOP1 = "integer/top1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None and "CI" not in os.environ:
        pytest.skip("needs the system's Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        # the sandbox does not work for root in a container; the page is our own file
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def load(browser: Browser, tmp_path: Path, contents: Contents) -> Iterator[Callable[..., Page]]:
    """Opens the comparison of runs; fails the test where the page reports an error or asks for a network."""
    trouble: list[str] = []
    pages = []

    def open_page(runs: list[Run], shown: Contents = contents, **options: Any) -> Page:
        file = tmp_path / f"{len(pages)}.html"
        date = datetime(2026, 1, 2, tzinfo=UTC)
        file.write_text(render_page(compare(runs, shown), source="here", date=date), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, **options)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("request", lambda request: trouble.append(request.url) if "http" in request.url else None)
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert trouble == []


@pytest.fixture
def page(load: Callable[..., Page], runs: list[Run]) -> Page:
    return load(runs)


def rows(page: Page) -> Locator:
    return page.locator("#runs tbody tr:visible")


def ids(found: Locator) -> list[str | None]:
    return found.evaluate_all("nodes => nodes.map(node => node.dataset.run)")


def classes(page: Page, box: str, name: str) -> set[str]:
    return set(page.locator(f"{box} [data-run].{name}").evaluate_all("ns => ns.map(n => n.dataset.run)"))


def head(page: Page, key: str) -> Locator:
    return page.locator(f'#runs th[data-key="{key}"]')


def test_it_opens_with_the_most_accurate_run_first(page, runs):
    assert ids(rows(page)) == [r.id for r in sorted(runs, key=lambda r: -r.metrics[TOP1])]
    expect(head(page, TOP1)).to_have_attribute("aria-sort", "descending")
    best = max(runs, key=lambda r: r.metrics[TOP1])
    expect(page.locator("#best h2")).to_have_text(f"★ Best run: {best.name}")
    expect(page.locator("#best code")).to_have_text(f"python -m pipeline {best.tags['overrides']}")


def test_a_click_on_a_head_sorts_and_another_turns_it_round(page, runs):
    key = "model/integer_bytes"
    head(page, key).locator("button").click()
    expect(head(page, key)).to_have_attribute("aria-sort", "ascending")
    expect(head(page, TOP1)).to_have_attribute("aria-sort", "none")
    assert ids(rows(page)) == [r.id for r in sorted(runs, key=lambda r: r.metrics[key])]
    head(page, key).locator("button").click()
    assert ids(rows(page)) == [r.id for r in sorted(runs, key=lambda r: -r.metrics[key])]
    head(page, "quantizer").locator("button").focus()
    page.keyboard.press("Enter")
    assert ids(rows(page)) == [r.id for r in sorted(runs, key=lambda r: r.tags["quantizer"])]


def test_chips_and_words_filter_the_rows_and_every_plot(page, runs):
    page.locator('.chip[data-option="symmetric"]').click()
    page.locator('.chip[data-option="affine"]').click()
    page.locator("#text").fill("KL per_channel")
    shown = {
        run.id
        for run in runs
        if run.tags["quantizer"] in ("symmetric", "affine")
        and (run.tags["calibration"], run.tags["granularity"]) == ("kl", "per_channel")
    }
    assert set(ids(rows(page))) == shown and len(shown) == 4
    hidden = {run.id for run in runs} - shown
    for box in ("#front-size", "#front-speed", "#parallel"):
        assert classes(page, box, "filtered") == hidden
    expect(page.locator("#count")).to_have_text("4 of 24 shown, 0 selected")
    page.locator("#clear-filters").click()
    expect(rows(page)).to_have_count(24)
    assert classes(page, "#parallel", "filtered") == set()
    expect(page.locator('.chip[aria-pressed="true"]')).to_have_count(0)


def test_words_that_nothing_holds_leave_nothing(page):
    page.locator("#text").fill("nosuchword")
    expect(rows(page)).to_have_count(0)
    expect(page.locator("#count")).to_have_text("0 of 24 shown, 0 selected")


def test_selected_runs_stand_out_everywhere(page):
    chosen = ids(rows(page))[2:4]
    rows(page).nth(2).click()
    rows(page).nth(3).locator("input").focus()
    page.keyboard.press("Space")
    for box in ("#runs", "#front-size", "#front-speed", "#parallel", "#against"):
        assert classes(page, box, "selected") == set(chosen)
    assert page.locator("#effects .tick.selected").count() == 2 * 4  # in each of four factors
    expect(page.locator("#matrix .cell-row.selected")).to_have_count(2)
    expect(page.locator("#count")).to_have_text("24 of 24 shown, 2 selected")
    rows(page).nth(2).click()
    assert classes(page, "#parallel", "selected") == set(chosen[1:])
    page.locator("#clear-selection").click()
    assert classes(page, "#runs", "selected") == set()


def test_a_point_is_selected_by_mouse_or_keyboard(page, runs):
    dearest = min(runs, key=lambda r: r.metrics["integer/images_per_second"])
    page.locator(f'#front-speed [data-run="{dearest.id}"]').click()
    assert classes(page, "#runs", "selected") == {dearest.id}
    expect(page.locator("#tip strong")).to_have_text(dearest.name)
    page.locator("#clear-selection").click()
    page.locator("#front-speed svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    second = sorted(runs, key=lambda r: -r.metrics["integer/images_per_second"])[1]
    assert classes(page, "#runs", "selected") == {second.id}
    expect(page.locator("#tip strong")).to_have_text(second.name)


def test_all_that_is_shown_can_be_selected_at_once(page, runs):
    page.locator("#text").fill("power_of_two")
    page.locator("#select-shown").click()
    expected = {run.id for run in runs if run.tags["quantizer"] == "power_of_two"}
    assert classes(page, "#runs", "selected") == expected


def test_colour_follows_the_chosen_factor(page, runs):
    def colours():
        return page.locator("#front-size .point").evaluate_all(
            "nodes => Object.fromEntries(nodes.map(node => [node.dataset.run, node.style.fill]))"
        )

    page.locator("#colour").select_option("granularity")
    expect(page.locator(".legend").first).to_have_text("per_channelper_tensor")
    found = colours()
    for option in ("per_channel", "per_tensor"):
        assert len({found[run.id] for run in runs if run.tags["granularity"] == option}) == 1
    assert len(set(found.values())) == 2


def test_the_command_is_copied(load, runs):
    page = load(runs, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#copy-best").click()
    expect(page.locator("#copy-best")).to_have_text("Copied")
    best = max(runs, key=lambda r: r.metrics[TOP1])
    assert page.evaluate("navigator.clipboard.readText()") == f"python -m pipeline {best.tags['overrides']}"


def test_effects_of_another_figure_can_be_seen(page):
    page.locator("#effect-figure").select_option("model/integer_bytes")
    first = page.locator("#effects svg").first
    expect(first).to_have_attribute(
        "aria-label", "Effect of quantizer.weight.bits on bytes. 4: 9,909, 8: 19,418"
    )


def test_the_best_run_is_tested_against_each_other_one(page, runs):
    expect(page.locator("#against tbody tr")).to_have_count(23)
    summary = page.locator("#tests-summary").inner_text()
    (alike,) = re.findall(r"^(\d+) of 23 other runs", summary)
    expect(page.locator("#against tr.indistinct")).to_have_count(int(alike))
    page.locator('.chip[data-option="affine"]').click()
    expect(page.locator("#against tbody tr:visible")).to_have_count(8)


def test_another_test_set_is_shown_on_its_own(load, runs):
    mnist = [replace(r, id=f"m{r.id}", tags={**r.tags, "data": "mnist"}) for r in runs[:5]]
    page = load([*runs, *mnist])
    expect(rows(page)).to_have_count(24)
    page.locator("#set").select_option("1")
    assert set(ids(rows(page))) == {run.id for run in mnist}
    assert set(ids(page.locator("#parallel .thread"))) == {run.id for run in mnist}
    expect(page.locator("#count")).to_have_text("5 of 5 shown, 0 selected")


def test_a_run_with_nothing_to_compare_and_gaps_does_no_harm(load, make):
    page = load([make(0, {}, outcome=None, metrics={TOP1: 0.9})])
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#tests-section")).to_be_hidden()
    gaps = load([make(0, {"a": "1"}), make(1, {"a": "2"}, metrics={"loss": 1.0}, status="FAILED")])
    expect(gaps.locator("#runs .failed")).to_have_text("failed")
    expect(gaps.locator("#runs tbody tr").last.locator("td").nth(4)).to_have_text("–")


def test_collapsed_runs_do_not_press_the_others_together(load, runs):
    fallen = [replace(r, metrics={**r.metrics, TOP1: 0.1}) if i % 6 == 5 else r for i, r in enumerate(runs)]
    page = load(fallen)
    expect(page.locator("#zoom")).to_be_checked()
    expect(page.locator("#front-size svg > text").last).to_contain_text("worse, at the edge")
    heights = "ns => Math.max(...ns.map(n => n.getBoundingClientRect().y))"
    page.locator("#zoom").uncheck()
    assert page.locator("#front-size .point").evaluate_all(heights) > 0
    expect(page.locator("#front-size svg > text").last).not_to_contain_text("at the edge")


def test_it_fits_a_narrow_screen_and_a_dark_one(load, runs):
    page = load(runs, color_scheme="dark")
    page.set_viewport_size({"width": 480, "height": 900})
    page.wait_for_function("document.documentElement.scrollWidth <= 480")  # plots are drawn anew on resizing
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert all(int(channel) < 60 for channel in re.findall(r"\d+", background)[:3])


def test_five_hundred_runs_are_quick(load, make):
    options = [
        {"quantizer": q, "calibration": c, "seed": str(s)}
        for q in ("affine", "symmetric")
        for c in ("minmax", "kl", "mse", "percentile", "moving_average")
        for s in range(50)
    ]
    many = [make(i, o, tags={**make(i, o).tags, "seed": o["seed"]}) for i, o in enumerate(options)]
    start = time.monotonic()
    page = load(many)
    expect(rows(page)).to_have_count(500)
    assert time.monotonic() - start < 10  # most of it the rest of a busy machine; see the sort below
    milliseconds = page.evaluate("""() => {
        const start = performance.now();
        document.querySelector('#runs th[data-key="model/compression"] button').click();
        document.querySelector('.chip[data-option="kl"]').click();
        document.querySelector('#select-shown').click();
        document.body.offsetHeight;
        return performance.now() - start;
    }""")
    expect(rows(page)).to_have_count(100)
    assert milliseconds < 1000


def test_the_values_of_a_search_are_found_by_words_and_coloured_by_order(load, make):
    rates = [f"{0.001 * 1.2**n:.4g}" for n in range(30)]
    page = load([make(n, {"quantizer": "affine", "training.lr": rate}) for n, rate in enumerate(rates)])
    expect(page.locator("#facets .chip")).to_have_count(0)
    page.locator("#text").fill(f"training.lr={rates[7]}")
    expect(rows(page)).to_have_count(1)
    first, last = (page.locator("#parallel .thread").nth(n).evaluate("n => n.style.stroke") for n in (0, 29))
    assert first != last
    expect(page.locator("#effects-section")).to_be_hidden()


def test_small_differences_are_shown_whole(load, make):
    page = load([make(n, {"a": str(n)}, metrics={TOP1: 0.98 - 0.001 * (n == 3)}) for n in range(4)])
    expect(page.locator("#zoom-choice")).to_be_hidden()


def test_a_page_of_errors_has_the_least_first_and_names_it(load, erring, errors):
    page = load(erring, errors)
    key = "integer/rmse"
    by_error = sorted(erring, key=lambda run: run.metrics[key])
    assert ids(rows(page)) == [run.id for run in by_error]
    expect(head(page, key)).to_have_attribute("aria-sort", "ascending")
    expect(head(page, key)).to_have_text("integer RMSE")
    expect(page.locator("#best h2")).to_have_text(f"★ Best run: {by_error[0].name}")
    least = by_error[0].metrics[key]
    expect(page.locator("#best dl")).to_have_text(f"integer RMSE{least:.3g}\u00a0mm")
    expect(page.locator("#runs .best-value").first).to_have_text(f"{least:.3g}\u00a0mm")
    for box, other in (("#front-size", "size"), ("#front-speed", "rate")):
        expect(page.locator(f"{box} .title")).to_have_text(f"integer RMSE in mm against {other}")
    expect(page.locator("#tests-section")).to_be_hidden()
    place = "n => [n.getBoundingClientRect().x, n.getBoundingClientRect().y]"
    fastest, slowest = (pick(erring, key=lambda run: run.metrics["integer/rate"]) for pick in (max, min))
    at = {r.id: page.locator(f'#front-speed [data-run="{r.id}"]').evaluate(place) for r in erring}
    assert at[fastest.id][0] < at[slowest.id][0]
    assert at[by_error[0].id][1] < at[by_error[-1].id][1]  # upwards is better


def test_collapsed_errors_do_not_press_the_others_together(load, erring, errors):
    fallen = [
        replace(r, metrics={**r.metrics, "integer/rmse": 40.0}) if i % 6 == 5 else r
        for i, r in enumerate(erring)
    ]
    page = load(fallen, errors)
    expect(page.locator("#zoom")).to_be_checked()
    expect(page.locator("#front-size svg > text").last).to_contain_text("worse, at the edge")
