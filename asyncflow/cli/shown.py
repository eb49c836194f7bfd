"""``asyncflow explain``, ``infer``, ``list`` and ``schema``: what is printed of a pipeline, of data, and of what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from asyncflow.cli.options import FILE, OVERRIDES, VERBOSE

if TYPE_CHECKING:
    from asyncflow.model.schema import Schema
    from asyncflow.plan.tables import Plan, Source


@click.command()
@FILE
@OVERRIDES
@click.option(
    "--as",
    "form",
    type=click.Choice(["tree", "mermaid", "json"]),
    default="tree",
    show_default=True,
    help="How to print it.",
)
@VERBOSE
def explain(file: str, overrides: tuple[str, ...], form: str, verbose: bool) -> int:
    """Print the plan of the pipeline FILE: tables, schemas, which columns are read, where state is held."""
    from asyncflow.doors.pipeline_file.toml import load
    from asyncflow.plan.explain import explain as explained

    plan = load(Path(file), overrides=overrides)
    click.echo(explained(plan, form, _inferred(plan)))
    return 0


def _inferred(plan: Plan) -> dict[str, Schema]:
    """The schemas that the plan leaves out and that can be read without waiting and without loss: those of files."""
    from msgspec.structs import replace

    from asyncflow.doors.components import check as problems_of
    from asyncflow.errors import AsyncflowError, PipelineError

    left_out = tuple(each for each in plan.sources if each.schema is None and _waits_for_nobody(each))
    if not left_out:
        return {}
    from asyncflow.runtime import infer_schemas
    from asyncflow.runtime.base.loop import run_in_loop

    try:
        inferred = run_in_loop(lambda: infer_schemas(replace(plan, sources=left_out)))
    except AsyncflowError:
        return {}
    if problems := problems_of(plan, inferred):
        raise PipelineError(problems)
    return inferred


def _waits_for_nobody(source: Source) -> bool:
    from asyncflow.plan import capabilities

    can = capabilities.of_source(source.connector)
    return bool(can.bounded and can.rereadable)


@click.command()
@FILE
@click.option(
    "--format", metavar="F", help="csv, json, ...; left out: told from the name or the first bytes."
)
@VERBOSE
def infer(file: str, format: str | None, verbose: bool) -> int:
    """Print a ready pipeline file for the data in FILE."""
    from asyncflow.doors.pipeline_file.inferred import pipeline_text, source_plan
    from asyncflow.runtime.base.loop import run_in_loop
    from asyncflow.runtime.checks.sample import sample

    plan = source_plan(file, format)
    click.echo(pipeline_text(file, *run_in_loop(lambda: sample(plan))), nl=False)
    return 0


@click.command(name="list")
@click.argument(
    "kinds",
    nargs=-1,
    type=click.Choice(["pipeline", "sources", "stages", "sinks", "formats", "aggregates", "functions"]),
)
def list_(kinds: tuple[str, ...]) -> int:
    """List what there is, with options: the keys of a pipeline, sources, stages, sinks, formats, aggregates, functions."""
    from asyncflow.doors.pipeline_file import catalog

    for position, kind in enumerate(kinds or catalog.KINDS):
        if position:
            click.echo()
        click.echo("\n".join(catalog.text(kind)))
    return 0


@click.command()
def schema() -> int:
    """Print the JSON Schema of the pipeline file, for editors."""
    import json

    from asyncflow.doors.pipeline_file.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    return 0
