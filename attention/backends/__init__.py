"""Every dense attention backend, best first: `auto` takes the first that accepts a call and is no slower than torch."""

from . import block_int8, flash, flex, kitchen, plain, sage, sage3, sdpa, xformers

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
    block_int8.INT8,
    block_int8.HALF,
    block_int8.FLOAT8,
)
