"""Our own attention kernel in Triton: dense or by lists of key blocks, INT8 or 16-bit scores, exact at the edges.

device.py       what runs on the GPU
launch.py       `attention`, the function to call, and the operator that torch.compile sees
transforms.py   what writes the copies that it reads, on the GPU too
quantize.py     starts that: rotated INT8 copies of q and k, values, means of blocks
reorder.py      all of it for a sparse call, straight from tokens that stand in another order
block_lists.py  which key blocks each block of queries sees, from a mask or from chosen blocks
tiling.py       tiles, warps and stages for each GPU generation

Weights and values stay in the values' own 16 bits (float16 or bfloat16, never one for the other: a bfloat16 value can
exceed float16), sums and the softmax in float32. Triton is imported by device.compiled alone.
benchmarks/floors.py says what such a kernel can reach at most, benchmarks/kernel.py measures it.
"""
