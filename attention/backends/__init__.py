"""Every dense attention backend, best first: `auto` takes the first that accepts a call."""

from . import kitchen, plain, sage, sdpa

TABLE = (
    kitchen.INT8,
    sage.SAGE,
    sdpa.AUTO,
    sdpa.FLASH,
    sdpa.CUDNN,
    sdpa.EFFICIENT,
    sdpa.MATH,
    plain.REFERENCE,
)
