"""``asyncflow agg``: the one-liner."""

from __future__ import annotations

from typing import Any

import click

from asyncflow.cli.options import files, run_options
from asyncflow.cli.plain import AGG_DEFAULTS
from asyncflow.cli.running import aggregate


@click.command()
@click.argument("aggregates", nargs=-1, metavar="[AGG]...")
@click.option(
    "--by", default=AGG_DEFAULTS["by"], metavar="COLS", help="Key columns: host,level or name=expression."
)
@click.option("--window", metavar="D", help="Length of the windows: 10s, 1m; left out: one over everything.")
@click.option("--hop", metavar="D", help="How far apart windows start; left out: one after another.")
@click.option("--session", metavar="D", help="Gap that ends a session.")
@click.option(
    "--time",
    metavar="COL[:unit]",
    help="Event-time column, with its unit (s ms us ns) where it is a number; left out: the time of arrival.",
)
@click.option("--delay", metavar="D", help="How late rows may come (watermark delay).")
@click.option("--where", metavar="EXPR", help="Keep only rows for which this is true.")
@click.option(
    "--input",
    "inputs",
    shell_complete=files,
    multiple=True,
    metavar="FILE",
    help="Read this file or glob instead of stdin; may be repeated.",
)
@click.option(
    "--format", metavar="F", help="csv, json, lines, ...; left out: told from the name or the first bytes."
)
@click.option(
    "--output", default=AGG_DEFAULTS["output"], show_default=True, metavar="F", help="json, csv or table."
)
@run_options
def agg(aggregates: tuple[str, ...], **options: Any) -> int:
    """Aggregate what comes on stdin (or in files) in one line: the schema is inferred.

    tail -F app.ndjson | asyncflow agg --by host --window 10s --time ts 'n=count(*)' 'slowest=max(ms)'
    """
    return aggregate(aggregates, **options)
