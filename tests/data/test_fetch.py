"""`kit data fetch` against a loopback server that misbehaves in every way that was reported of the real one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from rude_server import Manners, serving
from toy import write_folder
from typer.testing import CliRunner

from kit.cli.main import app
from kit.data.fetch import ARCHIVES, Archive, Patience, download, fetch, unpack
from kit.data.fetch.fetch import require_space
from kit.errors import KitError

BODY = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Waits(list[float]):
    """Pauses asked for, not taken."""


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def patience(waits: Waits) -> Patience:
    return Patience(attempts=4, sleep=waits.append)


def get(
    manners: Manners, target: Path, patience: Patience, size: int | None = len(BODY), sha: str | None = SHA
) -> bytes:
    with serving(manners) as url:
        return download(url + "file", target, size, sha, patience).read_bytes()


def test_drops_are_continued_by_range(tmp_path: Path, patience: Patience, waits: Waits):
    manners = Manners(BODY, drop_after=[100_000, 50_000, 1])
    assert get(manners, tmp_path / "f", patience) == BODY
    assert manners.seen == ["", "bytes=100000-", "bytes=150000-", "bytes=150001-"]
    assert manners.sent == len(BODY)  # not a byte twice
    assert waits == [1.0, 1.0, 1.0]  # progress starts the back-off anew
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_server_without_ranges_is_compared_not_rewritten(tmp_path: Path, patience: Patience, waits: Waits):
    """Each answer starts at byte 0 and breaks off; the file grows whenever one gets further."""
    manners = Manners(BODY, ranges=False, drop_after=[80_000, 40_000, 200_000])
    assert get(manners, tmp_path / "f", patience) == BODY
    assert waits == [1.0, 1.0, 1.0]
    assert len(manners.seen) == 4


def test_back_off_doubles_and_gives_up_with_what_is_kept(tmp_path: Path, patience: Patience, waits: Waits):
    manners = Manners(BODY, ranges=False, drop_after=[90_000] * 9)
    with pytest.raises(KitError, match="90,000 bytes are kept"):
        get(manners, tmp_path / "f", patience)
    assert waits == [1.0, 1.0, 2.0, 4.0]
    assert (tmp_path / "f.part").read_bytes() == BODY[:90_000]
    assert get(Manners(BODY), tmp_path / "f", patience) == BODY


def test_errors_pass(tmp_path: Path, patience: Patience, waits: Waits):
    assert get(Manners(BODY, errors=[404, 500, 503]), tmp_path / "f", patience) == BODY
    assert waits == [1.0, 2.0, 4.0]


def test_errors_that_stay_are_told(tmp_path: Path, patience: Patience):
    with pytest.raises(KitError, match="answered 404"):
        get(Manners(BODY, errors=[404] * 9), tmp_path / "f", patience)


def test_nobody_there(tmp_path: Path, patience: Patience):
    with serving(Manners(BODY)) as url:
        pass
    with pytest.raises(KitError, match="there is no connection"):
        download(url + "file", tmp_path / "f", patience=patience)


def test_another_size_is_refused_before_the_download(tmp_path: Path, patience: Patience):
    manners = Manners(BODY)
    with pytest.raises(KitError, match=r"300,000 bytes; 400,000 are known"):
        get(manners, tmp_path / "f", patience, size=400_000)
    assert len(manners.seen) == 1
    assert not (tmp_path / "f").exists()


def test_a_promise_that_is_not_kept(tmp_path: Path, patience: Patience):
    """Content-Length says more than ever comes: the connection `drops` for ever."""
    with pytest.raises(KitError, match="without a new byte"):
        get(
            Manners(BODY, ranges=False, declared=400_000, drop_after=[len(BODY)] * 9),
            tmp_path / "f",
            patience,
            None,
            None,
        )


def test_a_server_that_falls_silent(tmp_path: Path, waits: Waits):
    """Everything but the last byte, then nothing, with the connection open."""
    manners = Manners(BODY, ranges=False, declared=len(BODY) + 1)
    impatient = Patience(attempts=2, sleep=waits.append, timeouts=(5.0, 0.2))
    with pytest.raises(KitError, match="did not answer in time"):
        get(manners, tmp_path / "f", impatient, len(BODY) + 1, None)
    assert (tmp_path / "f.part").read_bytes() == BODY


def test_starting_anew_for_ever_is_no_progress(tmp_path: Path, patience: Patience):
    """The file is one byte shorter than it should be, which only partial answers admit: every second attempt starts anew."""
    manners = Manners(BODY, declared=len(BODY) + 1, drop_after=[len(BODY)] * 99)
    with pytest.raises(KitError, match="without a new byte"):
        get(manners, tmp_path / "f", patience, len(BODY) + 1, None)


def test_a_wrong_checksum_removes_the_file(tmp_path: Path, patience: Patience):
    altered = bytes([BODY[0] ^ 1]) + BODY[1:]
    with pytest.raises(KitError, match="damaged: its sha256"):
        get(Manners(altered), tmp_path / "f", patience)
    assert list(tmp_path.glob("f*")) == [] or [path.name for path in tmp_path.glob("f*")] == ["f.part.lock"]
    assert get(Manners(BODY), tmp_path / "f", patience) == BODY


def test_a_file_replaced_between_two_attempts(tmp_path: Path, patience: Patience):
    """The tag of the first half no longer holds: the server sends the new file whole, and it replaces the old half."""
    (tmp_path / "f.part").write_bytes(b"old" * 10_000)
    (tmp_path / "f.part.etag").write_text('"one"')
    assert get(Manners(BODY, etag='"two"'), tmp_path / "f", patience) == BODY


@pytest.mark.parametrize("kept", [b"other bytes", BODY[:7] + b"x" * 500, BODY + b"more", BODY])
def test_any_part_left_behind_ends_well(tmp_path: Path, patience: Patience, kept: bytes):
    for ranges in (False, True):
        if ranges and kept != BODY and not kept.startswith(BODY):
            continue  # only the checksum can tell: covered below
        (tmp_path / "f.part").write_bytes(kept)
        assert get(Manners(BODY, ranges=ranges), tmp_path / "f", patience) == BODY
        (tmp_path / "f").unlink()


def test_a_kept_file_of_the_right_size_and_other_bytes_is_brought_again(
    tmp_path: Path, patience: Patience, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "f"
    path.write_bytes(BODY)
    manners = Manners(BODY)
    assert get(manners, path, patience) == BODY and not manners.seen
    path.write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert get(manners, path, patience) == BODY and manners.seen
    assert "has the right size and other bytes than were published" in capsys.readouterr().err


def test_without_a_known_size_the_server_is_believed(tmp_path: Path, patience: Patience):
    (tmp_path / "f.part").write_bytes(BODY)
    manners = Manners(BODY)
    assert get(manners, tmp_path / "f", patience, None, None) == BODY
    assert manners.sent == 0  # 416 and the total: it was whole


def test_a_shifted_range_is_noticed(tmp_path: Path, patience: Patience):
    (tmp_path / "f.part").write_bytes(BODY[:1000])
    manners = Manners(BODY, shifted=True)
    assert get(manners, tmp_path / "f", patience) == BODY


def test_killed_in_the_middle_it_goes_on(tmp_path: Path, patience: Patience):
    """kill -9 while bytes arrive; what is on disk is a prefix and the next run asks for the rest."""
    code = (
        "import sys; from pathlib import Path; from kit.data.fetch import download\n"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    body = random.Random(1).randbytes(3_000_000)
    manners = Manners(body, declared=len(body) + 1)  # the last byte never comes, so the child waits for it
    with serving(manners) as url:
        child = subprocess.Popen([sys.executable, "-c", code, url + "file", str(tmp_path / "f")])
        part = tmp_path / "f.part"
        for _ in range(600):
            if part.exists() and part.stat().st_size > 1_000_000:
                break
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        kept = part.stat().st_size
        assert body.startswith(part.read_bytes())
        manners.declared = None
        before = manners.sent
        assert download(url + "file", tmp_path / "f", len(body), patience=patience).read_bytes() == body
        assert manners.sent - before == len(body) - kept


# ---- unpacking


def archive_of(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


GOOD = ("d/product_buy.parquet", b"rows")


@pytest.mark.parametrize(
    "bad",
    [
        ("../escaped", b"x"),
        ("d/../../escaped", b"x"),
        ("/kit-escaped", b"x"),
        special("d/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("d/link", tarfile.SYMTYPE, "product_buy.parquet"),
        special("d/hard", tarfile.LNKTYPE, "../../escaped"),
        special("d/device", tarfile.CHRTYPE),
        special("d/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: member[0] if isinstance(member, tuple) else f"{member.name}-{member.type.decode()}",
)
def test_malicious_members_are_refused_whole(tmp_path: Path, bad):
    root = tmp_path / "in" / "root"
    root.mkdir(parents=True)
    archive = archive_of(root / "a.tar.gz", [GOOD, bad])
    absolute = isinstance(bad, tuple) and bad[0].startswith("/")
    if absolute:  # the leading slash is taken off: the file lands inside, and beside the data it is left behind
        unpack(archive, root)
        assert not Path(bad[0]).exists()
    else:
        with pytest.raises(KitError, match="refused"):
            unpack(archive, root)
        assert [path.name for path in root.rglob("*")] == ["a.tar.gz"]
    assert not list(tmp_path.rglob("escaped"))


def test_a_bomb_is_refused(tmp_path: Path):
    archive = archive_of(tmp_path / "a.tar.gz", [GOOD, ("d/zeros", bytes(20_000_000))])
    with pytest.raises(KitError, match="times its size"):
        unpack(archive, tmp_path / "root")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_told_and_leaves_nothing(tmp_path: Path, keep: float):
    whole = archive_of(tmp_path / "w.tar.gz", [GOOD, ("d/other", BODY)]).read_bytes()
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(KitError, match=r"damaged or cut short|holds no product_buy"):
        unpack(archive, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_the_folder_around_the_data_and_litter_are_taken_off(tmp_path: Path):
    members = [
        ("top/x/product_buy.parquet", b"rows"),
        ("top/x/._product_buy.parquet", b"?"),
        ("top/x/input/a.npy", b"a"),
    ]
    files = unpack(archive_of(tmp_path / "a.tar.gz", members), tmp_path / "root")
    assert [path.relative_to(tmp_path / "root").as_posix() for path in files] == ["input/a.npy", "product_buy.parquet"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("unpacked")] == []


def test_something_else_is_told(tmp_path: Path):
    with pytest.raises(KitError, match="holds no product_buy"):
        unpack(archive_of(tmp_path / "a.tar.gz", [("readme", b"hello")]), tmp_path / "root")


# ---- the whole command


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tar.gz of a toy folder under `dataset/`."""
    folder = write_folder(tmp_path_factory.mktemp("fetched") / "dataset")
    path = folder.parent / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "dataset")
    return path.read_bytes()


@pytest.fixture
def known(dataset: bytes, monkeypatch: pytest.MonkeyPatch) -> Archive:
    archive = Archive("raw.tar.gz", "a toy", len(dataset), hashlib.sha256(dataset).hexdigest())
    monkeypatch.setitem(ARCHIVES, "raw", archive)
    return archive


def run(*arguments: str):
    return CliRunner().invoke(app, ["data", "fetch", *arguments])


def test_fetch_to_a_checked_folder(tmp_path: Path, dataset: bytes, known: Archive):
    root = tmp_path / "data"
    with serving(Manners(dataset)) as url:
        done = run(str(root), "--which", "raw", "--base-url", url, "--yes", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["ok"] is True
        assert "CC BY-NC 4.0" in done.stderr
        note = json.loads((root / "fetched.json").read_text())
        assert (note["archive"], note["bytes"], note["licence"]) == (known.name, known.size, "CC BY-NC 4.0")
        assert "Synerise" in (root / "LICENCE-DATA.txt").read_text()
        assert not (root / ".fetch").exists()
    again = run(str(root), "--which", "raw", "--base-url", "http://127.0.0.1:9/", "--yes")  # nobody is asked any more
    assert again.exit_code == 0
    assert "already" in again.stderr


def test_without_yes_nothing_is_asked_for(tmp_path: Path, known: Archive):
    manners = Manners(b"")
    with serving(manners) as url:
        done = run(str(tmp_path / "data"), "--which", "raw", "--base-url", url)
    assert isinstance(done.exception, KitError)
    assert "licence was not accepted" in done.exception.what
    assert manners.seen == []
    assert "CC BY-NC 4.0" in done.stderr


def test_an_unknown_archive_names_the_known_ones(tmp_path: Path):
    done = run(str(tmp_path / "data"), "--which", "row", "--yes")
    assert isinstance(done.exception, KitError)
    assert "did you mean 'raw'?" in str(done.exception)


def test_a_data_folder_in_the_way_is_left_alone(tmp_path: Path, known: Archive):
    root = write_folder(tmp_path / "mine")
    with pytest.raises(KitError, match="already holds a data folder"):
        fetch(root, known, "http://127.0.0.1:9/")


def test_killed_while_files_move_into_place(tmp_path: Path, dataset: bytes, known: Archive, monkeypatch):
    root, moved = tmp_path / "data", []
    real = os.replace

    def dies(source, target):
        if Path(target).suffix == ".parquet":
            moved.append(target)
            if len(moved) == 3:
                raise KeyboardInterrupt
        real(source, target)

    with serving(Manners(dataset)) as url:
        monkeypatch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            fetch(root, known, url)
        monkeypatch.undo()
        assert not (root / "fetched.json").exists()
    assert fetch(root, known, "http://127.0.0.1:9/")  # the archive is there: nothing is downloaded
    assert len(list(root.glob("*.parquet"))) == 6


def test_a_damaged_archive_is_not_kept(tmp_path: Path, dataset: bytes):
    cut = dataset[:-3000]
    archive = Archive("raw.tar.gz", "a toy", None)
    with serving(Manners(cut)) as url, pytest.raises(KitError, match="damaged or cut short"):
        fetch(tmp_path / "data", archive, url)
    with serving(Manners(dataset)) as url:
        assert fetch(tmp_path / "data", archive, url)


def test_disk_space_is_checked_beforehand(tmp_path: Path):
    huge = Archive("huge.tar.gz", "too much", 10**18)
    with pytest.raises(KitError, match="GB free"):
        require_space(tmp_path / "not" / "yet", huge, tmp_path / "huge.tar.gz")
    manners = Manners(b"")
    with serving(manners) as url, pytest.raises(KitError, match="GB free"):
        fetch(tmp_path / "data", huge, url)
    assert manners.seen == []
