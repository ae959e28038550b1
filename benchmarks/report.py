"""Measure how large the report of a campaign is, and how fast it answers in a browser.

    python -m benchmarks.report [STRUCTURES]

It prints the table of benchmarks/README.md. The campaign is made up (tests/campaign/report/synthetic.py); Chromium and
its driver are needed. All is drawn on the processor, as there is no graphics card in headless Chromium.
"""

from __future__ import annotations

import datetime
import platform
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver

from aiida_e3relax.campaign.report.page import render_page
from tests.campaign.report.chromium import start_chromium
from tests.campaign.report.synthetic import make_contents

OPENED = 'return performance.getEntriesByType("navigation")[0].domInteractive'
FILTERED = """
const done = arguments[0];
const start = performance.now();
const shown = document.getElementById('shown');
new MutationObserver((_, observer) => { observer.disconnect(); done(performance.now() - start); })
    .observe(shown, { childList: true, characterData: true, subtree: true });
const field = document.querySelector('.tabulator-col[tabulator-field="raw_ionic_steps"] input');
field.value = '> 15';
field.dispatchEvent(new Event('search'));
"""
SORTED = """
const done = arguments[0];
const start = performance.now();
document.querySelector('.tabulator-col[tabulator-field="predicted_ionic_steps"] .tabulator-col-title').click();
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""
SHOWN = """
const [place, done] = arguments;
const labels = JSON.parse(document.getElementById('data').textContent).table.data.map((values) => values[0]);
const start = performance.now();
location.hash = `structure=${encodeURIComponent(labels[place])}`;
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""


def main(n_structures: int) -> None:
    """Write a report, use it and print what that took."""
    contents = make_contents(n_structures)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        page = Path(folder) / 'report.html'
        page.write_text(render_page(contents, datetime.datetime.now()), encoding='utf-8')
        rows = {
            'size of the page (MB)': page.stat().st_size / 1e6,
            'writing it (s)': time.perf_counter() - started,
        }
        browser = start_chromium(Path(folder) / 'profile')
        if browser is None:
            sys.exit('benchmarks.report: Chromium or its driver is not installed (Debian: chromium, chromium-driver)')
        try:
            rows |= {f'{what} (s)': spent / 1000 for what, spent in measure(browser, page).items()}
        finally:
            browser.quit()
    print(f'{datetime.date.today()}, {platform.machine()}, {n_structures} structures\n\n| | |\n|---|---|')
    for what, value in rows.items():
        print(f'| {what} | {value:.2f} |')


def measure(browser: webdriver.Chrome, page: Path) -> dict[str, float]:
    """Return the time in ms that a reader waits, by what for."""
    browser.get(page.as_uri())
    spent = {'opening it, until it can be used': browser.execute_script(OPENED)}
    time.sleep(2)  # for the plots in sight
    spent['sorting by a column'] = browser.execute_async_script(SORTED)
    spent['filtering by a number'] = browser.execute_async_script(FILTERED)
    spent['the first structure in the dialog'] = browser.execute_async_script(SHOWN, 2)
    spent['the next one'] = browser.execute_async_script(SHOWN, 6)
    return spent


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
