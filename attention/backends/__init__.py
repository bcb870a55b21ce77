"""Every dense attention backend, best first: `auto` takes the first that accepts a call and is no slower than torch."""

from . import flash, flex, kitchen, own_triton, plain, sage, sage3, sdpa, xformers

TABLE = (
    kitchen.INT8,
    sage.SAGE,
    sage3.SAGE3,
    flash.FLASH_4,
    flash.FLASH_3,
    sdpa.AUTO,
    flash.FLASH_2,
    xformers.XFORMERS,
    flex.FLEX,
    sdpa.FLASH,
    sdpa.CUDNN,
    sdpa.EFFICIENT,
    sdpa.MATH,
    plain.REFERENCE,
    own_triton.INT8,
    own_triton.HALF,
    own_triton.FLOAT8,
)
