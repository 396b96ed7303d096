"""Prepares docs/ for the site's builder, and finds dead links in every page of the repository.

    python docs/pages.py BUILD      a copy of docs/ in BUILD/docs with the recipes' page; links to files that are no pages
                                    become their names
    python docs/pages.py --check    exit 1 if a link or an anchor leads nowhere

`make docs` runs both and the builder, offline.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
RECIPES = ROOT / "pipelines" / "README.md"
"""A page that lives beside the recipes; on the site it is recipes.md."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
FENCES = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Every Markdown page that is written by hand or by `make reference`."""
    tops = [
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LEADERBOARD.md", "submissions/README.md")
    ]
    return [path for path in [*tops, RECIPES, *sorted(DOCS.rglob("*.md"))] if path.exists()]


def anchors(path: Path) -> set[str]:
    """Anchors of a page's heads, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", FENCES.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    times: Counter[str] = Counter()
    found = set()
    for head in heads:
        plain = LINK.sub(r"\2", head)
        name = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(f"{name}-{times[name]}" if times[name] else name)
        times[name] += 1
    return found


def dead_in(path: Path) -> list[str]:
    """Links and images of a page that lead nowhere; those to other hosts are not looked at."""
    dead = []
    for _, _, target in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = path.parent / file if file else path
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            dead.append(target)
    return dead


def dead_links() -> list[str]:
    """`page: link` for all of them."""
    return [f"{path.relative_to(ROOT)}: {link}" for path in pages() for link in dead_in(path)]


def staged(path: Path, at: Path) -> str:
    """A page's text for the site: links follow pages that moved, and leave files that are not on it.

    Args:
        path: the page in the repository.
        at: its place on the site, relative to the site's docs.
    """

    def follow(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        file, _, anchor = target.partition("#")
        if re.match(r"\w+:", target) or not file:
            return found[0]
        place = (path.parent / file).resolve()
        if place == RECIPES:
            site = Path("recipes.md")
        elif place.is_relative_to(DOCS) and place.is_file():
            site = place.relative_to(DOCS)
        else:
            return text
        moved = os.path.relpath(site, at.parent)
        return f"{image}[{text}]({moved}{'#' + anchor if anchor else ''})"

    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    text = LINK.sub(follow, FENCES.sub(keep, path.read_text(encoding="utf-8")))
    return re.sub("\0(\\d+)\0", lambda found: kept[int(found[1])], text)


def stage(build: Path) -> None:
    """Write BUILD/docs anew."""
    target = build / "docs"
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(DOCS, target, ignore=shutil.ignore_patterns("__pycache__", "*.toml", "figures.py", "pages.py"))
    for path in [*sorted(DOCS.rglob("*.md")), RECIPES]:
        at = Path("recipes.md") if path == RECIPES else path.relative_to(DOCS)
        (target / at).write_text(staged(path, at), encoding="utf-8")
    shutil.copy(DOCS / "zensical.toml", build / "zensical.toml")


if __name__ == "__main__":
    if dead := dead_links():
        sys.exit("dead links:\n  " + "\n  ".join(dead))
    if sys.argv[1:] != ["--check"]:
        stage(Path(sys.argv[1]))
