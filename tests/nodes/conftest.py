"""Fixtures that several files of this room take."""

from compiling import compiled  # noqa: F401
