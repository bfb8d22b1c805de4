"""A report as a page and as a model card: whole, escaped, and nothing runs in it but its one script."""

import base64
import hashlib
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonai.core.nouns import Run as RunRecord
from leptonai.evaluation import measuring
from leptonai.evaluation.spec import Evaluate
from leptonai.sdk.client import Client
from leptonai.sdk.report_script import SCRIPT
from leptonai.sdk.results import Report
from leptonai.sdk.runs import Run

EVIL = "<script>alert(1)</script>"


def made(kind: str) -> Report:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 300)
    second = np.clip(random.random(300) * 0.6 + truth * 0.3, 0, 1)
    answers = measuring.Answers("classification", ("no", EVIL), EVIL, truth, np.stack([1 - second, second], 1))
    if kind == "many":
        answers = answers._replace(classes=("a|b", EVIL, "`c`"), scores=random.dirichlet(np.ones(3), 300))
    if kind == "values":
        answers = measuring.Answers("regression", (), EVIL, truth * 1.0, second)
    asked = Evaluate(run="r", data="datasets:/churn@v1", costs={"fp": 1, "fn": 5}, resamples=50)
    record, details = measuring.report(asked, answers)
    spec = {"run": "run_1", "model": "models:/churn/3"}
    found = Report(record, Run(RunRecord.new(stage="evaluate", spec=spec, flavour="sklearn"), Client(home="nowhere")))
    found.__dict__["_details"] = details
    return found


@pytest.mark.parametrize("kind", ["two", "many", "values"])
def test_the_page_is_whole_and_escaped(kind: str, tmp_path: Path) -> None:
    text = made(kind).html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text("utf-8") == text
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            opened.append(tag)
            assert not {name for name, _ in attributes} & {"src", "href", "onload", "onclick"}

    Tags().feed(text)
    assert EVIL not in text
    assert opened.count("script") == 2  # the data, and the script of fixed text
    assert not {"img", "link", "iframe", "base", "form"} & set(opened)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert opened.count("svg") >= 3
    json.loads(text.partition('id="data">')[2].partition("</script>")[0])


@pytest.mark.parametrize("kind", ["two", "many", "values"])
def test_the_card_is_one_of_hugging_face(kind: str, tmp_path: Path) -> None:
    text = made(kind).card(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text("utf-8") == text
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "model-index:" in head
    assert '- name: "churn"' in head
    assert "# churn" in body
    assert "300 rows" in body
    lines = [line for line in body.splitlines() if line.startswith("| `")]
    assert len(lines) >= 3
    assert EVIL not in body.replace(f"`{EVIL}`", "")


def test_a_browser_runs_the_script_of_the_page(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    playwright = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("there is no chromium here: apt install chromium")
    made("two").html(tmp_path / "r.html")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 380, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"file://{tmp_path}/r.html")
        before = page.locator("#told").inner_text()
        page.locator("#at").fill("90")
        assert page.locator("#shown").inner_text() == "0.90"
        assert page.locator("#told").inner_text() != before
        first = page.locator("table.sorts tbody td").first.inner_text()
        page.locator("table.sorts th").first.click()
        page.locator("table.sorts th").first.click()
        page.locator("table.sorts th").last.click()
        assert first in ("no", EVIL)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        assert said == []
        browser.close()
