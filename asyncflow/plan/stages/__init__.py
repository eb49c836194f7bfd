"""The kinds of stages, one file each: the node of a plan and its answers to the questions of :class:`~asyncflow.plan.tables.Stage`."""
