"""The attention kernel that runs on the GPU, in Triton's language (https://triton-lang.org). launch.py starts it.

Letters: M queries and N keys of one tile, PARTS tiles in one block of keys, which lists and scales are of, D head size,
PADDED the power of two that holds D. Names in capitals are tensors' addresses, or constants of the compiled kernel
where they are annotated so.
Nothing here imports Triton, which may be missing: `compiled` puts it into this module and transforms.py, and jits the
functions of both.

The algorithm is FlashAttention 2 (Dao, https://arxiv.org/abs/2307.08691) with the INT8 scores of SageAttention (Zhang
et al., https://arxiv.org/abs/2410.02367) and rotated queries and keys as in QuaRot (https://arxiv.org/abs/2404.00456).
"""

from __future__ import annotations

from functools import cache

from . import transforms
from .transforms import pool_kv, quantize, reorder_rows, transpose_v

tl = None


@cache
def compiled():
    """Compile the functions of this module and of transforms.py: {name: Triton function}, ready to launch.

    Raises ImportError where Triton is missing.
    """
    import triton
    import triton.language

    unspecialized = {
        attend: ["q_len", "kv_len", "scale"], quantize: ["length", "ahead", "total", "factor"], pool_kv: ["length"],
        reorder_rows: ["length", "ahead", "total"], transpose_v: ["length", "ahead"],
    }  # fmt: skip
    own = (load_rows, mask_scores, dot_qk, softmax_weights, accumulate_pv, block_number, attend_blocks, attend_means,
           block_counts, load_query, store_output, attend)  # fmt: skip
    others = (transforms.load_ordered_rows, transforms.store_mean, quantize, pool_kv, reorder_rows, transpose_v)
    jitted = {
        function.__name__: triton.jit(function, do_not_specialize=unspecialized.get(function))
        for function in (*own, *others)
    }
    for names in (globals(), vars(transforms)):
        names.update(jitted, tl=triton.language)
    return jitted


def load_rows(
    pointer, first, stride, length,
    D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Load rows `first` (int64) to `first` + ROWS of a matrix of D columns: (ROWS, PADDED).

    RAGGED: the matrix ends at row `length` - 1, which is read again in place of the rows behind it. Unlike a mask that
    takes no registers from a loop that has none to spare.
    """
    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
    if RAGGED:
        row = tl.minimum(row, (length - 1 - first).to(tl.int32))
    at = (pointer + first * stride) + (row[:, None] * stride + column[None, :])
    if D != PADDED:
        return tl.load(at, mask=(column < D)[None, :], other=0)
    else:
        return tl.load(at)


def mask_scores(scores, BIAS, MASK, BY_MEAN, first, length, M: tl.constexpr, N: tl.constexpr, FULL: tl.constexpr):
    """Add the bias of the keys from `first` on to their scores (M, N), and hide keys that must not count by -inf."""
    column = tl.arange(0, N)
    if FULL:
        return scores + tl.load(BIAS + first + column)[None, :]
    inside = column < length - first
    if BIAS is not None:
        scores += tl.load(BIAS + first + column, mask=inside, other=0.0)[None, :]
    if BY_MEAN is not None:
        inside = tl.load(BY_MEAN + first + column, mask=inside, other=0) != 0
    scores = tl.where(inside[None, :], scores, float("-inf"))
    if MASK is not None:
        # A row's 64 bits as two words: no layout has to change, as it would for a byte each. Half a block has one.
        words = MASK + tl.arange(0, M) * 2
        if N == 32:
            word = tl.load(words)[:, None]
        else:
            word = tl.where(column[None, :] < 32, tl.load(words)[:, None], tl.load(words + 1)[:, None])
        # The key's bit as the sign: to shift down and mask would take registers that sm_120 does not have.
        scores = tl.where((word << (31 - column % 32)[None, :]) < 0, scores, float("-inf"))
    return scores


def dot_qk(q, factor, k, K_SCALE, M: tl.constexpr, N: tl.constexpr, QUANTIZED: tl.constexpr):
    """Multiply Q by K^T: raw scores (M, N), and the factor (M,) that turns them into log2 units.

    factor: (M,), float32, what the queries bring to that factor. INT8 scores start at `zero` of softmax_weights.
    """
    if QUANTIZED:
        # The bits of 1.5 * 2**23 plus an integer below 2**22 are, as a float, that number plus the integer. An
        # accumulator that starts there needs no conversion: the fused multiply-add of softmax_weights is all.
        start = tl.full((M, N), 0x4B400000, tl.int32)
        raw = tl.dot(q, tl.trans(k), acc=start, out_dtype=tl.int32).to(tl.float32, bitcast=True)
        factor = factor * tl.load(K_SCALE)
    else:
        raw = tl.dot(q, tl.trans(k))
    return raw, factor


def softmax_weights(raw, factor, BIAS, MASK, BY_MEAN, peak, first, length, M: tl.constexpr, N: tl.constexpr,
                    QUANTIZED: tl.constexpr, FULL: tl.constexpr, EXPONENT_SHIFT: tl.constexpr):  # fmt: skip
    """Weigh raw scores: exp2 of scores less row maxima, times 2**EXPONENT_SHIFT, (M, N), and the new maxima, (M,).

    EXPONENT_SHIFT: so that in 8 bits the small ones keep bits too; 2**7 where the largest float8 is 240, on MI300.
    """
    zero: tl.constexpr = 12582912.0 if QUANTIZED else 0.0
    if FULL and BIAS is None:
        top = tl.maximum(peak, (tl.max(raw, 1) - zero) * factor)
        # One fused multiply-add for each score; rounding `zero * factor` shifts a row's scores by one step at most.
        weights = tl.exp2(raw * factor[:, None] - (zero * factor + (top - EXPONENT_SHIFT))[:, None])
    else:
        scores = mask_scores((raw - zero) * factor[:, None], BIAS, MASK, BY_MEAN, first, length, M, N, FULL)
        top = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp2(scores - (top - EXPONENT_SHIFT)[:, None])
    return weights, top


def accumulate_pv(acc, rescale, weights, V, first, length, v_l, D: tl.constexpr, PADDED: tl.constexpr, N: tl.constexpr,
                  RAGGED: tl.constexpr, TRANSPOSED_V: tl.constexpr, FP16_ACCUMULATE: tl.constexpr):  # fmt: skip
    """Add the weighted values from row `first` on to acc * rescale: (M, PADDED), float32.

    weights: (M, N), of V's dtype. FP16_ACCUMULATE: the sum over these N keys is made in float16.
    """
    if TRANSPOSED_V:  # products of 8 bits read keys in a row
        v = tl.trans(load_rows(V + first, 0, v_l, PADDED, N, N, PADDED, False))
    else:
        v = load_rows(V, first, v_l, length, D, PADDED, N, RAGGED)
    if FP16_ACCUMULATE:
        return acc * rescale[:, None] + tl.dot(weights, v, out_dtype=tl.float16).to(tl.float32)
    else:
        return tl.dot(weights, v, acc=acc * rescale[:, None])


def attend_blocks(peak, total, acc, q, factor, K, K_SCALE, V, BIAS, LIST, MASK_INDEX, MASKS, BY_MEAN, start, stop,
                  length, k_l, v_l, D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
                  QUANTIZED: tl.constexpr, FULL: tl.constexpr, EXPONENT_SHIFT: tl.constexpr, TRANSPOSED_V: tl.constexpr,
                  FP16_ACCUMULATE: tl.constexpr, PIPELINED_PV: tl.constexpr, STAGES: tl.constexpr,
                  PARTS: tl.constexpr):  # fmt: skip
    """Add blocks of PARTS x N keys, those numbered start to stop, or so listed, to the running softmax.

    peak, total: (M,), row maxima and sums; acc: (M, PADDED), weighted values. FULL: all queries see all keys of them.
    TRANSPOSED_V: values lie as (PADDED, whole blocks of keys). PIPELINED_PV, with one part: a tile's values are added
    while the next one is weighed: FlashAttention 3 (Shah et al., https://arxiv.org/abs/2407.08608), section 3.2.
    """
    if PIPELINED_PV:
        weights, rescale = tl.zeros((M, N), tl.float32).to(V.dtype.element_ty), tl.full((M,), 1.0, tl.float32)
    for step in tl.range(start * PARTS, stop * PARTS, num_stages=STAGES):
        block, part = block_number(LIST, step // PARTS), step % PARTS
        first = block * (N * PARTS) + part * N
        mask = None if MASKS is None else MASKS + (tl.load(MASK_INDEX + step // PARTS).to(tl.int64) * (M * 2) + part)
        if QUANTIZED:
            k = load_rows(K, first, PADDED, length, PADDED, PADDED, N, False)
            raw, scale = dot_qk(q, factor, k, K_SCALE + block, M, N, True)
        else:
            k = load_rows(K, first, k_l, length, D, PADDED, N, not FULL)
            raw, scale = dot_qk(q, factor, k, None, M, N, False)
        if PIPELINED_PV:
            before = block_number(LIST, tl.maximum(step - 1, start)) * N
            acc = accumulate_pv(acc, rescale, weights, V, before, length, v_l, D, PADDED, N, not FULL, TRANSPOSED_V,
                                FP16_ACCUMULATE)  # fmt: skip
        new, top = softmax_weights(raw, scale, BIAS, mask, BY_MEAN, peak, first, length, M, N, QUANTIZED, FULL,
                                   EXPONENT_SHIFT)  # fmt: skip
        rescale = tl.exp2(peak - top)
        total = total * rescale + tl.sum(new, 1)
        peak, weights = top, new.to(V.dtype.element_ty)
        if not PIPELINED_PV:
            acc = accumulate_pv(acc, rescale, weights, V, first, length, v_l, D, PADDED, N, not FULL, TRANSPOSED_V,
                                FP16_ACCUMULATE)  # fmt: skip
    if PIPELINED_PV:  # noqa: SIM102 - the one is known when this is compiled, the other when it runs
        if stop > start:
            acc = accumulate_pv(acc, rescale, weights, V, block_number(LIST, stop - 1) * N, length, v_l, D, PADDED, N,
                                not FULL, TRANSPOSED_V, FP16_ACCUMULATE)  # fmt: skip
    return peak, total, acc


def block_number(LIST, step):
    """Look up the number of a step's block of keys, int64: the one that is listed, where there is a list."""
    if LIST is None:
        return tl.cast(step, tl.int64)
    else:
        return tl.load(LIST + step).to(tl.int64)


def attend_means(peak, total, acc, q, factor, K_POOL, K_POOL_SCALE, V_POOL, POOL_BIAS, BY_MEAN, kv_index, tiles,
                 D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, MEANS: tl.constexpr, QUANTIZED: tl.constexpr,
                 EXPONENT_SHIFT: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Add the blocks that count by their means to the running softmax: one key each, its bias the block's mass.

    kv_index: number of the batch entry's key head, int64. The means are of all blocks; BY_MEAN says which count.
    """
    width: tl.constexpr = PADDED if QUANTIZED else D
    depth = tl.cdiv(tiles, MEANS)
    K_POOL += kv_index * width * (depth * MEANS if QUANTIZED else tiles)
    if QUANTIZED:
        K_POOL_SCALE += kv_index * depth
    return attend_blocks(peak, total, acc, q, factor, K_POOL, K_POOL_SCALE, V_POOL + kv_index * tiles * D, POOL_BIAS,
                         None, None, None, BY_MEAN, 0, depth, tiles, width, D, D, PADDED, M, MEANS, QUANTIZED, False,
                         EXPONENT_SHIFT, False, False, False, STAGES if STAGES < 2 else 2, 1)  # fmt: skip


def block_counts(COUNT, LIST, kv_len, BLOCK: tl.constexpr):
    """Count the full blocks, which come first, and all blocks of BLOCK keys of this program."""
    if LIST is None:
        return kv_len // BLOCK, tl.cdiv(kv_len, BLOCK)
    else:
        return tl.load(COUNT), tl.load(COUNT + 1)


def load_query(Q, Q_SCALE, scale, first, q_l, q_len,
               D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr, QUANTIZED: tl.constexpr):  # fmt: skip
    """Load M queries from row `first` on, and the factor (M,) that turns their products with keys into log2 units."""
    if QUANTIZED:
        return load_rows(Q, first, PADDED, q_len, PADDED, PADDED, M, False), tl.load(Q_SCALE + first + tl.arange(0, M))
    else:
        return load_rows(Q, first, q_l, q_len, D, PADDED, M, True), tl.zeros((M,), tl.float32) + scale


def store_output(OUT, V_SCALE, kv_index, acc, total, first, o_l, q_len,
                 D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr):  # fmt: skip
    """Write acc / total, and 0 for a row that saw no key."""
    row, column = tl.arange(0, M), tl.arange(0, PADDED)
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    if V_SCALE is not None:
        out *= tl.load(V_SCALE + kv_index * PADDED + column)[None, :]
    at = OUT + first * o_l + row[:, None] * o_l + column[None, :]
    tl.store(at, out.to(OUT.dtype.element_ty), mask=(first + row < q_len)[:, None] & (column < D)[None, :])


def attend(
    Q, Q_SCALE, K, K_SCALE, V, V_SCALE, BIAS, OUT, LIST, COUNT, MASK_INDEX, MASKS, BY_MEAN, K_POOL, K_POOL_SCALE,
    V_POOL, POOL_BIAS, scale, q_b, q_h, q_l, k_b, k_h, k_l, v_b, v_h, v_l, o_b, o_h, o_l, bias_b, bias_h, list_b,
    list_h, width, pool_b, heads, group, q_len, kv_len, D: tl.constexpr, PADDED: tl.constexpr, M: tl.constexpr,
    N: tl.constexpr, MEANS: tl.constexpr, QUANTIZED: tl.constexpr, TRANSPOSED_V: tl.constexpr,
    FP16_ACCUMULATE: tl.constexpr, PIPELINED_PV: tl.constexpr, STAGES: tl.constexpr, EDGE_STAGES: tl.constexpr,
    PARTS: tl.constexpr):  # fmt: skip
    """Compute M rows of softmax(scale * Q K^T + bias) V of one head. See launch.py for the tensors."""
    blocks, tiles, program = tl.cdiv(q_len, M), tl.cdiv(kv_len, N * PARTS), tl.program_id(0)
    head, batch = program // blocks % heads, tl.cast(program // blocks // heads, tl.int64)
    kv_head, first = tl.cast(head // group, tl.int64), tl.cast(program % blocks, tl.int64) * M
    head, kv_index = tl.cast(head, tl.int64), batch * (heads // group) + kv_head
    K, V = K + batch * k_b + kv_head * k_h, V + batch * v_b + kv_head * v_h
    if QUANTIZED:
        Q_SCALE, K_SCALE = Q_SCALE + (batch * heads + head) * blocks * M, K_SCALE + kv_index * tiles
    exponent_shift: tl.constexpr = (7.0 if V.dtype.element_ty == tl.float8e4b8 else 8.0) if TRANSPOSED_V else 0.0
    if BIAS is not None:
        BIAS += batch * bias_b + head * bias_h
    if LIST is not None:
        row = (batch * list_b + head * list_h) * blocks + program % blocks
        LIST, COUNT, MASK_INDEX = LIST + row * width, COUNT + row * 2, MASK_INDEX + row * width
    q, factor = load_query(Q + batch * q_b + head * q_h, Q_SCALE, scale, first, q_l, q_len, D, PADDED, M, QUANTIZED)
    # Finite, so that a row without any key gives 0 and not NaN; below every bias that launch.py passes on.
    total, acc = tl.zeros((M,), tl.float32), tl.zeros((M, PADDED), tl.float32)
    peak = total - 2.0**120
    if BY_MEAN is not None:
        peak, total, acc = attend_means(peak, total, acc, q, factor, K_POOL, K_POOL_SCALE, V_POOL,
                                        POOL_BIAS + batch * pool_b, BY_MEAN + row * tiles, kv_index, tiles, D, PADDED,
                                        M, MEANS, QUANTIZED, exponent_shift, STAGES)  # fmt: skip
    # Partly seen blocks first: behind the long loop they would take its registers.
    full, count = block_counts(COUNT, LIST, kv_len, N * PARTS)
    peak, total, acc = attend_blocks(
        peak, total, acc, q, factor, K, K_SCALE, V, BIAS, LIST, MASK_INDEX, MASKS, None, full, count, kv_len, k_l, v_l,
        D, PADDED, M, N, QUANTIZED, False, exponent_shift, TRANSPOSED_V, FP16_ACCUMULATE > 1, False, EDGE_STAGES,
        PARTS)  # fmt: skip
    peak, total, acc = attend_blocks(
        peak, total, acc, q, factor, K, K_SCALE, V, BIAS, LIST, None, None, None, 0, full, kv_len, k_l, v_l, D, PADDED,
        M, N, QUANTIZED, True, exponent_shift, TRANSPOSED_V, FP16_ACCUMULATE > 0, PIPELINED_PV, STAGES,
        PARTS)  # fmt: skip
    store_output(OUT + batch * o_b + head * o_h, V_SCALE, kv_index, acc, total, first, o_l, q_len, D, PADDED, M)
