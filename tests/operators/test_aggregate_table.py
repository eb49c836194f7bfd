"""The one table of aggregates: the kernel, its twin, the signatures of the language and the operators agree with it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import asyncflow
from asyncflow._kernels.accumulators import reference
from asyncflow._kernels.accumulators.table import AGGREGATES, OF_TEXTS, laid_out, result_kind
from asyncflow.model.schema import DataType, Schema
from asyncflow.operators.aggregates.table import AggregateSpec
from asyncflow.plan.expressions.functions import AGGREGATES as SIGNATURES
from asyncflow.plan.expressions.nodes import Aggregate, ColumnRef, Literal
from asyncflow.plan.expressions.typing import resolve_expression

SCHEMA = Schema.of((type_.value, type_) for type_ in DataType)
OF_THE_LANGUAGE_ALONE = {"median": "quantile"}


def listed(macro: str) -> set[str]:
    """The names in one of the lists of list.h."""
    text = Path(asyncflow.__file__).with_name("_kernels").joinpath("accumulators/list.h").read_text()
    lines = text[text.index(f"#define {macro}(LINE)") :].split("\n\n")[0]
    return set(re.findall(r"LINE\((\w+), \w+\)", lines))


def test_families_and_results_are_those_of_the_list_and_the_twin() -> None:
    rules = [*AGGREGATES.values(), *OF_TEXTS.values()]
    assert {rule.family for rule in rules} == listed("AF_FAMILIES") == set(reference.FAMILIES)
    assert {rule.result for rule in rules} | {"ROWS_ALL"} == listed("AF_RESULTS")
    assert set(reference.RESULTS) == listed("AF_RESULTS") - {"ROWS_ALL"}


def test_the_language_has_each_aggregate_of_the_table() -> None:
    assert set(SIGNATURES) - set(OF_THE_LANGUAGE_ALONE) == set(AGGREGATES) - {"count_distinct"}


@pytest.mark.parametrize("function", list(AGGREGATES))
def test_the_types_that_a_signature_gives_are_those_of_the_table(function: str) -> None:
    rule = AGGREGATES[function]
    constants = (
        ()
        if rule.constant is None
        else (Literal(rule.constant[1], DataType.INT64 if function == "approx_top_k" else DataType.FLOAT64),)
    )
    checked = 0
    for types in itertools.product(*(sorted(allowed) for allowed in rule.takes)):
        name, distinct = ("count", True) if function == "count_distinct" else (function, False)
        node = Aggregate(name, (*map(ColumnRef, types), *constants), distinct)
        tree = resolve_expression(node, SCHEMA, aggregates=True)
        given = tuple(arg.type.value for arg in tree.args)  # after casts
        assert tree.type.value == result_kind(function, given)
        spec = AggregateSpec(
            function, tuple(range(len(given))), tuple(map(DataType, given)), None, tree.value.constant
        )
        assert spec.result_type == tree.type
        laid_out([spec.raw])
        checked += 1
    assert checked


def test_what_no_aggregate_takes_is_refused() -> None:
    for function, types, constant in (
        ("sum", (DataType.STRING,), None),
        ("corr", (DataType.INT64,), None),
        ("quantile", (DataType.FLOAT64,), 2.0),
        ("sum", (DataType.INT64,), 0.5),
        ("nothing", (), None),
    ):
        with pytest.raises(ValueError, match=function):
            AggregateSpec(function, tuple(range(len(types))), types, None, constant)
