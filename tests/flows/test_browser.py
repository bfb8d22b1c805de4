"""A page in a real browser calls a Service: of the plane's own origin, of one that is named, and of one that is not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import bundles
from tests.support.plane import Plane

pytest.importorskip("playwright")
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt install chromium")

CALL = """async ([url, key]) => {
  const answer = await fetch(url, {
    method: "POST",
    headers: {"Content-Type": "application/json", "Authorization": "Bearer " + key},
    body: JSON.stringify({rows: [{x: 1}]}),
  });
  return [answer.status, await answer.json(), answer.headers.get("x-leptonai-version")];
}"""


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page()
        browser.close()


def test_a_browser_calls_a_service(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    other = Plane(tmp_path / "one")  # another origin: the port differs
    monkeypatch.setenv("LEPTONAI_ORIGINS", other.url)
    open_plane = Plane(tmp_path / "two")
    monkeypatch.delenv("LEPTONAI_ORIGINS")
    try:
        for plane in (other, open_plane):
            plane.load(bundles.adder(1))
        page.goto(other.url + "/v2")
        assert "leptonai" in page.content()
        path = "/services/adder/predict"
        status, said, version = page.evaluate(CALL, [path, "test"])
        assert (status, said["predictions"], version) == (200, [{"prediction": 1001.0}], "1")
        status, said, version = page.evaluate(CALL, [open_plane.url + path, "test"])
        assert (status, said["predictions"], version) == (200, [{"prediction": 1001.0}], "1")
        page.goto(open_plane.url + "/v2")
        with pytest.raises(Exception, match="Failed to fetch"):  # the other way round nobody consented
            page.evaluate(CALL, [other.url + path, "test"])
    finally:
        other.close()
        open_plane.close()
