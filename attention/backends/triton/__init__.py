"""Our own attention kernel in Triton: dense or by lists of key blocks, INT8 or 16-bit scores, exact at the edges.

launch.py       `attention`, the function to call, and the operator that torch.compile sees
device.py       the kernel, which runs on the GPU
tiling.py       tiles, warps and stages for each GPU generation
block_lists.py  which key blocks each block of queries sees, from a mask or from selected blocks
quantize.py     makes what the kernel reads: rotated INT8 copies of q and k, scaled values, means of blocks
transforms.py   what quantize.py starts on the GPU
reorder.py      a sparse call straight from tokens that stand in another order

Weights and values stay in the values' own 16 bits (float16 or bfloat16, never one for the other: a bfloat16 value can
exceed float16), sums and the softmax in float32. Triton is imported by device.compiled alone.
benchmarks/floors.py says what such a kernel can reach at most, benchmarks/kernel.py measures it.
"""
