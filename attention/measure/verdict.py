"""What to think of a clip beside its reference, in words."""

from __future__ import annotations

import math

# Decibels beside a peak of 1: below the steps of 8 bits; hard to see; plainly another picture.
UNSEEN, HARD_TO_SEE, VISIBLE = 48.0, 35.0, 30.0
# Shares of the error that change, from which it stays or flickers.
STAYS, FLICKERS = 0.5, 1.3
# Motion beside the reference's from which it is told; below this percentage of the height the reference hardly moves.
SLOWER, FASTER, STILL = 0.8, 1.25, 0.05
FROZEN = 0.1


def judge(found) -> str:
    """Say how far a `Comparison` is, what its error does over time, and whether it moves as its reference does."""
    if found.equal:
        return "The clips are equal."
    said = [_distance(found.psnr.mean), _over_time(found), _motion(found), _frozen(found)]
    return " ".join(filter(None, said))


def _distance(psnr: float) -> str:
    if psnr >= UNSEEN:
        return f"Closer than the eye sees: {psnr:.1f} dB, below the steps of 8 bits."
    if psnr >= HARD_TO_SEE:
        return f"Close: {psnr:.1f} dB, hard to see."
    if psnr >= VISIBLE:
        return f"Visibly apart: {psnr:.1f} dB."
    return f"Far apart: {psnr:.1f} dB, another picture in places."


def _over_time(found) -> str:
    share = found.unsteady.mean
    if math.isnan(share) or found.psnr.mean >= UNSEEN:
        return ""
    if share < STAYS:
        return f"The error stays from frame to frame ({share:.2f} of it changes)."
    if share > FLICKERS:
        return f"The error flickers ({share:.2f}, where 1 is new in each frame and 2 to and fro)."
    return f"The error changes from frame to frame ({share:.2f}, where 0 stays and 1 is new in each)."


def _motion(found) -> str:
    here, there = found.motion.mean, found.reference_motion
    if math.isnan(here) or math.isnan(there):
        return ""
    if there < STILL:
        return "" if here < STILL else f"It moves ({here:.2g} % of the height per frame), the reference hardly does."
    if here < STILL:
        return f"Next to nothing moves in it ({here:.2g} % of the height per frame), in the reference {there:.2g} %."
    ratio = here / there
    if SLOWER <= ratio <= FASTER:
        return "It moves as much as the reference."
    return f"It moves {ratio:.2g} times as much as the reference."


def _frozen(found) -> str:
    if math.isnan(found.frozen) or found.frozen < found.reference_frozen + FROZEN:
        return ""
    return f"{found.frozen:.0%} of its frames are frozen, {found.reference_frozen:.0%} of the reference's."
