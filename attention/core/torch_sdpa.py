"""`sdpa`: torch's own attention as an operator that no other pack exchanges.

Some packs, and many installation guides, put another kernel in the place of
torch.nn.functional.scaled_dot_product_attention for the whole process, one that may drop masks or quantise. What is
exact here has to stay so: everything of ours calls this one, which that swap does not reach, before our import or
after.
"""

import torch

sdpa = torch._C._nn.scaled_dot_product_attention
