"""The benchmark of cost curves: fits with known answers, caps, resuming, and the whole at two very small sizes."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import cost_curves  # noqa: E402
from curves import meter, shops  # noqa: E402
from curves.page import collect, render  # noqa: E402
from curves.results import Line, Result, Results, exponent, steps  # noqa: E402
from curves.runner import environment, run_child  # noqa: E402

from kit.challenge import EventType  # noqa: E402
from kit.data.layout import DataFolder  # noqa: E402
from kit.data.shop import PRESETS  # noqa: E402
from kit.errors import KitError  # noqa: E402
from kit.history import History  # noqa: E402
from kit.store import Store  # noqa: E402


def taken(size: int, seconds: float, state: str = "measured", stage: str = "tokens", **more: object) -> Result:
    return Result(size, stage, state, seconds=seconds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.37, 2.0])
def test_exponent_of_a_power_law_is_its_power(power: float) -> None:
    assert exponent((1_000, 3 * 1_000**power), (7_000, 3 * 7_000**power)) == pytest.approx(power)


def test_steps_tell_near_linear_from_steep_and_keep_silent_where_nothing_is_known() -> None:
    linear = steps([taken(10, 1.0), taken(100, 11.0), taken(1000, 400.0)])
    assert [step.steep for step in linear] == [False, True]
    assert linear[1].exponent == pytest.approx(math.log10(400 / 11))
    assert [step.exponent for step in steps([taken(10, 1.0), taken(100, 60.0, "cut")])] == [None]
    assert [step.exponent for step in steps([taken(10, 0.001), taken(100, 1.0)])] == [None]  # too short to tell
    (guessed,) = steps([taken(10, 1.0), taken(100, 10.0, "extrapolated")])
    assert guessed.estimated and guessed.exponent == pytest.approx(1.0)
    part = [taken(10, 1.0, anonymous_mib=5.0), taken(100, 9.0, "extrapolated", anonymous_mib=500.0)]
    assert steps(part, "anonymous_mib")[0].exponent is None  # the memory is that of a part


def test_line_through_known_points() -> None:
    line = Line.through([(1, 5.0), (2, 7.0), (4, 11.0)])
    assert (line.base, line.slope, line.residual) == pytest.approx((3.0, 2.0, 0.0), abs=1e-12)
    assert line.at(1_000_000) == pytest.approx(2_000_003)
    assert Line.through([(0, 1.0), (1, 1.0), (2, 4.0)]).residual == pytest.approx(1.0)
    with pytest.raises(ValueError, match="different x"):
        Line.through([(1, 1.0), (1, 2.0)])


def test_presets_keep_the_official_proportions() -> None:
    official, tenth = PRESETS["official"], shops.preset_of(100_000)
    assert shops.preset_of(1_000_000) is official
    for name in ("other", "skus", "categories", "tail_urls", "bots"):
        assert getattr(tenth, name) == getattr(official, name) // 10
    assert (tenth.density, tenth.other_buy) == (official.density, official.other_buy)
    small = shops.preset_of(1_000)
    assert (small.categories, small.departments, small.bots) == (130, 8, 1)
    assert small.shards == 1 and small.truth_clients == 1_000


def test_watch_sees_memory_time_and_the_cap(tmp_path: Path) -> None:
    hold = "import time; held = bytearray(200 * 2**20); time.sleep({})"
    seen = meter.watch([sys.executable, "-c", hold.format(0.3)], environment(1), tmp_path / "log", 60)
    assert seen.code == 0 and not seen.cut
    assert seen.resident_mib > 200
    assert seen.anonymous_mib is None or seen.anonymous_mib > 200
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold.format(60)!r}])"
    cut = meter.watch([sys.executable, "-c", nested], environment(1), tmp_path / "log", 1.5)
    assert cut.cut and cut.code != 0
    assert cut.resident_mib > 200  # children are looked at, too


def test_cut_stage_is_marked_and_its_readers_are_not_run(tmp_path: Path, toy: DataFolder) -> None:
    call = ["--work", str(tmp_path), "--sizes", "79", "--folder", f"79={toy.root}", "--threads", "1"]
    only = [word for name in ("events", "tokens") for word in ("--only", name)]
    assert cost_curves.main([*call, *only, "--stage-minutes", "events=0.001"]) == 0
    results = Results(tmp_path / "results")
    cut, skipped = results.read(79, "events"), results.read(79, "tokens")
    assert cut is not None and cut.state == "cut" and not cut.whole and "cut after" in cut.note
    assert skipped is not None and skipped.state == "skipped" and "was cut" in skipped.note
    page = (tmp_path / "cost_curves.html").read_text(encoding="utf-8")
    assert "Stopped at the cap" in page and "Events of the History at 79" in page
    assert results.stands(79, "events", 0.06) and not results.stands(79, "events", 60)  # a larger cap measures again


def test_progress_before_the_cap_is_extrapolated_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curves import runner
    from curves.child import Order

    order = Order(100, "synth", tmp_path, tmp_path, tmp_path / "job", 1, 0, 60.0, 0.0)

    def stop(*_: object) -> meter.Watched:
        marks = {"began": 0, "done": 2, "total": 8, "unit": "shards", "seconds": 50.0}
        (order.job / "marks.json").write_text(json.dumps(marks), encoding="utf-8")
        return meter.Watched(-15, True, 60.0, 55.0, 10.0, 20.0, {})

    monkeypatch.setattr(runner, "watch", stop)
    result = run_child(order, {})
    assert (result.state, result.seconds, result.whole) == ("extrapolated", 200.0, False)
    assert "2 of 8 shards" in result.note


def test_slice_keeps_the_share_of_other_clients_and_is_readable(tmp_path: Path, toy: DataFolder) -> None:
    clients = len(toy.clients()) // 2
    shops.cut_slice(toy.root, clients, tmp_path / "part", 0)
    part = DataFolder(tmp_path / "part")
    assert len(part.clients()) == clients and set(part.clients()) < set(toy.clients())
    history, whole = (
        History.open(folder, store=Store(tmp_path / folder.root.name / "store")) for folder in (part, toy)
    )
    for kind in EventType:
        expected = whole.among(part.clients()).events(kind).collect()
        assert history.events(kind).collect().equals(expected)
    with pytest.raises(ValueError, match="a slice of"):
        shops.cut_slice(toy.root, 10**6, tmp_path / "more", 0)


def test_two_small_sizes_end_to_end_then_nothing_is_measured_again(tmp_path: Path) -> None:
    call = ["--work", str(tmp_path), "--sizes", "150,300", "--threads", "1"]
    stages = ("synth", "split", "events", "floor")
    every = [*call, *(word for name in stages for word in ("--only", name))]
    assert cost_curves.main(every) == 0
    files = sorted((tmp_path / "results").glob("*.json"))
    assert len(files) == 2 * len(stages)
    results = Results(tmp_path / "results")
    measured = [result for result in results.all() if result.state == "measured"]
    assert len(measured) == len(files)
    for result in measured:
        assert result.seconds and result.spent_seconds and result.seconds < result.spent_seconds
        assert result.resident_mib and result.setting["commit"] and "load" in result.setting
    floor = results.read(300, "floor")
    events = results.read(300, "events")
    assert floor and events and floor.details["relevant_rows"] == sum(events.details["rows"].values()) > 0

    stamps = {path: path.stat().st_mtime_ns for path in files}
    assert cost_curves.main(every) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == stamps
    assert cost_curves.main([*call, "--force", "--only", "floor"]) == 0
    assert [path for path in files if path.stat().st_mtime_ns > stamps[path]] == [p for p in files if "floor" in p.stem]

    page = (tmp_path / "cost_curves.html").read_text(encoding="utf-8")
    assert "decode everyone, group the relevant" in page
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)|url\(|https?://", page)  # nothing from elsewhere
    assert page.count("<svg") > 4
    told = json.loads((tmp_path / "cost_curves.json").read_text(encoding="utf-8"))
    assert [row["size"] for row in told["stages"]["floor"]["results"]] == [150, 300]


def test_organisers_line_and_ratio_come_from_the_slices(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for size in (1_000, 2_000, 4_000):
        for stage, base, slope in (("slice-theirs", 4.0, 0.02), ("slice-stats", 3.0, 0.001)):
            seconds = base + slope * size
            found = taken(size, seconds, stage=stage, spent_seconds=seconds, setting={"run": "a", "source": 10_000})
            results.write(dataclasses.replace(found, cpu_seconds=seconds, anonymous_mib=100 + size / 10))
    report = collect(results, [], [1_000, 2_000, 4_000])
    assert report.codes is not None and report.codes.one_run
    theirs = next(row for row in report.codes.rows if row.name == "slice-theirs")
    assert theirs.full_seconds == pytest.approx(20_004) and theirs.full_mib == pytest.approx(100_100)
    assert report.codes.ratios == {"slice-stats": pytest.approx(84 / 7)}
    ours = next(row for row in report.codes.rows if row.name == "slice-stats")
    assert ours.per_client == pytest.approx(0.001) and ours.full_seconds == pytest.approx(1_003)
    assert "5.6 h" in render(report)


@pytest.mark.parametrize(
    "wrong", [["--stage-minutes", "feature=3"], ["--stage-minutes", "x"], ["--folder", "10=nowhere"]]
)
def test_mistakes_in_the_call_are_told_in_two_lines(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cost_curves.main(["--work", str(tmp_path), *wrong]) == 2
    assert wrong[1] in capsys.readouterr().err
    with pytest.raises(KitError, match="no shop here holds"[1:]):
        cost_curves.slice_source(cost_curves.Plan([10], [], tmp_path, {}, {"": 1.0}, 1, 0), [100])
