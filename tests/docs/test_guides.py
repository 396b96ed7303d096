"""The guides are run, block by block; the reference is what the program would write; every command named anywhere exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from functools import cache
from pathlib import Path

import pytest
from fresh import python
from guide import Block, blocks, commands

from kit.cli import reference
from kit.data.shop import synth
from kit.data.split import split_folder
from kit.submission.recipes import check_recipe
from kit.submission.reference import recipe_reference

ROOT = Path(__file__).parents[2]
NOT_RUN = {"README.md", "measured.md", "start.md", "techniques.md"}
"""A list of pages; figures and the commands behind them, hours of work; what `test_the_first_hour` runs at the tiny size."""
GUIDES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in NOT_RUN)
GUIDE = (Path(__file__).parent / "guide.py").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "pipelines" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "measured").glob("*.md")),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("guides") / "tiny"
    synth(root, "tiny", 0)
    split_folder(root)
    return root


@pytest.fixture
def desk(tmp_path: Path, shop: Path) -> Path:
    """A working folder with a copy of the package, so that a guide may add files to it, and data/tiny. What Python has compiled
    comes along: it knows by the time of each file whether it is still that of it."""
    shutil.copytree(ROOT / "kit", tmp_path / "kit")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(shop)
    return tmp_path


def perform(todo: list[Block], desk: Path) -> None:
    """Perform blocks in a process of their own, as long as they work; AssertionError with the output if one fails."""
    told = json.dumps([(block.language, block.file, block.text) for block in todo])
    done = python(desk, GUIDE, told, path=desk, environment={"PYTHONPATH": str(desk)})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_the_guide_works(path: Path, desk: Path):
    todo = [block for block in blocks(path) if block.language in ("python", "sh") or block.file]
    assert todo
    perform(todo, desk)


def test_the_guides_are_found():
    assert [path.stem for path in GUIDES] == [
        "keeping",
        "own-block",
        "own-data",
        "own-features",
        "own-package",
        "own-task",
    ]


def test_a_block_that_fails_is_noticed(desk: Path):
    fine = Block("toml", "fine.toml", "")
    for bad, says in (
        (Block("sh", None, "kit recipe check nowhere.toml"), "There is no recipe .nowhere.toml"),
        (Block("sh", None, "kit status --nowhere"), "kit status --nowhere: exit 2"),
        (Block("python", None, "assert 1 == 2"), "assert 1 == 2"),
        (Block("python", None, "import kit; import_of_another_block"), "NameError"),
        (Block("toml", "kit/py.typed", ""), "there already"),
    ):
        with pytest.raises(AssertionError, match=says):
            perform([Block("python", None, "import_of_another_block = 1"), bad, fine], desk)
        assert not (desk / "fine.toml").exists()
    with pytest.raises(AssertionError, match="comes too late"):
        perform([Block("python", None, "import kit"), Block("python", "kit/late.py", "")], desk)
    with pytest.raises(ValueError, match="something else"):
        commands("rm -r everything")


@pytest.mark.parametrize(
    ("file", "text"),
    [("commands.md", reference.command_reference), ("recipes.md", recipe_reference)],
    ids=["commands", "recipes"],
)
def test_the_reference_is_up_to_date(file: str, text):
    written = (ROOT / "docs" / "reference" / file).read_text(encoding="utf-8")
    assert written == text(), "run: python -m kit.cli.reference docs/reference"


def named_commands(text: str) -> list[str]:
    """`kit …` in running text and tables, and lines of shell blocks."""
    spans = re.findall(r"(?<!`)`(kit [^`\n]+)`(?!`)", text)
    lines = [
        line.strip()
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    return spans + [line for line in lines if line.startswith("kit ")]


@cache
def known_commands() -> dict[str, set[str]]:
    """Command → its options."""
    return {name: reference.options_of(command) for name, command, _ in reference.commands()}


def wrong_command(text: str) -> str | None:
    """What is wrong with a command line, or None: a command or an option that does not exist."""
    known = known_commands()
    groups = {name.rsplit(" ", 1)[0] for name in known if name.count(" ") > 1}
    words = shlex.split(text, comments=True)
    options = {word.split("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
    plain = [word for word in words if not word.startswith("-")]
    name = " ".join(plain[: 3 if " ".join(plain[:2]) in groups else 2])
    if plain[1] == "tune" and name not in known and re.search(r"RECIPE|\.toml", name):
        name = "kit tune run"  # `kit tune RECIPE` is short for it
    if name not in known and name not in groups:
        return f"there is no command {name!r}"
    unknown = options - known.get(name, set()) - {"--help"}
    return f"{name} has no option {sorted(unknown)}" if unknown else None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_named_exists_with_its_options(path: Path):
    found = named_commands(path.read_text(encoding="utf-8"))
    assert found or path.name == "README.md" or path.parent.name == "measured"
    assert [fault for text in found if (fault := wrong_command(text))] == []


@pytest.mark.parametrize("text", ["kit submti r.toml", "kit data syth DIR", "kit submit r.toml --dta x", "kit recipe"])
def test_a_command_that_does_not_exist_is_noticed(text: str):
    assert (wrong_command(text) is None) == (text == "kit recipe")


def test_every_command_is_in_the_reference():
    text = reference.command_reference()
    for name, command, _ in reference.commands():
        assert f"## `{name}`" in text
        assert name == "kit" or "Example: kit" in (command.help or ""), f"`{name} --help` shows no example"


def test_the_recipe_of_the_pipelines_page_is_sound(tmp_path: Path):
    first = next(block for block in blocks(ROOT / "pipelines" / "README.md") if block.language == "toml")
    (tmp_path / "r.toml").write_text(first.text)
    assert check_recipe(tmp_path / "r.toml") == []


@pytest.mark.slow
def test_the_first_hour_of_the_start_page(tmp_path: Path, shop: Path):
    """Its commands at the tiny preset, learning little, with the scoring of one task: as they stand, but for the size."""
    lines = [
        line.replace("small", "tiny") + (" --task conversion" if line.startswith("kit score") else "")
        for block in blocks(ROOT / "docs" / "start.md")
        if block.language == "sh" and "kit data synth" in block.text
        for line in block.text.splitlines()
        if line.startswith("kit ") and not line.startswith("kit data synth")
    ]
    assert [line.split()[1] for line in lines] == ["data", "submit", "validate", "score", "report"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(shop)
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    blend = tmp_path / "pipelines" / "blend.toml"
    blend.write_text(blend.read_text().replace('kind = "combined"', 'kind = "combined"\ncuts = 1\nlearners = 300'))
    (tmp_path / "kit").symlink_to(ROOT / "kit")
    perform([Block("sh", None, "\n".join(line.split(" #")[0] for line in lines))], tmp_path)
