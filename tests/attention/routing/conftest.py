"""Fixtures that several files of this room take."""

from container_calls import install  # noqa: F401
from faulty_kernels import add  # noqa: F401
