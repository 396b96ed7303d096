"""Studies that last: the defaults first, a cap that holds, kills, resumption, torn journals, full disks."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import fresh
import optuna
import psutil
import pytest
from optuna.trial import TrialState
from toy_objective import IDENTITY, TOY, Toy, begun, endless, quick, start, together

from kit.errors import KitError
from kit.store import Store
from kit.submission.clean import plan_removals, remove
from kit.tune import claims
from kit.tune.best import provenance
from kit.tune.claims import TRIES, Worker, claim, counted, reclaim, sign_of_life, tally, why_dead
from kit.tune.space import default_params, parse_space
from kit.tune.storage import Journal, StudyPlace, find_place, is_full, mend, open_existing, study_lock
from kit.tune.study import begin, best_trials, is_first, join, make_sampler
from kit.tune.workers import Job, run, work

HERE = Path(__file__).parent


def test_the_defaults_are_the_first_trial(job: Job):
    study = start(job)
    assert work(job, 0, quick) == 6
    first = study.get_trials()[0]
    assert first.params == default_params(job.space)
    assert is_first(first)
    assert first.value == pytest.approx(-(0.5**2) - 0.06)
    assert best_trials(study)[0].value >= first.value
    assert counted(study) == 6


@pytest.mark.parametrize(("official", "reference", "tables"), [(0.8, True, 1), (0.7, True, 2), (0.8, False, 1)])
def test_provenance_names_official_scores_once_where_the_official_probe_steered(
    job: Job, official: float, reference: bool, tables: int
):
    study = start(job)
    trial = optuna.trial.create_trial(value=1.0, user_attrs={"result": {"scores": {"churn": 0.8}}})
    study.set_user_attr(
        "official",
        {str(trial.number): {"scores": {"churn": official}, "sum": official, "precision": "bf16", "runs": 1}},
    )
    if reference:
        study.set_user_attr("reference", {"scores": {"churn": [0.6]}, "noise": {"churn": 0.01}, "rivals": {}})
    lines = provenance(study, trial, job.place)
    assert sum(line.endswith("probe:") for line in lines) == tables


def test_the_same_command_goes_on_and_a_higher_cap_adds_trials(job: Job):
    start(job)
    work(replace(job, cap=3), 0, quick)
    assert work(replace(job, cap=3), 0, quick) == 0
    more = replace(job, cap=8)
    study = start(more)
    assert work(more, 0, quick) == 5
    assert study.user_attrs["cap"] == 8
    assert [number for number, _ in begun(job.data)] == list(range(8))
    drawn = {tuple(sorted(trial.params.items())) for trial in study.get_trials()}
    assert len(drawn) == 8, "a resumed run repeated the draws of the first"


def test_another_space_or_other_data_cannot_join(job: Job, toy_space):
    start(job)
    with pytest.raises(KitError, match="another data"):
        begin(toy_space, job.place, {**IDENTITY, "data": "e"}, 3, "elsewhere")
    with pytest.raises(KitError, match="another search space"):
        begin(toy_space, job.place, {**IDENTITY, "search space": "t"}, 3, "elsewhere")


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers as new as spawned ones, without seconds of imports each; `test_plugin_road.py` spawns them, as users do."""
    monkeypatch.setattr("kit.tune.workers.multiprocessing.get_context", lambda method: fresh.context())


@pytest.mark.usefixtures("quick_start")
def test_the_cap_holds_across_three_processes(job: Job):
    """Thirteen trials for three workers that start at once: each is run once, by more than one of them, and none is added."""
    job = replace(job, cap=13)
    study = start(job)
    run(job, 3, together)
    ran = begun(job.data)
    assert sorted(number for number, _ in ran) == list(range(13))
    assert len({pid for _, pid in ran}) == 3
    assert len(study.get_trials()) == 13
    assert tally(study)["complete"] == 13


def worker_process(job: Job, make: str, call: str = "work(job, 0, {make})") -> subprocess.Popen[bytes]:
    """A process of its own that works on the job, or minds workers: `call` says how."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import toy_objective as t\n"
        "from kit.tune.space import parse_space; from kit.tune.storage import StudyPlace\n"
        "from kit.tune.workers import Job, run, work\n"
        "p = Path(sys.argv[2])\n"
        "job = Job(parse_space(t.TOY, 'toy.toml'), StudyPlace(sys.argv[3], 'toy'), p, p, int(sys.argv[4]))\n"
        "if __name__ == '__main__': " + call.format(make="getattr(t, sys.argv[5])")
    )
    arguments = [str(HERE), str(job.data), job.place.target, str(job.cap), make]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)


def wait_for_trial(job: Job, count: int, process: subprocess.Popen[bytes]) -> None:
    while len(begun(job.data)) < count:
        assert process.poll() is None, "the worker ended before it began its trial"
        time.sleep(0.02)


def group_of(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def said(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def test_an_interrupt_of_the_minding_process_alone_ends_its_workers_too(job: Job):
    """As a supervisor sends it; in a terminal Ctrl-C reaches the workers as well."""
    study = start(job)
    minder = worker_process(job, "endless", "run(job, 2, {make})")
    wait_for_trial(job, 2, minder)
    os.kill(minder.pid, signal.SIGINT)
    assert minder.wait(timeout=60) != 0
    assert not [
        child for child in psutil.process_iter() if minder.pid == group_of(child) and "spawn_main" in said(child)
    ]
    assert tally(study)["waiting"] == 2
    assert tally(study)["running"] == 0


def test_kill_9_loses_only_the_running_trial_which_is_run_again(job: Job):
    study = start(job)
    work(replace(job, cap=2), 0, quick)
    victim = worker_process(job, "endless")
    wait_for_trial(job, 3, victim)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert study.get_trials()[2].state is TrialState.RUNNING
    before = study.get_trials()[2].params
    assert work(job, 0, quick) == 4
    trials = study.get_trials()
    assert tally(study) == {"waiting": 0, "running": 0, "complete": 6, "pruned": 0, "failed": 0, "lost": 1}
    assert trials[2].state is TrialState.FAIL
    assert "is gone" in trials[2].user_attrs["reason"]
    again = next(trial for trial in trials if trial.user_attrs.get("retry_of") == 2)
    assert again.state is TrialState.COMPLETE
    assert {**before, **again.params} == again.params
    assert [trial.value for trial in trials[:2]] == [trial.value for trial in study.get_trials()[:2]]


@pytest.mark.usefixtures("quick_start")
def test_a_killed_worker_of_a_team_is_replaced(job: Job):
    """The other worker goes on, and the trial of the killed one is run again in the same run."""
    job = replace(job, cap=5)
    study = start(job)
    killer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from pathlib import Path; p = Path(sys.argv[1])\n"
            "while len(p.read_text().splitlines() if p.exists() else []) < 2: time.sleep(0.02)\n"
            "os.kill(int(p.read_text().split()[1]), 9); (p.parent / 'go').touch()",
            str(job.data / "begun.txt"),
        ]
    )
    run(job, 2, endless)
    killer.wait()
    assert tally(study)["lost"] == 1
    assert tally(study)["complete"] == 5


def test_a_trial_that_kills_its_workers_is_given_up(job: Job):
    study = join(job.space, job.place, 0) if Path(job.place.target).exists() else start(job)
    me = Worker.here()
    for _ in range(TRIES):
        trial = claim(study, job.place, me, cap=1)
        assert trial is not None
    assert claim(study, job.place, me, cap=1) is None
    assert "not tried again" in study.get_trials()[-1].user_attrs["reason"]
    assert tally(study)["failed"] == 1
    assert tally(study)["lost"] == TRIES - 1
    assert all(is_first(trial) for trial in study.get_trials())  # whoever runs it again runs the defaults


def test_clean_refuses_while_a_search_runs_and_not_after_its_death(job: Job):
    """The workers themselves hold the store: they outlive the process that minds them. Kill -9 frees it."""
    store = Store(job.data)
    kept = store.get("block-toy", {"of": "the search"}, lambda folder: None).folder
    start(job)
    worker = worker_process(job, "endless")
    try:
        wait_for_trial(job, 1, worker)
        found = plan_removals(store, job.data / "none", everything=True)
        assert [removal.path for removal in found] == [kept]
        with pytest.raises(KitError, match="The search toy is going on"):
            remove(store, found)
        assert kept.exists()
    finally:
        worker.kill()
        worker.wait()
    remove(store, found)
    assert not kept.exists()
    assert not list((store.root / "users").iterdir())


def test_who_counts_as_dead(monkeypatch: pytest.MonkeyPatch):
    me = Worker.here()
    other = asdict(replace(me, pid=os.getppid(), started=claims.psutil.Process(os.getppid()).create_time()))
    assert why_dead(other | {"beat": 0.0}, me) is None  # alive here, however long silent
    assert "is gone" in str(why_dead(other | {"beat": 0.0, "started": 1.0}, me))  # another process with its number
    away = other | {"host": "elsewhere", "beat": time.time() - claims.SILENCE + 30}
    assert why_dead(away, me) is None
    assert "silent" in str(why_dead(away | {"beat": time.time() - claims.SILENCE - 30}, me))
    assert why_dead(None, me) is not None


def test_signs_of_life_are_written_while_a_trial_runs(job: Job):
    study = start(job)
    trial = claim(study, job.place, me := Worker.here(), 1)
    assert trial is not None
    first = trial.user_attrs["worker"]["beat"]
    with sign_of_life(trial, me, every=0.01):
        while study.get_trials()[0].user_attrs["worker"]["beat"] == first:
            time.sleep(0.01)
    reclaim(study, me)
    assert tally(study)["lost"] == 1


def test_a_torn_last_line_is_cut_off_before_the_next_write(job: Job):
    study = start(job)
    work(replace(job, cap=2), 0, quick)
    file = Path(job.place.target)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker_id":"x","stu')
    assert work(job, 0, quick) == 4  # without the repair the next line would be glued on and the study unreadable
    assert file.read_bytes().startswith(whole + b'{"op')
    found, _ = open_existing(job.place.target)
    assert len(found.get_trials()) == 6
    assert study.study_name == found.study_name


def test_mend_finds_the_last_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kit.tune.storage.TAIL", 7)
    for text, kept in [
        (b"", b""),
        (b"abc", b""),
        (b"a\n", b"a\n"),
        (b"a\n" + b"b" * 50, b"a\n"),
        (b"ab\ncd\nx", b"ab\ncd\n"),
    ]:
        file = tmp_path / "j"
        file.write_bytes(text)
        assert mend(file) == len(kept)
        assert file.read_bytes() == kept


def test_a_full_disk_is_said_plainly_and_loses_nothing(job: Job):
    """A file size limit cuts a line in the middle, as a full disk does; with room again the same command goes on."""
    study = start(job)
    work(replace(job, cap=2), 0, quick)
    size = Path(job.place.target).stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 700, limits[1]))
    try:
        with pytest.raises(KitError, match=r"size limit|disk") as caught:
            work(job, 0, quick)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert is_full(caught.value)
    assert Path(job.place.target).read_bytes().endswith(b"\n")
    assert work(job, 0, quick) >= 4
    assert tally(study)["complete"] == 6


def test_a_failed_trial_says_why_and_the_search_goes_on(job: Job):
    class Sometimes(Toy):
        def __call__(self, trial: optuna.Trial):
            values = super().__call__(trial)
            if trial.number == 2:
                raise KitError("The profile would have 9999 columns.", "Fewer families.")
            if trial.number == 4:
                raise ZeroDivisionError("by zero")
            return values

    study = start(job)
    assert work(job, 0, Sometimes) == 6
    trials = study.get_trials()
    assert trials[2].user_attrs["reason"].startswith("The profile would have 9999 columns.")
    assert trials[4].user_attrs["reason"] == "ZeroDivisionError: by zero"
    assert "Traceback" in trials[4].user_attrs["traceback"]
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 4, TrialState.FAIL: 2}


def test_failing_defaults_end_the_search_at_once(job: Job):
    class Broken(Toy):
        def __call__(self, trial: optuna.Trial):
            raise ValueError("no such column")

    start(job)
    with pytest.raises(KitError, match=r"defaults fail: ValueError: no such column"):
        work(job, 0, Broken)


def test_ctrl_c_gives_the_trial_back(job: Job):
    class Stopped(Toy):
        def __call__(self, trial: optuna.Trial):
            raise KeyboardInterrupt

    study = start(job)
    with pytest.raises(KeyboardInterrupt):
        work(job, 0, Stopped)
    assert tally(study)["waiting"] == 1
    assert work(job, 0, quick) == 6
    assert is_first(study.get_trials()[1])


def test_stopping_on_purpose_is_no_sign_of_a_trial_that_kills(job: Job):
    class Stopped(Toy):
        def __call__(self, trial: optuna.Trial):
            raise KeyboardInterrupt

    study = start(job)
    for _ in range(TRIES + 2):
        with pytest.raises(KeyboardInterrupt):
            work(job, 0, Stopped)
    assert tally(study)["waiting"] == 1


def test_whoever_joins_during_the_first_trial_draws_other_values(job: Job):
    """Two machines that begin at once are both worker 0, and no trial has ended yet."""
    start(job)
    drawn = []
    for study in [join(job.space, job.place, 0) for _ in range(2)]:
        fresh = optuna.create_study(sampler=study.sampler)
        drawn.append(fresh.ask().suggest_float("x", 0, 1))
    assert drawn[0] != drawn[1]


def test_the_clock_stops_new_trials(job: Job):
    start(job)
    assert work(replace(job, stop_at=time.time() - 1), 0, quick) == 0


def test_a_grid_tries_every_combination_once_and_ends(job: Job):
    text = TOY.replace("low = 0.1, high = 2.0, log = true,", "low = 0.5, high = 1.5, step = 0.5,")
    text = text.replace('{ low = 1.0, high = 20.0, absent = true, default = "absent" }', "3.0")
    job = replace(job, space=parse_space(text, "t", {"sampler": "grid"}), cap=100)
    study = start(job)
    work(job, 0, quick)
    points = [tuple(sorted(trial.params.items())) for trial in study.get_trials()]
    assert len(points) == len(set(points)) == 3 * (1 + 2) * 4  # weight × (b off, b on × scale) × clip


@pytest.mark.parametrize("sampler", ["random", "cmaes", "tpe"])
def test_samplers_draw_reproducibly(toy_space, sampler: str):
    text = TOY + "[blocks.c]\nkind = 'stats'\nweight = { low = 0.1, high = 1.0, default = 0.5 }\n"
    space = parse_space(text, "t", {"sampler": sampler})

    def draw(stream: tuple[int, int]) -> float:
        study = optuna.create_study(sampler=make_sampler(space, stream))
        return study.ask().suggest_float("x", 0, 1)

    assert draw((0, 3)) == draw((0, 3))
    assert draw((0, 3)) != draw((1, 3))


def test_unsuitable_samplers_say_so(toy_space):
    only = "name = 'x'\n[blocks.a]\nkind = 'stats'\nscale = { choices = ['none', 'standard'], default = 'none' }\n"
    with pytest.raises(KitError, match="CMA-ES suits"):
        make_sampler(parse_space(only, "x", {"sampler": "cmaes"}), (0, 0))
    with pytest.raises(KitError, match="no step"):
        make_sampler(parse_space(TOY, "x", {"sampler": "grid"}), (0, 0))


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_place(None, "s").target.endswith("tune/s.journal")
    assert find_place("night", "s").target.endswith("tune/night.journal")
    assert find_place("v1.2", "s").target.endswith("tune/v1.2.journal")
    (tmp_path / "folder").mkdir()
    assert find_place("folder", "s").target.endswith("tune/folder.journal")
    assert find_place("a/b.journal", "s").target == "a/b.journal"
    url = StudyPlace("postgresql+psycopg://me:secret@host/db", "s")
    assert url.is_url
    assert "secret" not in url.shown
    with pytest.raises(KitError, match="There is no study 'nowhere'"):
        open_existing("nowhere")
    (tmp_path / "x.journal").write_text("hello\nworld\n")
    with pytest.raises(KitError, match="is no journal of a study"):
        open_existing("x.journal")
    with pytest.raises(KitError, match="cannot be opened"):
        StudyPlace("nosuchdb://x/y", "s").storage()


def test_two_journals_of_one_file_see_each_other(place: StudyPlace):
    one, two = (optuna.storages.JournalStorage(Journal(Path(place.target))) for _ in range(2))
    optuna.create_study(storage=one, study_name="x").enqueue_trial({"a": 1})
    assert len(optuna.load_study(storage=two, study_name="x").get_trials()) == 1


def test_sqlite_works_too(job: Job):
    job = replace(job, place=StudyPlace(f"sqlite:///{job.data}/s.db", "toy"), cap=4)
    study = start(job)
    assert work(job, 0, quick) == 4
    assert tally(study)["complete"] == 4


HOLD = (
    "import sys, time; from kit.tune.storage import StudyPlace, study_lock\n"
    "with study_lock(StudyPlace(sys.argv[1], 'x'), 'claim'): print('held', flush=True); time.sleep(60)"
)


def lock_outlives_nobody(target: str) -> None:
    """A process that is killed while it holds a study's lock does not keep it."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, target], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    with study_lock(StudyPlace(target, "x"), "claim"):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path: Path):
    lock_outlives_nobody(str(tmp_path / "x.journal"))


@pytest.mark.postgres
@pytest.mark.skipif("KIT_POSTGRES_URL" not in os.environ, reason="needs a server; KIT_POSTGRES_URL says where")
def test_postgres_with_three_workers_and_a_kill(job: Job):
    """KIT_POSTGRES_URL=postgresql+psycopg://USER@HOST/DATABASE pytest -m postgres tests/tune

    A server for it, from Debian's postgresql package and as an ordinary user:
        initdb -D DIR -A trust && pg_ctl -D DIR -o "-k DIR -h 127.0.0.1 -p 5433" start && createdb -h 127.0.0.1 -p 5433 kit
    """
    name = f"toy-{os.getpid()}-{time.time_ns()}"
    job = replace(job, place=StudyPlace(os.environ["KIT_POSTGRES_URL"], name), cap=11)
    lock_outlives_nobody(job.place.target)
    study = start(job)
    try:
        work(replace(job, cap=2), 0, quick)
        lost = claim(study, job.place, Worker.here(), 3)
        assert lost is not None
        run(job, 3, together)
        assert tally(study)["running"] == 1  # its owner, this process, lives
        assert tally(study)["complete"] == 10
        work(job, 0, quick)  # here it is known that nothing runs: the trial is run again
        assert tally(study) == {"waiting": 0, "running": 0, "complete": 11, "pruned": 0, "failed": 0, "lost": 1}
    finally:
        optuna.delete_study(study_name=name, storage=job.place.storage())
