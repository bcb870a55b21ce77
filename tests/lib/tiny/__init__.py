"""Tiny random models of every family, one file each."""

from . import (
    cogvideox,
    cosmos,
    flux,
    hunyuan,
    kandinsky5,
    kandinsky6,
    ltx2,
    ltxv,
    minimax,
    mochi,
    qwen_image,
    svd,
    wan,
    wan_animate2,
)

CASES = (
    *cogvideox.CASES,
    *cosmos.CASES,
    *flux.CASES,
    *hunyuan.CASES,
    *kandinsky5.CASES,
    *kandinsky6.CASES,
    *ltx2.CASES,
    *ltxv.CASES,
    *minimax.CASES,
    *mochi.CASES,
    *qwen_image.CASES,
    *svd.CASES,
    *wan.CASES,
    *wan_animate2.CASES,
)


def plain() -> dict:
    """The first plain case of each family, by the family's name."""
    from attention.families import TABLE

    first = {}
    for family in TABLE:
        names = {variant.name for variant in family.variants}
        found = next((case for case in CASES if case.variant in names and not case.name), None)
        if found is not None:
            first[family.name] = found
    return first
