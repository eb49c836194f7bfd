"""What is wrong with an expression: a problem, and the error that carries problems."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class ExpressionProblem(Struct, frozen=True):
    """One problem of an expression.  ``hint``: the nearest valid name, or what to write instead; may be empty."""

    message: str
    hint: str = ""

    def __str__(self) -> str:
        return self.message + (f" ({self.hint})" if self.hint else "")


class ExpressionError(ValueError):
    """The expression cannot be read or typed.  ``problems`` holds all problems, ``message`` and ``hint`` those of the first."""

    def __init__(self, message: str, hint: str = "", problems: Sequence[ExpressionProblem] = ()) -> None:
        self.problems = tuple(problems) or (ExpressionProblem(message, hint),)
        self.message, self.hint = message, hint
        super().__init__("; ".join(str(problem) for problem in self.problems))
