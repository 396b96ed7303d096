"""The first screen is short, its figures are drawn from their JSON, its Python runs, and no link of any page is dead."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fresh import python
from guide import blocks

import kit
from kit.data.shop import synth
from kit.data.split import split_folder

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FIGURES, PAGES = script("figures"), script("pages")


def test_the_readme_is_short():
    lines = README.splitlines()
    rows = [line for line in lines if line.startswith("|") and not set(line) <= set("|- ")]
    assert len(lines) <= 120
    assert len(README.split()) <= 900
    assert len(rows) <= 20
    assert [line for line in lines if len(line) > 100] == []


def test_the_first_screen_holds_what_decides():
    first = "\n".join(README.splitlines()[:35])
    for part in ("docs/img/scores-dark.svg", "docs/img/scores-light.svg", "make submission", "make test", "→ board"):
        assert part in first, part
    assert "http" not in re.sub(r"xmlns=\S+", "", first), "the first screen needs no server"


def test_figures_and_tables_are_what_their_json_says():
    assert FIGURES.stale() == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "measured" / "figures").glob("*.json")), ids=lambda path: path.stem
)
def test_every_number_of_a_figure_stands_on_its_page(path: Path):
    figure = json.loads(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "measured" / figure["page"]).read_text(encoding="utf-8")
    assert f"img/{path.stem}.svg" in page
    lines = [*figure["series"].values(), *([figure["mark"]["values"]] if "mark" in figure else [])]
    numbers = set(re.findall(r"\d*\.?\d+", page.replace(",", "")))
    known = {float(number) for number in numbers}
    assert [value for line in lines for value in line if value is not None and value not in known] == []


def test_a_changed_number_is_noticed(monkeypatch: pytest.MonkeyPatch):
    found = FIGURES.official()
    found["tasks"]["churn"]["score"][1] += 0.01
    monkeypatch.setattr(FIGURES, "official", lambda: found)
    assert FIGURES.stale() == ["README.md", "docs/measured/scores.md"], "AUROC is drawn, scores are in tables"


def test_official_scores_are_taken_from_a_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = json.loads((ROOT / "docs" / "measured" / "bench-small.json").read_text(encoding="utf-8"))
    means = [mean | {"probe": "official"} for mean in bench["means"] if mean["probe"] == "fast"]
    means += [mean | {"row": "baseline", "mean": mean["mean"] - 0.1} for mean in means if mean["row"] == "blend"]
    (tmp_path / "bench.json").write_text(json.dumps(bench | {"means": means}))
    monkeypatch.setattr(FIGURES, "OFFICIAL", tmp_path / "official.json")
    FIGURES.take(tmp_path / "bench.json")
    churn = FIGURES.official()["tasks"]["churn"]
    blend = next(m["mean"] for m in means if (m["row"], m["task"], m["measure"]) == ("blend", "churn", "auroc"))
    ceiling = [shop["ceiling"]["churn"]["auroc"] for shop in bench["shops"]]
    assert churn["auroc"] == [round(blend - 0.1, 4), round(blend, 4)]
    assert churn["ceiling"] == round(sum(ceiling) / 2, 4)
    (tmp_path / "none.json").write_text(json.dumps(bench | {"means": []}))
    with pytest.raises(SystemExit, match="needs --probe official"):
        FIGURES.take(tmp_path / "none.json")


def test_no_link_is_dead():
    assert PAGES.dead_links() == []


def test_a_dead_link_is_noticed(tmp_path: Path):
    (tmp_path / "there.md").write_text("# A head, with `code`\n\n```\n[in code](nowhere.md)\n```\n## Again\n## Again\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](there.md#a-head-with-code) [c](there.md#again-1) [d](https://x.y)\n")
    assert PAGES.dead_in(page) == []
    page.write_text("[a](gone.md) [b](there.md#another) ![c](no.svg)\n")
    assert PAGES.dead_in(page) == ["gone.md", "there.md#another", "no.svg"]


def test_the_site_is_built_without_a_warning_or_another_host(tmp_path: Path):
    zensical = Path(sys.executable).with_name("zensical")
    PAGES.stage(tmp_path)
    done = subprocess.run([zensical, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "No issues found" in done.stdout + done.stderr, done.stdout + done.stderr
    built = sorted((tmp_path / "site").rglob("*.html"))
    pages = sorted((tmp_path / "docs").rglob("*.md"))
    assert len(built) == len(pages) + 1, "each page, and the one for none"
    told = "\n".join(path.read_text(encoding="utf-8") for path in built)
    assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', told) == []
    (tmp_path / "docs" / "start.md").write_text("[nowhere](gone.md)\n")
    done = subprocess.run([zensical, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0, "strict: a dead link is an error"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("screen") / "tiny"
    synth(root, "tiny", 0)
    split_folder(root)
    return root


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "tutorials").glob("*.py")), ids=lambda path: path.stem)
def test_the_tutorial_runs(path: Path, tmp_path: Path, tiny: Path):
    text = path.read_text(encoding="utf-8")
    assert text.count("# %% ") >= 3 and path.name in (path.parent / "README.md").read_text(encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(tiny)
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    done = python(tmp_path, code, path=ROOT, environment={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


def test_the_first_row_of_the_leaderboard_is_made_again(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    """Three of its tasks; sums are those of their rows."""
    text = (ROOT / "LEADERBOARD.md").read_text(encoding="utf-8")
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    rows = [dict(zip(table[0], row, strict=True)) for row in table[2:]]
    for row in rows:
        assert round(sum(float(row[task]) for task in FIGURES.official()["tasks"]), 3) == pytest.approx(
            float(row["sum"]), abs=2e-3
        )
    first = rows[0]
    assert first["shop"] == "tiny"
    monkeypatch.setenv("KIT_STORE", str(tmp_path / "store"))
    submission = kit.submit(first["recipe"], tiny, tmp_path / "submission")
    report = kit.score(submission, tiny, first["probe"], ["churn", "propensity_category", "conversion"])
    for task, entry in report.tasks.items():
        assert entry["score"] == pytest.approx(float(first[task.removeprefix("propensity_")]), abs=0.012), task


@pytest.mark.slow
def test_the_python_of_the_readme(tmp_path: Path, tiny: Path):
    """Its lines at the tiny size, with the quickest recipe and one task."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(tiny)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    text = "\n".join(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    one = (
        text.replace("small", "tiny")
        .replace("stats.toml", "baseline.toml")
        .replace('probe="fast"', 'probe="fast", tasks=["churn"]')
    )
    assert one.count("tiny") == 1 and "tasks=" in one
    done = python(tmp_path, one, path=ROOT, environment={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    shape, total = done.stdout.rsplit(maxsplit=1)
    assert re.match(r"\(\d+, \d+\)", shape) and 0.5 < float(total) < 1.0
