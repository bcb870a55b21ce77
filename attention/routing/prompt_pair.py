"""Attention to a prompt that has a negative one behind it: which rule is about it, and what it cost."""

from __future__ import annotations

import torch

from ..guidance import nag
from .attention_call import AttentionCall
from .compiled_op import OPTIONS
from .rules import covering, winner
from .step_context import CONTEXT, StepContext, locate


def answer_pair(router, call: AttentionCall, context: StepContext) -> torch.Tensor | None:
    """Answer an open call to both prompts as two calls of `router`, None where this is no such call.

    context: of the call, with the prompts in it.
    """
    pair, axis = context.prompt_pair, 2 if call.split_in else 1
    kv_len = call.k.shape[axis]
    site, _ = locate(call.options, call.q.shape[axis], kv_len)
    if site.role not in nag.ROLES or kv_len != pair.length:
        return None
    rule = winner(covering(router.rules, context.active_of(router), site), "nag")
    options = {**call.options, CONTEXT: context.but(prompt_pair=None)}
    single, stats = call.but(kw={**call.kw, OPTIONS: options}), context.stats or router.stats
    alone = context.share is None
    return nag.attend_apart(single, pair, None if rule is None else rule.nag, router.answer, stats, alone)
