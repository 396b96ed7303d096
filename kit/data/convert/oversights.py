"""Values that no rule names, and those that are nearly a rule's word: BUY beside buy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from kit.data.convert.mapping import Keep
from kit.data.convert.normal import of_count, whole
from kit.data.convert.rules import WORDS, operands_of

FREQUENT = 5
"""So many values are shown."""


def frequent(rows: pl.LazyFrame, text: pl.Expr) -> list[tuple[str | None, int]]:
    """The most frequent values of a column and how often they occur; ties in the order of the text."""
    counted = rows.group_by(value=text).len()
    ordered = counted.sort(["len", "value"], descending=[True, False], nulls_last=True).head(FREQUENT)
    return ordered.collect(engine="streaming").rows()


def words_in(rule: Keep) -> list[str]:
    """The words that a rule compares cells with."""
    return [word for name in WORDS for word in operands_of(rule, name)]


def near_misses(rows: pl.LazyFrame, rules: Sequence[Keep], text: Callable[[str], pl.Expr], label: str) -> list[str]:
    """What looks like an oversight: values that differ from a word of a rule by case, spaces, - or _ alone.

    Args:
        rows: all rows of a source.
        rules: all rules on it.
        text: column → its cells as text.
        label: names the source.
    """
    said: list[str] = []
    for column in dict.fromkeys(rule.column for rule in rules if words_in(rule)):
        about = [rule for rule in rules if rule.column == column and words_in(rule)]
        if any(rule.ignore_case or isinstance(rule.equals, bool) for rule in about):
            continue
        words = sorted({word for rule in about for word in words_in(rule)})
        listed = pl.DataFrame({"word": words}).select(key=_key(pl.col("word")), same=whole(pl.col("word")))
        near = _key(text(column)).is_in(listed["key"].to_list())
        same = whole(text(column)).is_in(listed["same"].to_list())
        for value, count in frequent(rows.filter(near & ~same), text(column)):
            word = min(words, key=lambda word: (word.casefold() != str(value).casefold(), word))
            said.append(
                f"{of_count(count, 'row')} of {label} with {column} = {value!r}: it is not the {word!r} of a rule; say "
                "`ignore_case = true` in the rule, or name both, if it means the same"
            )
    return said


def _key(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all(r"[\s_-]", "")
