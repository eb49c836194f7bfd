"""Builds filters."""

from __future__ import annotations

from functools import partial

from asyncflow.model.schema import Schema
from asyncflow.operators.filter import FilterOperator
from asyncflow.plan.stages.filter import Filter
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.compile_expressions import compile_predicate
from asyncflow.runtime.wiring.site import Site


def build(table: Filter, site: Site) -> Stage:
    return site.one_input(partial(operator, table))


def operator(table: Filter, read: Schema) -> FilterOperator:
    """The operator over rows of ``read``.  Raises ExpressionError for a condition that does not check."""
    return FilterOperator(compile_predicate(table.where, read), read)
