"""Every model family whose attention calls we can place, keyed by the class name of its diffusion model."""

from . import ltxv

TABLE = (ltxv.LTXV,)


def find(class_name: str):
    """The family of a diffusion model, or None."""
    return next((family for family in TABLE if class_name in family.models), None)
