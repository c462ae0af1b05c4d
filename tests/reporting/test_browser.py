"""The report in a real browser: the system's Chromium, driven by ChromeDriver. Nothing is downloaded."""

import base64
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select
except ImportError:
    pytest.skip("no selenium: the report is not opened in a browser", allow_module_level=True)

pytest.importorskip("matplotlib")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    pytest.skip("no Chromium with ChromeDriver: the report is not opened in a browser", allow_module_level=True)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync",
)  # fmt: skip

POINT = """
    const box = arguments[0].getBoundingClientRect();
    const at = {clientX: box.left + arguments[1], clientY: box.top + arguments[2]};
    arguments[0].dispatchEvent(new PointerEvent("pointermove", at));
"""
FETCHED = "return performance.getEntriesByType('resource').map(e => e.name).filter(name => !name.startsWith('data:'))"


@pytest.fixture(scope="module")
def path(model, parts, titles, kinds, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "report.html"
    model.report(path, ratings=parts[0], test=parts[1], titles=titles, item_features=kinds)
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_OFFLINE", "true")
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, path):
    driver.get(path.as_uri())
    return driver


def with_scheme(driver, scheme, width, height=900):
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_accessible(page, scheme, width):
    with_scheme(page, scheme, width)
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    shown = page.find_elements(By.CSS_SELECTOR, "figure svg, canvas")
    assert all(each.size["width"] <= width for each in shown)
    folder = os.environ.get("FASTMF_SCREENSHOTS")
    if folder:
        shot = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        (Path(folder) / f"report-{scheme}-{width}.png").write_bytes(base64.b64decode(shot))
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None:
        pytest.skip("no axe-core-python: accessibility is not checked")
    page.execute_script((Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.execute_async_script("axe.run().then(arguments[0])")["violations"]
    bad = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in bad] == []


def test_hostile_titles_do_nothing(page):
    assert page.execute_script("return window.hurt === undefined")
    assert page.find_elements(By.CSS_SELECTOR, "main img, main b") == []
    assert "<img src=x" in page.find_element(By.TAG_NAME, "main").text


def test_search_finds_titles_with_keys_alone(page):
    with_scheme(page, "light", 1440)
    box = page.find_element(By.ID, "map-search")
    box.send_keys("KIND 7TH")
    found = page.find_elements(By.CSS_SELECTOR, "#map-found button")
    assert found
    assert all("7th of its kind" in each.text for each in found)
    assert f"{len(found)} of" in page.find_element(By.ID, "map-count").text
    box.send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB)  # over the choices of axes and colour
    assert page.switch_to.active_element == found[0]
    assert found[0].text in page.find_element(By.ID, "map-tip").text
    box.clear()
    box.send_keys("<img")
    assert len(page.find_elements(By.CSS_SELECTOR, "#map-found li")) == 1
    assert page.execute_script("return window.hurt === undefined")


def test_pointing_at_an_item_names_it_and_choices_draw_anew(page):
    with_scheme(page, "light", 1440)
    canvas = page.find_element(By.ID, "map-canvas")
    page.execute_script("arguments[0].scrollIntoView()", canvas)
    tip = page.find_element(By.ID, "map-tip")
    for across in range(40, canvas.size["width"], 12):
        for up in range(40, canvas.size["height"], 40):
            if not tip.text:
                page.execute_script(POINT, canvas, across, up)
    assert "ratings" in tip.text
    before = page.execute_script("return arguments[0].toDataURL()", canvas)
    Select(page.find_element(By.ID, "map-colour")).select_by_index(1)
    coloured = page.execute_script("return arguments[0].toDataURL()", canvas)
    Select(page.find_element(By.ID, "map-x")).select_by_index(3)
    turned = page.execute_script("return arguments[0].toDataURL()", canvas)
    assert len({before, coloured, turned}) == 3


def test_it_prints(page):
    data = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    folder = os.environ.get("FASTMF_SCREENSHOTS")
    if folder:
        (Path(folder) / "report.pdf").write_bytes(data)
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 3


def test_nothing_leaves_the_page_and_nothing_fails(page, path):
    page.get_log("performance")
    page.get(path.as_uri())
    messages = [entry["message"] for entry in page.get_log("performance")]
    assert any("Network.requestWillBeSent" in each for each in messages)  # of the file itself
    assert [each for each in messages if "Network.requestWillBeSent" in each and '"url":"http' in each] == []
    assert page.execute_script(FETCHED) == []
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
