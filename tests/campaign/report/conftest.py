"""A browser without a screen, and reports to open in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from aiida_e3relax.campaign.report.page import render_page
from tests.campaign.report.chromium import start_chromium
from tests.campaign.report.synthetic import make_contents


@pytest.fixture(scope='session')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Return headless Chromium, or skip where there is none."""
    running = start_chromium(tmp_path_factory.mktemp('chromium'))
    if running is None:
        pytest.skip('no Chromium with its driver on this machine (Debian: apt-get install chromium chromium-driver)')
    yield running
    running.quit()


@pytest.fixture(scope='session')
def report_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function that returns the page of a campaign of that many structures, written once."""
    folder = tmp_path_factory.mktemp('reports')

    def write(n_structures: int) -> Path:
        page = folder / f'{n_structures}.html'
        if not page.exists():
            page.write_text(render_page(make_contents(n_structures), datetime(2026, 11, 21)), encoding='utf-8')
        return page

    return write


@pytest.fixture
def open_report(browser: webdriver.Chrome, report_files: Callable[[int], Path]) -> Iterator[Callable[[int], None]]:
    """Return a function that opens such a page; the test fails if the page wrote an error to the console."""

    def open_page(n_structures: int) -> None:
        browser.get('about:blank')  # so that the same address loads again
        browser.get(report_files(n_structures).as_uri())
        WebDriverWait(browser, 30).until(lambda page: page.find_elements(By.CSS_SELECTOR, '#table .tabulator-row'))

    browser.get_log('browser')
    yield open_page
    assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []
