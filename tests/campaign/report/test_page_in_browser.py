"""The page as a reader meets it: plots, table, filters, one crystal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from aiida_e3relax.campaign.report.plots import PLOT_KINDS
from tests.campaign.report.synthetic import make_contents


def find(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def wait_for(browser: webdriver.Chrome, condition: Callable[[], object]) -> None:
    WebDriverWait(browser, 30).until(lambda _: condition())


def scroll_to(browser: webdriver.Chrome, element: WebElement) -> WebElement:
    browser.execute_script('arguments[0].scrollIntoView({block: "center", behavior: "instant"})', element)
    return element


def click_row(browser: webdriver.Chrome, label: str) -> None:
    """Click a row beside its link, once the table has stopped making its rows anew."""

    def click(_: object) -> bool:
        rows = browser.find_elements(By.CSS_SELECTOR, '#table .tabulator-row')
        row = next(row for row in rows if label in row.text)
        scroll_to(browser, row.find_element(By.CSS_SELECTOR, '[tabulator-field="n_atoms"]')).click()
        return True

    WebDriverWait(browser, 30, ignored_exceptions=(StaleElementReferenceException,)).until(click)


def filter_field(browser: webdriver.Chrome, field: str) -> WebElement:
    return scroll_to(browser, find(browser, f'.tabulator-col[tabulator-field="{field}"] input'))


@pytest.mark.parametrize('n_structures', [12, 2000])
def test_every_plot_is_drawn(browser: webdriver.Chrome, open_report: Callable[[int], None], n_structures: int):
    open_report(n_structures)
    for kind in PLOT_KINDS:
        scroll_to(browser, find(browser, f'#figure-{kind.key}'))
        drawn = f'#figure-{kind.key} :is(.points path, .point path, .trace.boxes path)'
        wait_for(browser, lambda drawn=drawn: browser.find_elements(By.CSS_SELECTOR, drawn))


def test_a_row_opens_its_crystal_and_from_there_the_next(browser: webdriver.Chrome, open_report: Callable[[int], None]):
    open_report(12)
    frame = make_contents(12).frame
    label = frame.index[frame['same_minimum'].notna()][0]
    row = frame.loc[label]
    click_row(browser, label)
    wait_for(browser, lambda: find(browser, '#detail').is_displayed())
    assert label in find(browser, '#detail-title').text
    assert row['chain_uuid'] in find(browser, '#nodes').text
    assert row['structure_uuid'] in find(browser, '#nodes').text
    steps = find(browser, '#legs tbody').text.splitlines()[1]
    assert steps.split()[2:4] == [f'{row[f"{leg}_ionic_steps"]:.0f}' for leg in ('raw', 'predicted')]
    wait_for(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, '#trajectory .scatter')) == 4)
    picture = Image.open(io.BytesIO(find(browser, '#views').screenshot_as_png)).convert('RGB')
    for third in np.array_split(np.asarray(picture, dtype=int), 3, axis=1):
        coloured = third.max(axis=2) - third.min(axis=2) > 40
        assert coloured.sum() > 200, 'there is no crystal in this view'
    find(browser, '#next').click()
    assert frame.index[list(frame.index).index(label) + 1] in find(browser, '#detail-title').text
    find(browser, '#detail').send_keys(Keys.ESCAPE)
    wait_for(browser, lambda: not find(browser, '#detail').is_displayed())
    assert browser.current_url.endswith('.html')


def test_what_a_chain_said_is_text_and_not_markup(browser: webdriver.Chrome, open_report: Callable[[int], None]):
    open_report(12)
    failed = make_contents(12).frame.query('state == "failed"').iloc[0]
    browser.execute_script(f'location.hash = "structure={failed.name}"')
    wait_for(browser, lambda: failed['exit_message'] in find(browser, '#messages').text)
    assert failed['exit_message'] in find(browser, '#failures').get_attribute('textContent')


def test_filters_leave_the_rows_that_pass_and_large_reports_hold_the_visible_rows_only(
    browser: webdriver.Chrome, open_report: Callable[[int], None]
):
    open_report(2000)
    frame = make_contents(2000).frame
    assert len(browser.find_elements(By.CSS_SELECTOR, '#table .tabulator-row')) < 100
    filter_field(browser, 'raw_ionic_steps').send_keys('> 15')
    filter_field(browser, 'elements').send_keys('Ti')
    passing = frame[(frame['raw_ionic_steps'] > 15) & frame['elements'].map(lambda elements: 'Ti' in elements)]
    wait_for(browser, lambda: find(browser, '#shown').text == f'{len(passing):,} of 2,000 structures')
    scroll_to(browser, find(browser, '#clear-filters')).click()
    wait_for(browser, lambda: find(browser, '#shown').text == '2,000 structures')


def test_what_passes_the_filters_stands_out_in_the_plots(browser: webdriver.Chrome, open_report: Callable[[int], None]):
    open_report(12)
    frame = make_contents(12).frame
    label = frame.index[frame['same_minimum'].notna()][0]
    filter_field(browser, 'label').send_keys(label)
    scroll_to(browser, find(browser, '#figure-uncertainty'))
    selected = 'return document.querySelector("#figure-uncertainty .plot").data?.[0].selectedpoints ?? null'
    wait_for(browser, lambda: browser.execute_script(selected))
    points = list(frame.dropna(subset=['uncertainty_A', 'predicted_start_coordinate_mae_A']).index)
    assert browser.execute_script(selected) == [points.index(label)]


def test_a_click_on_a_point_opens_its_crystal(browser: webdriver.Chrome, open_report: Callable[[int], None]):
    open_report(12)
    scroll_to(browser, find(browser, '#figure-uncertainty'))
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, '#figure-uncertainty .points path'))
    point = find(browser, '#figure-uncertainty .points path')
    webdriver.ActionChains(browser).move_to_element(point).click().perform()
    wait_for(browser, lambda: find(browser, '#detail').is_displayed())
    assert find(browser, '#detail-title').text.split()[-1] in make_contents(12).frame.index


def test_the_page_fetches_nothing(browser: webdriver.Chrome, open_report: Callable[[int], None]):
    open_report(12)
    fetched = browser.execute_script('return JSON.stringify(performance.getEntriesByType("resource"))')
    assert json.loads(fetched) == []
