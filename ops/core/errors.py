"""Errors that a person can act on: what was expected, what was found, what to do."""

from __future__ import annotations


class UnderstudyError(Exception):
    """The work failed or was refused (exit code 1). Its text is one line: expected, found, what to do."""

    exit_code = 1


class CallError(UnderstudyError):
    """The call or the settings were wrong, and nothing was done (exit code 2)."""

    exit_code = 2


def explain(*, expected: str, found: str, todo: str) -> str:
    """One line in the house's form, e.g. ``expected 2 classes or more, found 1 ('cat'): add a class``."""
    return f"expected {expected}, found {found}: {todo}"
