"""Which tables send a row again when it has changed, and whether a stage that reads them may.

A window with ``allowed_lateness`` or ``emit`` sends each of its rows once per revision.  Another window over them would count them more
than once, unless a filter leaves the final ones only.
"""

from __future__ import annotations

from asyncflow.plan.expressions.nodes import Call, ColumnRef, Expression, Literal
from asyncflow.plan.tables import Filter, MapBatches, Plan, Stage, Window

FINAL = ColumnRef("final")


def revised_input(stage: Stage, plan: Plan) -> str | None:
    """The window whose revisions reach ``stage``; None where there is none.  A user's function is taken to know what it does."""
    stages = {each.name: each for each in plan.stages}
    seen: set[str] = set()
    pending = list(stage.inputs)
    while pending:
        name = pending.pop()
        table, _, kind = name.partition(".")
        if name in seen or table not in stages:
            continue
        seen.add(name)
        match stages[table]:
            case Window() as window if not kind:
                if window.revised:
                    return table
            case Filter(where=where) if leaves_final(where):
                pass
            case MapBatches():
                pass
            case other:
                pending += other.inputs
    return None


def leaves_final(where: Expression) -> bool:
    """Whether the condition is, or has as a part of its AND, ``final`` (or ``final = TRUE``)."""
    match where:
        case Call("and", args):
            return any(leaves_final(arg) for arg in args)
        case Call("eq", (left, right)):
            return FINAL in (left, right) and any(
                isinstance(each, Literal) and each.value is True for each in (left, right)
            )
        case _:
            return where == FINAL


__all__ = ["leaves_final", "revised_input"]
