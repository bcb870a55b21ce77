"""Outputs of attention calls that are kept and given again in the steps that follow."""

from .settings import EIGHT_BIT, MODEL_DTYPE, STORAGES, ReuseSettings

__all__ = ("EIGHT_BIT", "MODEL_DTYPE", "STORAGES", "ReuseSettings")
