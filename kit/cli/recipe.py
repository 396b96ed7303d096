"""`kit recipe show`, `check`, `diff` and `schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import JsonOption, print_json, report_findings

app = typer.Typer(no_args_is_help=True, help="Look at recipes: written out in full, checked, compared; their schema.")
RecipeArgument = Annotated[Path, typer.Argument(help="A recipe, such as pipelines/stats.toml.")]


@app.command()
def show(recipe: RecipeArgument, as_json: JsonOption = False) -> None:
    """Print a recipe with every default filled in, as TOML.

    Example: kit recipe show pipelines/stats.toml
    """
    import tomli_w

    from kit.recipe import read_recipe
    from kit.submission.recipes import resolved

    whole = resolved(read_recipe(recipe))
    if as_json:
        print_json(whole)
    else:
        typer.echo(tomli_w.dumps(whole), nl=False)


@app.command()
def check(
    recipe: RecipeArgument,
    data: Annotated[
        Path | None, typer.Option("--data", help="Also say how many columns each block has on this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with a recipe at once, with the nearest valid names. Exit 1 on an error.

    Example: kit recipe check pipelines/stats.toml --data data/small
    """
    from kit.submission.recipes import check_recipe

    report_findings(check_recipe(recipe, data), str(recipe), as_json)


@app.command()
def diff(
    first: RecipeArgument,
    second: Annotated[Path, typer.Argument(help="Another recipe.")],
    as_json: JsonOption = False,
) -> None:
    """Say what changes from one recipe to another, defaults filled in. Exit 1 if anything does.

    Example: kit recipe diff pipelines/stats.toml pipelines/blend.toml
    """
    from kit.recipe import read_recipe
    from kit.submission.recipes import differences

    lines = differences(read_recipe(first), read_recipe(second))
    if as_json:
        print_json({"equal": not lines, "differences": lines})
    else:
        for line in lines or ["no difference"]:
            typer.echo(line)
    raise typer.Exit(1 if lines else 0)


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a reference to read instead of JSON.")] = False,
) -> None:
    """Print the JSON schema of recipes with every block's settings; editors complete and check TOML files by it.

    Example: kit recipe schema > recipe.schema.json
    """
    from kit.submission.recipes import json_schema
    from kit.submission.reference import recipe_reference

    if markdown:
        typer.echo(recipe_reference(), nl=False)
    else:
        print_json(json_schema())
