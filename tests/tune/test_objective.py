"""What a trial is worth: known answers for gains, scores kept in the store, pruning, goals; and a whole search on a tiny shop."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import norm
from typer.testing import CliRunner

from kit import tracking
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import Options
from kit.recipe import read_recipe
from kit.scoring.scorer import Scorer
from kit.store import Store
from kit.tasks import CHURN, CONVERSION, PRICE, SKU, Task
from kit.tune.best import score_officially, winner, write_recipe
from kit.tune.epochs import FEW, EpochPruner
from kit.tune.gain import LEAST_NOISE, Reference, task_gain, total_gain
from kit.tune.hits import CountingStore
from kit.tune.objective import RecipeObjective
from kit.tune.space import defaults, from_params, parse_space
from kit.tune.status import status
from kit.tune.storage import StudyPlace
from kit.tune.study import MedianPruner, begin, best_trials, make_pruner
from kit.tune.workers import Job, make_objective, work

TWO = """
name = "two"
[search]
tasks = ["churn", "conversion", "propensity_price"]
noise_seeds = 2
startup = 2
pruner = "none"
[blocks.a]
kind = "stats"
families = ["presence"]
weight = { low = 0.1, high = 2.0, log = true, default = 1.0 }
[blocks.b]
on = { choices = [true, false], default = true }
kind = "stats"
families = ["recency"]
scale = { choices = ["quantile", "standard"], default = "quantile" }
"""


def test_noise_is_the_spread_over_seeds_and_gains_are_paired_by_seed():
    scores = {(CHURN, 0): 0.70, (CHURN, 1): 0.72, (CHURN, 2): 0.71, (SKU, 0): 0.5, (SKU, 1): 0.5, (SKU, 2): 0.5}
    reference = Reference.of(scores, 2, {})
    assert reference.noise[CHURN] == pytest.approx(0.01)
    assert reference.noise[SKU] == LEAST_NOISE  # seeds that agree by accident do not make a task infinitely sure
    assert Reference.of(scores, 2, {}, {SKU: 0.02}).noise[SKU] == pytest.approx(0.02)
    assert Reference.of(scores, 2, {}, {CHURN: 0.01}).noise[CHURN] == pytest.approx(0.01 * np.sqrt(2))
    assert reference.scores[CHURN] == [0.70, 0.72]
    assert task_gain("zscore", CHURN, 0, 0.73, reference) == pytest.approx(3.0)
    assert task_gain("zscore", CHURN, 1, 0.73, reference) == pytest.approx(1.0)
    assert task_gain("sum", CHURN, 1, 0.73, reference) == 0.73
    assert Reference.from_json(json.loads(json.dumps(reference.as_json()))) == reference


def test_borda_is_the_expected_number_of_rivals_beaten():
    rivals = {"strong": {CHURN: 0.75}, "weak": {CHURN: 0.65}, "other": {SKU: 0.1}}
    reference = Reference({CHURN: [0.7]}, {CHURN: 0.01}, rivals)
    expected = norm.cdf(-0.05 / (0.01 * np.sqrt(2))) + norm.cdf(0.05 / (0.01 * np.sqrt(2)))
    assert task_gain("borda", CHURN, 0, 0.70, reference) == pytest.approx(expected)
    assert task_gain("borda", CHURN, 0, 0.90, reference) == pytest.approx(2.0)


def test_totals():
    assert total_gain("zscore", [1.0, 3.0], 2) == 2.0
    assert total_gain("sum", [0.5, 0.6, 0.7, 0.8], 2) == pytest.approx(1.3)


def trial_of(values: list[float], state: TrialState = TrialState.COMPLETE) -> optuna.trial.FrozenTrial:
    steps = dict(enumerate(values))
    return create_trial(
        state=state,
        value=float(np.mean(values)),
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=steps,
    )


def test_the_median_pruner_looks_at_the_step_at_hand():
    study = optuna.create_study(direction="maximize", pruner=MedianPruner())
    for level in range(5):
        study.add_trial(trial_of([float(level), float(level)]))
    trial = study.ask()
    trial.report(3.0, 0)
    assert not trial.should_prune()
    trial.report(1.0, 1)  # fell below the median of 2; the best value that it ever had is above it
    assert trial.should_prune()


def test_the_paired_pruner_stops_what_is_worse_task_by_task():
    study = optuna.create_study(
        direction="maximize", pruner=make_pruner(parse_space(TWO, "t", {"pruner": "wilcoxon"}).search)
    )
    study.add_trial(trial_of([1.0, -2.0, 3.0, 0.5, 1.0, 2.0]))
    worse, mixed = study.ask(), study.ask()
    stopped = []
    for step, best in enumerate([1.0, -2.0, 3.0, 0.5, 1.0]):
        worse.report(best - 0.5 - step / 10, step)
        stopped.append(worse.should_prune())
        mixed.report(best + (0.5 if step % 2 else -0.4), step)
        assert not mixed.should_prune()
    assert stopped == [False, False, False, True, True]  # four out of four worse: p = 1/16


def test_training_in_the_lowest_quarter_at_its_epoch_is_stopped():
    study = optuna.create_study(direction="maximize")
    for level in range(FEW):
        other = study.ask()
        other.set_user_attr("epochs", {"combined#1": {"1": float(level), "2": 10.0 + level}})
        study.tell(other, 0.0)
    trial = study.ask()
    watch = EpochPruner(trial)
    with tracking.watching("epoch", watch):
        tracking.log("epoch", {"loss": 3.0}, step=1, about={"model": "without validation"})
        tracking.log("stage", {"validation": -9.0}, step=1, about={"model": "combined"})
        tracking.log("epoch", {"validation": 1.5}, step=1, about={"model": "combined"})  # the quartile is 1
        tracking.log("epoch", {"validation": -9.0}, step=1, about={"model": "nobody else has one"})
        with pytest.raises(optuna.TrialPruned, match=r"epoch 2 .* 10\.5"):
            tracking.log("epoch", {"validation": 10.5}, step=2, about={"model": "combined"})
    tracking.log("epoch", {"validation": -9.0}, step=1, about={"model": "combined"})  # nobody watches any more
    assert trial.user_attrs["epochs"]["combined#1"] == {"1": 1.5, "2": 10.5}
    resumed = study.ask()
    with tracking.watching("epoch", EpochPruner(resumed)), pytest.raises(optuna.TrialPruned, match=r"epoch 2 .* 10\.1"):
        tracking.log("epoch", {"validation": 10.1}, step=2, about={"model": "combined"})  # its first was before a stop


def test_scores_are_kept_and_found(toy: DataFolder, store: Store, monkeypatch: pytest.MonkeyPatch):
    ids = np.random.default_rng(0).permutation(toy.clients())
    vectors = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float16)
    scorer = Scorer(toy, "fast", [CONVERSION, CHURN], store, Options(threads=1))
    both = scorer.score(vectors, ids, "key", [CONVERSION, CHURN], [0, 1])
    assert set(both) == {(task, seed) for task in (CONVERSION, CHURN) for seed in (0, 1)}
    assert both[CONVERSION, 0] != both[CONVERSION, 1]
    again = Scorer(toy, "fast", [CONVERSION], store, Options(threads=1))
    nothing = replace(again._probe, run=partial(pytest.fail, "scored again what is known"))
    again.evidence  # noqa: B018 - before the probe is taken away
    monkeypatch.setattr(again, "_probe", nothing)
    assert again.score(vectors, ids, "key", [CONVERSION], [1, 0]) == {
        (CONVERSION, 1): both[CONVERSION, 1],
        (CONVERSION, 0): both[CONVERSION, 0],
    }


def test_a_killed_scoring_keeps_the_tasks_that_were_done(
    toy: DataFolder, store: Store, monkeypatch: pytest.MonkeyPatch
):
    ids = np.random.default_rng(0).permutation(toy.clients())
    vectors = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float16)
    tasks = [CONVERSION, CHURN]
    scorer = Scorer(toy, "gbm", tasks, store, Options(threads=1))
    run = scorer._probe.run

    def killed(vectors, tasks, options):
        def finished(mine):
            options.finished(mine)
            raise KeyboardInterrupt

        return run(vectors, tasks, replace(options, finished=finished))

    monkeypatch.setattr(scorer, "_probe", replace(scorer._probe, run=killed))
    scorer.evidence  # noqa: B018 - of the probe as it is
    with pytest.raises(KeyboardInterrupt):
        scorer.score(vectors, ids, "key", tasks, [0])
    assert [scorer.knows(vectors, ids, "key", task, [0]) for task in tasks] == [True, False]


def test_scores_are_those_of_kit_score(toy: DataFolder, store: Store, tmp_path: Path):
    from scored import score_submission

    ids = np.random.default_rng(0).permutation(toy.clients())
    vectors = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float16)
    np.save(tmp_path / "client_ids.npy", ids)
    np.save(tmp_path / "embeddings.npy", vectors)
    report = score_submission(tmp_path, toy, "fast", [CONVERSION, PRICE], threads=1)
    ours = Scorer(toy, "fast", [CONVERSION, PRICE], store, Options(threads=1)).score(
        vectors, ids, "k", [CONVERSION, PRICE], [0]
    )
    for task in (CONVERSION, PRICE):
        assert ours[task, 0] == pytest.approx(report.tasks[task.name]["score"], abs=5e-5)


def test_errors_over_clients_are_those_of_kit_compare(toy: DataFolder, store: Store, tmp_path: Path):
    from scored import score_submission, write_scores

    from kit.scoring.results import read_scored

    ids = np.random.default_rng(0).permutation(toy.clients())
    vectors = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float16)
    np.save(tmp_path / "client_ids.npy", ids)
    np.save(tmp_path / "embeddings.npy", vectors)
    write_scores(tmp_path, [score_submission(tmp_path, toy, "fast", [CONVERSION], threads=1)])
    ours = Scorer(toy, "fast", [CONVERSION], store, Options(threads=1)).client_errors(vectors, ids, "key", [CONVERSION])
    assert ours[CONVERSION] == pytest.approx(read_scored(tmp_path, "fast")[CONVERSION].error, rel=1e-4)


def test_the_hit_rate_counts_blocks_only(tmp_path: Path):
    store = CountingStore(tmp_path)
    store.get("events", {"x": 1}, lambda folder: None)
    for value in (1, 2, 1):
        store.get("block-stats", {"x": value}, lambda folder: None)
    fresh, asked, seconds = store.blocks()
    assert (fresh, asked) == (1, 3)
    assert seconds >= 0


@pytest.fixture(scope="module")
def searched(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, optuna.Study]:
    """A finished search over the toy folder: ten trials, four steps of pruning allowed."""
    root = tmp_path_factory.mktemp("searched")
    space = parse_space(TWO, "two.toml")
    job = Job(space, StudyPlace(str(root / "two.journal"), "two"), toy.root, root / "store", cap=8, threads=1)
    objective = RecipeObjective(space, toy.root, job.root, 1)
    study = begin(space, job.place, objective.identity(), job.cap, str(toy.root))
    work(job, 0, make_objective)
    return job, study


def test_the_defaults_score_exactly_zero(searched: tuple[Job, optuna.Study]):
    _, study = searched
    assert study.get_trials()[0].values == [0.0]
    assert study.get_trials()[0].user_attrs["default"]


def test_no_score_of_the_reference_or_the_defaults_is_computed_twice(
    toy: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    space = parse_space(TWO, "two.toml", {"noise": "clients"})
    job = Job(space, StudyPlace(str(tmp_path / "o.journal"), "two"), toy.root, tmp_path / "store", cap=1, threads=1)
    objective = RecipeObjective(space, toy.root, job.root, 1)
    probe, ran = objective.scorer._probe, []

    def run(vectors, tasks, options):
        ran.extend((data.task, options.first_seed) for data in tasks)
        return probe.run(vectors, tasks, options)

    objective.scorer.evidence  # noqa: B018 - before the probe is replaced
    objective.scorer._probe = replace(probe, run=run)
    study = begin(space, job.place, objective.identity(), job.cap, str(toy.root))
    objective.prepare(study, job.place)
    defined = {task for task, _ in ran}
    assert sorted((task.name, seed) for task, seed in ran) == sorted(
        (task.name, seed) for task in defined for seed in range(2)
    )
    noise = study.user_attrs["reference"]["noise"]
    assert all(noise[task.name] > LEAST_NOISE for task in defined)
    assert (
        work(job, 0, lambda _: objective) == 1
    )  # reads the reference from the study, the defaults' scores from the store
    assert len(ran) == 2 * len(defined)
    assert study.get_trials()[0].values == [0.0]


def test_blocks_are_shared_between_trials(searched: tuple[Job, optuna.Study]):
    job, study = searched
    rate = status(study, job.place)["hit_rate"]
    off = sum(not trial.params["blocks.b.on"] for trial in study.get_trials())
    assert rate == {"fresh": 16 - off, "asked": 16 - off, "rate": 1.0}  # the reference made both blocks
    assert len(list((job.root / "block-stats").glob("*/DONE"))) == 2


def test_a_trial_s_scores_are_those_of_its_recipe(searched: tuple[Job, optuna.Study]):
    job, study = searched
    best = best_trials(study)[0]
    objective = RecipeObjective(job.space, job.data, job.root, 1)
    built = objective.build(job.space.recipe(from_params(best.params)))
    fresh = Scorer(
        objective.folder, "fast", job.space.search.tasks, Store(job.root.parent / "other"), Options(threads=1)
    )
    scores = fresh.score(built.vectors, built.clients, built.key, fresh.defined(built.clients), [0])
    assert best.user_attrs["result"]["scores"] == {task.name: round(score, 6) for (task, _), score in scores.items()}
    reference = Reference.from_json(study.user_attrs["reference"])
    gains = [(score - reference.scores[task][0]) / reference.noise[task] for (task, _), score in scores.items()]
    assert best.value == pytest.approx(float(np.mean(gains)))


def test_several_goals_are_a_pareto_front(toy: DataFolder, tmp_path: Path):
    space = parse_space(TWO, "two.toml", {"goals": ["score", "width", "seconds"], "tasks": ["conversion"]})
    job = Job(space, StudyPlace(str(tmp_path / "p.journal"), "two"), toy.root, tmp_path / "store", cap=4, threads=1)
    study = begin(space, job.place, RecipeObjective(space, toy.root, job.root).identity(), 4, "toy")
    work(job, 0, make_objective)
    assert study.metric_names == ["score", "width", "seconds"]
    first = study.get_trials()[0]
    assert first.values[1] == first.user_attrs["result"]["width"]
    assert first.values[2] == pytest.approx(first.user_attrs["result"]["block_seconds"])
    assert all(trial.state is TrialState.COMPLETE for trial in study.get_trials())
    assert best_trials(study)[0].values[0] == max(trial.values[0] for trial in study.get_trials())


def test_the_official_probe_decides_where_it_was_asked(
    searched: tuple[Job, optuna.Study], monkeypatch: pytest.MonkeyPatch
):
    job, study = searched
    asked: dict[str, list[Task]] = {}  # profile's key → tasks, in the order of asking

    def score(self: Scorer, vectors, clients, key, tasks, seeds):
        assert self.probe == "official"
        asked.setdefault(key, []).extend(tasks)
        return {(task, 0): 0.9 if list(asked).index(key) == 1 else 0.5 for task in tasks}

    monkeypatch.setattr(Scorer, "score", score)
    objective = RecipeObjective(job.space, job.data, job.root, 1)
    found = score_officially(study, job.place, objective, 2)
    ranked = best_trials(study)
    names = {str(trial.number) for trial in ranked[:2]} | {"0"}
    assert set(found) == names
    once = {key: list(tasks) for key, tasks in asked.items()}
    assert list(once.values()) == [list(job.space.search.tasks)] * len(names)  # each task by itself, and once
    assert winner(study).number == ranked[1].number
    score_officially(study, job.place, objective, 2)
    assert asked == once  # known ones are not scored again


def test_the_official_probe_may_be_asked_in_several_row_orders(
    searched: tuple[Job, optuna.Study], monkeypatch: pytest.MonkeyPatch
):
    """Trial 0 is best in the first order and worse on average: one order would crown it."""
    job, study = searched
    names, found = {}, {0: (0.9, 0.1), 1: (0.6, 0.6), 2: (0.5, 0.5)}

    def score(self: Scorer, vectors, clients, key, tasks, seeds):
        assert self.options.reorder
        place = names.setdefault(key, len(names))
        return {(task, seed): found[place][seed] for task in tasks for seed in seeds}

    monkeypatch.setattr(Scorer, "score", score)
    space = parse_space(TWO, "two.toml", {"official_seeds": 2})
    objective = RecipeObjective(space, job.data, job.root, 1)
    entries = score_officially(study, job.place, objective, 2)
    ranked = best_trials(study)
    first = entries[str(ranked[0].number)]
    count = len(space.search.tasks)
    assert (first["sums"], first["runs"]) == ([pytest.approx(0.9 * count), pytest.approx(0.1 * count)], 2)
    assert first["sum"] == pytest.approx(0.5 * count)
    assert winner(study).number == ranked[1].number
    assert all(entry["runs"] == 2 for entry in entries.values()), "scores of one order do not compete with means of two"


def test_runs_in_other_orders_are_asked_for_and_kept_apart(toy: DataFolder, store: Store):
    ids = np.random.default_rng(0).permutation(toy.clients())
    vectors = np.random.default_rng(1).normal(size=(len(ids), 4)).astype(np.float16)
    asked: list[tuple[int, bool]] = []
    for reorder in (False, True):
        scorer = Scorer(toy, "fast", [CONVERSION], store, Options(threads=1, reorder=reorder))
        probe = scorer._probe

        def run(vectors, tasks, options, probe=probe):
            asked.append((options.first_seed, options.reorder))
            return probe.run(vectors, tasks, options)

        scorer.evidence  # noqa: B018 - before the probe is replaced
        scorer._probe = replace(probe, run=run)
        scorer.score(vectors, ids, "key", [CONVERSION], [0, 1])
    assert asked == [(0, False), (1, False), (1, True)], "the first run has the submission's order in both"


def test_a_whole_search_on_a_tiny_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """synth → tune (twice: resumed with a higher cap, pruning) → status → best → submit of the winner → report."""
    from kit.cli.main import app

    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # --threads sets them for good
    monkeypatch.chdir(tmp_path)

    def kit(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    kit("data", "synth", "tiny", "--preset", "tiny", "--seed", "1")
    Path("two.toml").write_text(TWO.replace('"none"', '"wilcoxon"').replace(', "propensity_price"', ""))
    kit("tune", "two.toml", "--data", "tiny", "--trials", "2", "--threads", "1")
    state = json.loads(kit("tune", "two.toml", "--data", "tiny", "--trials", "5", "--threads", "1", "--json"))
    assert state["taken"] == 5
    assert state["trials"]["complete"] + state["trials"]["pruned"] == 5
    assert state["defaults"]["values"] == [0.0]
    assert json.loads(kit("tune", "status", "two", "--json"))["taken"] == 5
    assert "5 of 5 trials" in kit("tune", "status", "two")
    kit("tune", "best", "two", "--out", "best.toml", "--recipe-name", "winner")
    Path("mine.toml").write_text("# by hand")
    with pytest.raises(KitError, match="was not made by `kit tune best`"):
        write_recipe(Path("mine.toml"), Path("best.toml").read_text())
    write_recipe(Path("best.toml"), Path("best.toml").read_text())  # its own may be written anew
    text, best = Path("best.toml").read_text(), state["best"][0]
    raw, recipe = tomllib.loads(text), read_recipe(Path("best.toml"))
    assert recipe.name == raw["name"] == "winner"
    assert raw["blocks"]["a"]["weight"] == best["params"]["blocks.a.weight"]
    assert ("b" in raw["blocks"]) == best["params"]["blocks.b.on"]
    assert "search" not in raw
    assert f"Trial {best['trial']} of 5" in text
    assert "reference (defaults)" in text
    assert json.loads(kit("submit", "best.toml", "--data", "tiny", "--json"))["width"] == best["width"]
    kit("tune", "report", "two")
    page = Path("tune-two.html").read_text(encoding="utf-8")
    assert "<script src" not in page  # nothing is fetched: it works offline
    assert "<link" not in page
    assert page.count("Plotly.newPlot(") >= 4
    for heading in (
        "Summary",
        "The winner",
        "History",
        "What mattered",
        "Slices",
        "Parallel coordinates",
        "Cost",
        "Pruned",
    ):
        assert f">{heading}" in page
    with pytest.raises(KitError, match="begun with another search space"):
        kit("tune", "two.toml", "--data", "tiny", "--trials", "6", "--probe", "gbm")


def test_the_group_knows_its_commands_and_takes_anything_else_for_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from kit.cli.tune import app

    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert "status|best|report" in runner.invoke(app, ["--help"]).output
    assert "--trials" in runner.invoke(app, ["some.toml", "--help"]).output
    assert "STUDY" in runner.invoke(app, ["status", "--help"]).output.upper()
    wrong = runner.invoke(app, ["some.toml", "--data", "x", "--trials", "1"])
    assert isinstance(wrong.exception, KitError)
    assert "There is no search space 'some.toml'" in str(wrong.exception)


def test_a_report_of_a_study_without_results_says_so(tmp_path: Path):
    from kit.tune.report import render

    space = parse_space(TWO, "two.toml")
    place = StudyPlace(str(tmp_path / "x.journal"), "two")
    study = begin(space, place, {"data": "d"}, 3, "d<b>")
    page = render(study, place)
    assert "Summary" in page
    assert "d&lt;b&gt;" in page
    with pytest.raises(KitError, match="No trial is complete yet"):
        winner(study)


def test_defaults_of_the_space_are_a_recipe_that_builds(toy: DataFolder, tmp_path: Path):
    objective = RecipeObjective(parse_space(TWO, "two.toml"), toy.root, tmp_path / "store", 1)
    built = objective.build(objective.space.recipe(defaults))
    assert built.vectors.shape[0] == len(toy.clients())
    assert (built.fresh, built.asked) == (0, 2)
    assert objective.build(objective.space.recipe(defaults)).fresh == 2


def test_a_study_does_not_outlive_the_submission_that_it_compares_with(toy: DataFolder, tmp_path: Path):
    """The reference's scores are kept in the study: other vectors under its name are another reference."""
    rival = tmp_path / "rival"
    rival.mkdir()
    ids = np.random.default_rng(0).permutation(toy.clients())
    np.save(rival / "client_ids.npy", ids)
    np.save(rival / "embeddings.npy", np.ones((len(ids), 3), dtype=np.float16))
    space = parse_space(TWO, "two.toml", {"against": [str(rival)]})
    before = RecipeObjective(space, toy.root, tmp_path / "store").identity()
    assert RecipeObjective(space, toy.root, tmp_path / "store").identity() == before
    np.save(rival / "embeddings.npy", np.zeros((len(ids), 3), dtype=np.float16))
    now = RecipeObjective(space, toy.root, tmp_path / "store").identity()
    assert [name for name in now if now[name] != before[name]] == [str(rival)]
