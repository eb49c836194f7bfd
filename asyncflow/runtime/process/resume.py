"""What a process with checkpoints does before its run: opens the folder, and says where the run goes on and what each sink promises."""

from __future__ import annotations

from datetime import UTC, datetime

from asyncflow.plan.tables import Plan
from asyncflow.printable import tell
from asyncflow.runtime.checkpoint.checkpoints import Checkpoints
from asyncflow.runtime.wiring.wiring import open_sink
from asyncflow.state.directory import move_aside


def opened(plan: Plan, *, fresh: bool, quiet: bool) -> Checkpoints:
    """The checkpoints of the plan's folder; with ``fresh`` those of earlier runs are moved aside.  StateError: they cannot be used."""
    assert plan.checkpoints is not None
    moved = move_aside(plan.checkpoints.folder) if fresh else None
    checkpoints = Checkpoints(plan)
    if not quiet:
        if moved is not None:
            tell(f"the checkpoints of earlier runs are in {moved}")
        for line in _told(checkpoints):
            tell(line)
        for sink in plan.sinks:
            connector = open_sink(sink.connector).with_checkpoints()
            if connector.takes_bytes and connector.checkpointed != "exactly-once":
                tell(
                    f"{sink.name}: {connector.checkpointed}: after a crash rows since the last checkpoint come again"
                )
    return checkpoints


def _told(checkpoints: Checkpoints) -> list[str]:
    loaded = checkpoints.loaded
    if loaded is None:
        return []
    about = loaded.contents.about
    made = datetime.fromtimestamp(about.created_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = f"checkpoint {loaded.epoch} of {made} ({checkpoints.rows:,} rows)"
    if checkpoints.finished:
        return [f"this pipeline has finished: {where}; --fresh begins anew"]
    return [f"resumed from {where}"]


async def finish_again(plan: Plan, checkpoints: Checkpoints) -> None:
    """Ends what a run that had finished may have left to do."""
    try:
        sinks = {sink.name: open_sink(sink.connector).with_checkpoints() for sink in plan.sinks}
        await checkpoints.finish_again(sinks)
    finally:
        checkpoints.close()
