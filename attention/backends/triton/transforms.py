"""The functions that write what the kernel reads instead of q, k and v, in Triton's language: see device.py.

ORDER: (length,) int32, numbers of the rows to take, so that a copy in another order is read from where the rows stand;
None: as they stand. Blocks are numbered within their head; `ahead` of the copy's `total` blocks stand in front of the
first.
"""

from __future__ import annotations

tl = load_rows = None


def load_ordered_rows(
    X, ORDER, first, stride, length, D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Load rows `first` to `first` + ROWS of X in the order that ORDER names: (ROWS, PADDED). The last one repeats."""
    if ORDER is None:
        return load_rows(X, first, stride, length, D, PADDED, ROWS, True)
    else:
        row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
        row = tl.minimum(row, (length - 1 - first).to(tl.int32))
        at = X + (tl.load(ORDER + first + row).to(tl.int64) * stride)[:, None] + column[None, :]
        if D != PADDED:
            return tl.load(at, mask=(column < D)[None, :], other=0)
        else:
            return tl.load(at)


def store_mean(POOL, x, first, length, WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr):
    """Write the mean of x (ROWS, PADDED), whose rows behind `length` are 0, as WIDTH columns; nothing without POOL."""
    if POOL is not None:
        column = tl.arange(0, PADDED)
        count = tl.maximum(tl.minimum(length - first, ROWS), 1).to(tl.float32)
        tl.store(POOL + column, (tl.sum(x, 0) / count).to(POOL.dtype.element_ty), mask=column < WIDTH)


def quantize(
    X, ORDER, MEAN, HADAMARD, OUT, SCALE, POOL, factor, x_b, x_h, x_l, heads, length, blocks, ahead, total,
    D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, EACH_ROW: tl.constexpr,
):  # fmt: skip
    """Write ROWS rows of one head as int8: rotated, times `factor`, less MEAN; and the mean of these rows.

    EACH_ROW: whether each row has a scale of its own, else all of them share one.
    """
    program = tl.program_id(0)
    head, first = program // blocks, tl.cast(program % blocks, tl.int64) * ROWS
    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
    at = X + tl.cast(head // heads, tl.int64) * x_b + tl.cast(head % heads, tl.int64) * x_h
    x = load_ordered_rows(at, ORDER, first, x_l, length, D, PADDED, ROWS)
    if HADAMARD is not None:
        # Entries are 1 and -1, exact in every dtype, and the sum is float32: the rotation costs no accuracy.
        x = tl.dot(x, tl.load(HADAMARD + column[:, None] * PADDED + column[None, :]))
    x = x.to(tl.float32) * factor
    if MEAN is not None:
        x -= tl.load(MEAN + head * PADDED + column)[None, :]
    x = tl.where((first + row < length)[:, None], x, 0.0)
    block = tl.cast(head, tl.int64) * total + ahead + program % blocks
    store_mean(None if POOL is None else POOL + block * PADDED, x, first, length, PADDED, PADDED, ROWS)
    size = tl.maximum(tl.max(tl.abs(x), 1), 1e-30)
    if EACH_ROW:
        step = size / 127.0
        tl.store(SCALE + block * ROWS + row, step)
        x = x / step[:, None]
    else:
        step = tl.max(size, 0) / 127.0
        tl.store(SCALE + block, step)
        x = x / step
    rounded = tl.floor(x + 0.5).to(tl.int8)
    tl.store(OUT + (block * ROWS + row)[:, None] * PADDED + column[None, :], rounded)


def reorder_rows(
    X, ORDER, SCALE, OUT, POOL, x_b, x_h, x_l, heads, length, blocks, ahead, total,
    D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write ROWS rows of one head in order, divided by SCALE if there is one, 0 behind the last; and their mean."""
    program = tl.program_id(0)
    head, first = program // blocks, tl.cast(program % blocks, tl.int64) * ROWS
    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
    at = X + tl.cast(head // heads, tl.int64) * x_b + tl.cast(head % heads, tl.int64) * x_h
    x = load_ordered_rows(at, ORDER, first, x_l, length, D, PADDED, ROWS).to(tl.float32)
    if SCALE is not None:
        x = x / tl.load(SCALE + tl.cast(head, tl.int64) * PADDED + column)[None, :]
    x = tl.where((first + row < length)[:, None], x, 0.0)
    block = tl.cast(head, tl.int64) * total + ahead + program % blocks
    store_mean(None if POOL is None else POOL + block * D, x, first, length, D, PADDED, ROWS)
    to = OUT + (block * ROWS + row)[:, None] * D + column[None, :]
    tl.store(to, x.to(OUT.dtype.element_ty), mask=(column < D)[None, :])


def pool_kv(
    K, V, BIAS, K_POOL, V_POOL, MASS, k_b, k_h, k_l, v_b, v_h, v_l, bias_b, heads, length, blocks,
    D: tl.constexpr, PADDED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Write the means of one block of N keys and values, weighted by exp2(bias), and log2 of the weights' sum."""
    program = tl.program_id(0)
    one, first = program // blocks, tl.cast(program % blocks, tl.int64) * N
    batch, head = tl.cast(one // heads, tl.int64), tl.cast(one % heads, tl.int64)
    row, column = tl.arange(0, N), tl.arange(0, PADDED)
    inside = first + row < length
    bias = tl.where(inside, 0.0, float("-inf"))
    if BIAS is not None:
        bias = tl.load(BIAS + batch * bias_b + first + row, mask=inside, other=float("-inf"))
    top = tl.maximum(tl.max(bias, 0), -(2.0**120))
    weights = tl.exp2(bias - top)
    mass = tl.sum(weights, 0)
    weights = weights / tl.maximum(mass, 1e-30)
    at = tl.cast(program, tl.int64) * D + column
    for_k = load_rows(K + batch * k_b + head * k_h, first, k_l, length, D, PADDED, N, True).to(tl.float32)
    for_v = load_rows(V + batch * v_b + head * v_h, first, v_l, length, D, PADDED, N, True).to(tl.float32)
    k_mean, v_mean = tl.sum(for_k * weights[:, None], 0), tl.sum(for_v * weights[:, None], 0)
    tl.store(K_POOL + at, k_mean.to(K_POOL.dtype.element_ty), mask=column < D)
    tl.store(V_POOL + at, v_mean.to(V_POOL.dtype.element_ty), mask=column < D)
    if head == 0:
        tl.store(MASS + batch * blocks + program % blocks, top + tl.log2(mass))


def transpose_v(
    V, ORDER, SCALE, OUT, POOL, v_b, v_h, v_l, o_l, heads, length, blocks, ahead,
    D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write ROWS values of one head, divided by SCALE, as 8-bit columns of (PADDED, o_l); and their mean."""
    program = tl.program_id(0)
    one, first = tl.cast(program // blocks, tl.int64), tl.cast(program % blocks, tl.int64) * ROWS
    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
    at = V + one // heads * v_b + one % heads * v_h
    x = load_ordered_rows(at, ORDER, first, v_l, length, D, PADDED, ROWS).to(tl.float32)
    x = x / tl.load(SCALE + one * PADDED + column)[None, :]
    x = tl.where((first + row < length)[:, None], x, 0.0)
    block = one * (o_l // ROWS) + ahead + program % blocks
    store_mean(None if POOL is None else POOL + block * D, x, first, length, D, PADDED, ROWS)
    at = OUT + one * PADDED * o_l + column[:, None] * o_l + (ahead * ROWS + first + row)[None, :]
    tl.store(at, tl.trans(x).to(OUT.dtype.element_ty))
