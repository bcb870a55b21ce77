"""The functions that run on the GPU, in Triton's language (https://triton-lang.org). Start them through launch.py.

Letters: M queries and N keys of one tile, D head size, `PADDED` the power of two that holds D.
Nothing here imports Triton, which may be missing: `compiled` puts it into this module and transforms.py, and jits the
functions of both.

The algorithm is FlashAttention 2 (Dao, https://arxiv.org/abs/2307.08691) with the INT8 scores of SageAttention (Zhang
et al., https://arxiv.org/abs/2410.02367) and rotated queries and keys as in QuaRot (https://arxiv.org/abs/2404.00456).
"""

from __future__ import annotations

from functools import cache

from . import transforms
from .transforms import move, pool, quantise, turn

tl = None


@cache
def compiled():
    """The functions, ready to launch: {name: Triton function}. ImportError where Triton is missing."""
    import triton
    import triton.language

    unspecialised = {
        attend: ["q_len", "kv_len", "scale"], quantise: ["length", "ahead", "total", "factor"], pool: ["length"],
        move: ["length", "ahead", "total"], turn: ["length", "ahead"],
    }  # fmt: skip
    own = (rows, hide, products, weigh, add, numbered, span, add_means, ends, query, store, attend)
    jitted = {
        function.__name__: triton.jit(function, do_not_specialize=unspecialised.get(function))
        for function in (*own, transforms.picked, transforms.put_mean, quantise, pool, move, turn)
    }
    for names in (globals(), vars(transforms)):
        names.update(jitted, tl=triton.language)
    return jitted


def rows(
    pointer, first, stride, length,
    D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """(ROWS, PADDED) of a matrix of D columns, from row `first` (int64) on. RAGGED: its last row, `length` - 1, stands
    for the rows behind it: unlike a mask that takes no registers from a loop that has none to spare."""
    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
    if RAGGED:
        row = tl.minimum(row, (length - 1 - first).to(tl.int32))
    at = (pointer + first * stride) + (row[:, None] * stride + column[None, :])
    if D != PADDED:
        return tl.load(at, mask=(column < D)[None, :], other=0)
    else:
        return tl.load(at)


def hide(scores, BIAS, MASK, LEFT, first, length, M: tl.constexpr, N: tl.constexpr, WHOLE: tl.constexpr):
    """Scores (M, N) of the keys from `first` on with their bias, and -inf where a key must not count."""
    column = tl.arange(0, N)
    if WHOLE:
        return scores + tl.load(BIAS + first + column)[None, :]
    inside = column < length - first
    if BIAS is not None:
        scores += tl.load(BIAS + first + column, mask=inside, other=0.0)[None, :]
    if LEFT is not None:
        inside = tl.load(LEFT + first + column, mask=inside, other=0) != 0
    scores = tl.where(inside[None, :], scores, float("-inf"))
    if MASK is not None:
        # A row's 64 bits as two words: no layout has to change, as it would for a byte each.
        words = MASK + tl.arange(0, M) * 2
        word = tl.where(column[None, :] < 32, tl.load(words)[:, None], tl.load(words + 1)[:, None])
        # The key's bit as the sign: to shift down and mask would take registers that sm_120 does not have.
        scores = tl.where((word << (31 - column % 32)[None, :]) < 0, scores, float("-inf"))
    return scores


def products(q, factor, k, K_SCALE, M: tl.constexpr, N: tl.constexpr, QUANTISED: tl.constexpr):
    """Q K^T (M, N), for INT8 above the zero of `weigh`, and what turns it into log2 units, (M,). factor: (M,), of q."""
    if QUANTISED:
        # The bits of 1.5 * 2**23 plus an integer below 2**22 are, as a float, that number plus the integer. An
        # accumulator that starts there needs no conversion: the fused multiply-add of `weigh` is all.
        start = tl.full((M, N), 0x4B400000, tl.int32)
        raw = tl.dot(q, tl.trans(k), acc=start, out_dtype=tl.int32).to(tl.float32, bitcast=True)
        factor = factor * tl.load(K_SCALE)
    else:
        raw = tl.dot(q, tl.trans(k))
    return raw, factor


def weigh(raw, factor, BIAS, MASK, LEFT, peak, first, length,
          M: tl.constexpr, N: tl.constexpr, QUANTISED: tl.constexpr, WHOLE: tl.constexpr,
          RAISED: tl.constexpr):  # fmt: skip
    """exp2 of the scores (M, N) less their new row maxima, times 2**RAISED, and these maxima (M,)."""
    zero: tl.constexpr = 12582912.0 if QUANTISED else 0.0
    if WHOLE and BIAS is None:
        top = tl.maximum(peak, (tl.max(raw, 1) - zero) * factor)
        # One fused multiply-add for each score; rounding `zero * factor` shifts a row's scores by one step at most.
        weights = tl.exp2(raw * factor[:, None] - (zero * factor + (top - RAISED))[:, None])
    else:
        scores = hide((raw - zero) * factor[:, None], BIAS, MASK, LEFT, first, length, M, N, WHOLE)
        top = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp2(scores - (top - RAISED)[:, None])
    return weights, top


def add(acc, kept, weights, V, first, length, v_l,
        D: tl.constexpr, PADDED: tl.constexpr, N: tl.constexpr, RAGGED: tl.constexpr, TURNED: tl.constexpr,
        HALVES: tl.constexpr):  # fmt: skip
    """acc * kept plus the weighted values from row `first` on, (M, PADDED). weights: (M, N), of V's dtype.

    HALVES: summed over N keys as float16."""
    if TURNED:
        v = tl.trans(rows(V + first, 0, v_l, PADDED, N, N, PADDED, False))
    else:
        v = rows(V, first, v_l, length, D, PADDED, N, RAGGED)
    if HALVES:
        return acc * kept[:, None] + tl.dot(weights, v, out_dtype=tl.float16).to(tl.float32)
    else:
        return tl.dot(weights, v, acc=acc * kept[:, None])


def span(peak, total, acc, q, factor, K, K_SCALE, V, BIAS, LIST, CHOICE, MASKS, LEFT, start, stop, length, k_l, v_l,
         D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, N: tl.constexpr, QUANTISED: tl.constexpr,
         WHOLE: tl.constexpr, RAISED: tl.constexpr, TURNED: tl.constexpr, HALVES: tl.constexpr, LATE: tl.constexpr,
         STAGES: tl.constexpr):  # fmt: skip
    """Adds blocks of N keys, those numbered start to stop, or so listed, to the running softmax.

    peak, total: (M,), row maxima and sums; acc: (M, PADDED), the weighted values. WHOLE: none of the blocks is ragged.
    TURNED: the values lie as (PADDED, whole blocks of keys): products of 8 bits read keys in a row.
    LATE: a block's values are added one step later, while the next block is weighed: FlashAttention 3 (Shah et al.,
    https://arxiv.org/abs/2407.08608), section 3.2.
    """
    if LATE:
        weights, kept = tl.zeros((M, N), tl.float32).to(V.dtype.element_ty), tl.full((M,), 1.0, tl.float32)
    for step in tl.range(start, stop, num_stages=STAGES):
        block = numbered(LIST, step)
        first = block * N
        mask = None if MASKS is None else MASKS + tl.load(CHOICE + step).to(tl.int64) * (M * 2)
        if QUANTISED:
            k = rows(K, first, PADDED, length, PADDED, PADDED, N, False)
            raw, scale = products(q, factor, k, K_SCALE + block, M, N, True)
        else:
            k = rows(K, first, k_l, length, D, PADDED, N, not WHOLE)
            raw, scale = products(q, factor, k, None, M, N, False)
        if LATE:
            before = numbered(LIST, tl.maximum(step - 1, start)) * N
            acc = add(acc, kept, weights, V, before, length, v_l, D, PADDED, N, not WHOLE, TURNED, HALVES)
        new, top = weigh(raw, scale, BIAS, mask, LEFT, peak, first, length, M, N, QUANTISED, WHOLE, RAISED)
        kept = tl.exp2(peak - top)
        total = total * kept + tl.sum(new, 1)
        peak, weights = top, new.to(V.dtype.element_ty)
        if not LATE:
            acc = add(acc, kept, weights, V, first, length, v_l, D, PADDED, N, not WHOLE, TURNED, HALVES)
    if LATE:  # noqa: SIM102 - the one is known when this is compiled, the other when it runs
        if stop > start:
            before = numbered(LIST, stop - 1) * N
            acc = add(acc, kept, weights, V, before, length, v_l, D, PADDED, N, not WHOLE, TURNED, HALVES)
    return peak, total, acc


def numbered(LIST, step):
    """The number of a block of keys, int64: the one that is listed, where there is a list."""
    if LIST is None:
        return tl.cast(step, tl.int64)
    else:
        return tl.load(LIST + step).to(tl.int64)


def add_means(peak, total, acc, q, factor, K_POOL, K_POOL_SCALE, V_POOL, POOL_BIAS, LEFT, one, tiles,
              D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, MEANS: tl.constexpr, QUANTISED: tl.constexpr,
              RAISED: tl.constexpr):  # fmt: skip
    """Adds the blocks that are left out to the running softmax: a key each, with the mass of the block as its bias.

    one: number of the key head, int64. The means are of all blocks; LEFT says which count.
    """
    width: tl.constexpr = PADDED if QUANTISED else D
    depth = tl.cdiv(tiles, MEANS)
    K_POOL += one * width * (depth * MEANS if QUANTISED else tiles)
    if QUANTISED:
        K_POOL_SCALE += one * depth
    return span(peak, total, acc, q, factor, K_POOL, K_POOL_SCALE, V_POOL + one * tiles * D, POOL_BIAS, None, None,
                None, LEFT, 0, depth, tiles, width, D, D, PADDED, M, MEANS, QUANTISED, False, RAISED, False,
                False, False, 2)  # fmt: skip


def ends(COUNT, LIST, kv_len, N: tl.constexpr):
    """How many whole blocks come first, and how many blocks there are in all."""
    if LIST is None:
        return kv_len // N, tl.cdiv(kv_len, N)
    else:
        return tl.load(COUNT), tl.load(COUNT + 1)


def query(Q, Q_SCALE, scale, first, q_l, q_len,
          D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, QUANTISED: tl.constexpr):  # fmt: skip
    """M queries from row `first` on, and what turns their products with keys into log2 units."""
    if QUANTISED:
        return rows(Q, first, PADDED, q_len, PADDED, PADDED, M, False), tl.load(Q_SCALE + first + tl.arange(0, M))
    else:
        return rows(Q, first, q_l, q_len, D, PADDED, M, True), tl.zeros((M,), tl.float32) + scale


def store(OUT, V_SCALE, one, acc, total, first, o_l, q_len, D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr):
    """Writes acc / total, and 0 for a row that saw no key."""
    row, column = tl.arange(0, M), tl.arange(0, PADDED)
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    if V_SCALE is not None:
        out *= tl.load(V_SCALE + one * PADDED + column)[None, :]
    at = OUT + first * o_l + row[:, None] * o_l + column[None, :]
    tl.store(at, out.to(OUT.dtype.element_ty), mask=(first + row < q_len)[:, None] & (column < D)[None, :])


def attend(
    Q, Q_SCALE, K, K_SCALE, V, V_SCALE, BIAS, OUT, LIST, COUNT, CHOICE, MASKS, LEFT, K_POOL, K_POOL_SCALE, V_POOL,
    POOL_BIAS, scale, q_b, q_h, q_l, k_b, k_h, k_l, v_b, v_h, v_l, o_b, o_h, o_l, bias_b, bias_h, list_b, list_h, width,
    pool_b, heads, group, q_len, kv_len, D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    MEANS: tl.constexpr, QUANTISED: tl.constexpr, TURNED: tl.constexpr, HALVES: tl.constexpr, LATE: tl.constexpr,
    STAGES: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """M rows of softmax(scale * Q K^T + bias) V of one head. See launch.py for the tensors."""
    blocks, tiles, program = tl.cdiv(q_len, M), tl.cdiv(kv_len, N), tl.program_id(0)
    head, batch = program // blocks % heads, tl.cast(program // blocks // heads, tl.int64)
    kv_head, first = tl.cast(head // group, tl.int64), tl.cast(program % blocks, tl.int64) * M
    head = tl.cast(head, tl.int64)
    one = batch * (heads // group) + kv_head
    K, V = K + batch * k_b + kv_head * k_h, V + batch * v_b + kv_head * v_h
    if QUANTISED:
        Q_SCALE, K_SCALE = Q_SCALE + (batch * heads + head) * blocks * M, K_SCALE + one * tiles
    # Values of 8 bits: weights times 2**8, so that the small ones among them keep bits too.
    raised: tl.constexpr = 8.0 if TURNED else 0.0
    if BIAS is not None:
        BIAS += batch * bias_b + head * bias_h
    if LIST is not None:
        row = (batch * list_b + head * list_h) * blocks + program % blocks
        LIST, COUNT, CHOICE = LIST + row * width, COUNT + row * 2, CHOICE + row * width
    q, factor = query(Q + batch * q_b + head * q_h, Q_SCALE, scale, first, q_l, q_len, D, PADDED, M, QUANTISED)
    # Finite, so that a row without any key gives 0 and not NaN; below every bias that launch.py passes on.
    total, acc = tl.zeros((M,), tl.float32), tl.zeros((M, PADDED), tl.float32)
    peak = total - 2.0**120
    if LEFT is not None:
        peak, total, acc = add_means(peak, total, acc, q, factor, K_POOL, K_POOL_SCALE, V_POOL,
                                     POOL_BIAS + batch * pool_b, LEFT + row * tiles, one, tiles, D, PADDED, M, MEANS,
                                     QUANTISED, raised)  # fmt: skip
    whole, every = ends(COUNT, LIST, kv_len, N)  # Edges first: behind the long loop they would take its registers.
    peak, total, acc = span(peak, total, acc, q, factor, K, K_SCALE, V, BIAS, LIST, CHOICE, MASKS, None, whole, every,
                            kv_len, k_l, v_l, D, PADDED, M, N, QUANTISED, False, raised, TURNED, HALVES > 1,
                            False, EDGES)  # fmt: skip
    peak, total, acc = span(peak, total, acc, q, factor, K, K_SCALE, V, BIAS, LIST, None, None, None, 0, whole,
                            kv_len, k_l, v_l, D, PADDED, M, N, QUANTISED, True, raised, TURNED, HALVES > 0, LATE,
                            STAGES)  # fmt: skip
    store(OUT + batch * o_b + head * o_h, V_SCALE, one, acc, total, first, o_l, q_len, D, PADDED, M)
