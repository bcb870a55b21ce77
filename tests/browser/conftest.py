"""Fixtures that several files of this room take."""

from pages import page  # noqa: F401
