"""The page in a real browser: no complaint on the console, every figure drawn, nothing wider than the screen."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page, browsing, executable
from scored import collect, score_submission, write_scores

from kit.cli.report import _measure
from kit.data.layout import DataFolder
from kit.probes.registry import Options
from kit.report import render
from kit.studies.attributions import client_rows, explain_report
from kit.submission.submission import Submission
from kit.tasks import CATEGORY, CHURN

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on PATH (apt-get install chromium)"),
]
VIEWS = [(width, scheme) for width in (380, 1400) for scheme in ("light", "dark")]
BROKEN = """[...document.querySelectorAll('svg')].filter(svg => {
    const box = svg.getBoundingClientRect();
    const shown = [...svg.querySelectorAll('circle, rect, path, line, polyline, text')].some(mark => {
        const edge = mark.getBBox();
        return Number.isFinite(edge.x) && getComputedStyle(mark).display !== 'none';
    });
    return box.width < 4 || box.height < 4 || !shown || svg.outerHTML.includes('NaN');
}).map(svg => svg.outerHTML.slice(0, 120))"""
WIDE = """[...document.querySelectorAll('body *')]
    .filter(e => !e.closest('pre') && !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.outerHTML.slice(0, 120))"""
CONTRAST = """(() => {
    const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
    const light = text => rgb(text).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
    const behind = e => { for (; e; e = e.parentElement) {
        const colour = getComputedStyle(e).backgroundColor;
        if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    } };
    return [...document.querySelectorAll('p, h1, h2, h3, td, th, span, li, a, b, code, text')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => {
            const style = getComputedStyle(e);
            const pair = [light(e.tagName === 'text' ? style.fill : style.color), light(behind(e))];
            return [(Math.max(...pair) + .05) / (Math.min(...pair) + .05), e.outerHTML.slice(0, 100)];
        }).filter(([ratio]) => ratio < 4.5);
})()"""


@pytest.fixture(scope="module")
def page(scored: Path, toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section that can be made here, long names included."""
    root = tmp_path_factory.mktemp("page")
    folder = Path(shutil.copytree(scored.parent, root / "submissions")) / "mine"
    named = folder.rename(folder.with_name("a_submission_with_a_name_that_is_far_longer_than_a_phone_is_wide"))
    rows = client_rows(Submission(named), ",".join(map(str, np.load(named / "client_ids.npy")[:4])))
    scores = score_submission(named, toy, "gbm", threads=1, explain=rows)
    write_scores(named, [scores])
    explain_report(scores, Submission(named), toy, Options(threads=1, explain=rows))
    if importlib.util.find_spec("shap"):
        scores = score_submission(named, toy, "fast", [CHURN, CATEGORY], threads=1)
        explain_report(scores, Submission(named), toy, Options(threads=1, explain=rows[:1]))
    path = root / "report.html"
    _measure(Submission(named), toy, drift=True, ablate=True, threads=1)
    path.write_text(render(collect(named, toy.root)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_it_reads_everywhere(tab: Page, page: Path, width: int, scheme: str):
    tab.open(page, width, scheme)
    assert tab.complaints() == []
    tab.value("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value(WIDE) == []
    assert tab.value("document.querySelectorAll('svg').length") > 40
    assert tab.value("document.querySelectorAll('svg.map').length") >= 3
    assert tab.value("document.querySelectorAll('.waterfall line.push').length") > 20
    assert tab.value(BROKEN) == []
    dark = tab.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]") < 128
    assert dark == (scheme == "dark")
    assert tab.value(CONTRAST) == []


def test_the_test_can_fail(tab: Page, tmp_path: Path):
    """A page with every fault is caught by every check above."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><link rel='icon' href='data:,'><body style='background:#fff'><p style='color:#ccc;width:2000px'>pale</p>"
        "<svg width='50' height='50'></svg><img src='http://127.0.0.1:9/x.png'><script>console.error('x'); nowhere()</script>"
    )
    tab.open(bad, 380, "light")
    complaints = " ".join(tab.complaints())
    assert "nowhere" in complaints and "127.0.0.1" in complaints
    assert tab.value("document.documentElement.scrollWidth") > 380
    assert tab.value(WIDE) and tab.value(BROKEN) and tab.value(CONTRAST)
