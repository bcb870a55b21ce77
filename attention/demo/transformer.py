"""A small, trainable LTX-Video transformer (arXiv:2501.00103) whose weights load into ComfyUI's `LTXVModel`.

Every sum makes a new tensor, so gradients flow; the names and shapes of the parameters are the host's.

Shapes: B batch, C latent channels, T/Y/X token grid, L = T*Y*X tokens, N prompt tokens, H heads, D head dim,
W = H*D width.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ..blocks.rope import rotary_tables, rotate, timestep_features, token_positions
from ..core.torch_sdpa import sdpa

Grid = tuple[int, int, int]
SelfAttention = Callable[[Tensor, Tensor, Tensor, Grid], Tensor]


@dataclass(frozen=True)
class LTXConfig:
    """The dims of one model; the field names are those of the host's safetensors metadata."""

    in_channels: int = 128
    num_layers: int = 5
    num_attention_heads: int = 6
    attention_head_dim: int = 32
    cross_attention_dim: int = 192
    caption_channels: int = 32
    positional_embedding_max_pos: tuple[float, float, float] = (20.0, 2048.0, 2048.0)
    vae_scale_factors: tuple[int, int, int] = (8, 32, 32)
    causal_temporal_positioning: bool = False
    timestep_scale_multiplier: float = 1000.0

    def __post_init__(self):
        if self.cross_attention_dim != self.width:
            raise ValueError(
                f"cross_attention_dim {self.cross_attention_dim} must equal heads * head dim = {self.width}"
            )

    @property
    def width(self) -> int:
        """Return W, the channels of a token."""
        return self.num_attention_heads * self.attention_head_dim

    def to_metadata(self) -> dict:
        """Return the `transformer` entry of the host's config, ready for `json.dumps`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, transformer: dict) -> "LTXConfig":
        """Read the `transformer` entry of a host config; entries this model does not know are an error."""
        unknown = set(transformer) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"config has entries this model lacks: {', '.join(sorted(unknown))}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in transformer.items()})


def attend(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """Attend over all tokens, each tensor and the output (B, H, L, D)."""
    return sdpa(q, k, v)


def attend_inside_frames(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """Attend inside each of the T frames only, each tensor and the output (B, H, L, D)."""
    q, k, v = (rearrange(x, "b h (t place) d -> b t h place d", t=grid[0]) for x in (q, k, v))
    return rearrange(sdpa(q, k, v), "b t h place d -> b h (t place) d")


def rms_norm(x: Tensor) -> Tensor:
    """Divide each token of x: (..., W) by its root mean square."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


class Attention(torch.nn.Module):
    """Multi-head attention with RMS norms over the whole width of queries and keys."""

    def __init__(self, config: LTXConfig, ops=torch.nn):
        super().__init__()
        width = config.width
        self.heads = config.num_attention_heads
        self.q_norm = ops.RMSNorm(width, eps=1e-5)
        self.k_norm = ops.RMSNorm(width, eps=1e-5)
        self.to_q = ops.Linear(width, width)
        self.to_k = ops.Linear(width, width)
        self.to_v = ops.Linear(width, width)
        self.to_out = torch.nn.Sequential(ops.Linear(width, width), torch.nn.Dropout(0.0))

    def project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q of x: (B, L, W), k and v of `source`: (B, S, W); each (B, L or S, H, D)."""
        q, k, v = self.q_norm(self.to_q(x)), self.k_norm(self.to_k(source)), self.to_v(source)
        return tuple(rearrange(z, "b l (h d) -> b l h d", h=self.heads) for z in (q, k, v))

    def over_tokens(self, x: Tensor, tables: tuple[Tensor, Tensor], grid: Grid, attention: SelfAttention) -> Tensor:
        """Attend within x: (B, L, W), with rotary positions; returns (B, L, W)."""
        q, k, v = self.project(x, x)
        q, k = rotate(q, *tables), rotate(k, *tables)
        out = attention(*(rearrange(z, "b l h d -> b h l d") for z in (q, k, v)), grid)
        return self.to_out(rearrange(out, "b h l d -> b l (h d)"))

    def over_prompt(self, x: Tensor, prompt: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x to the prompt; returns (B, L, W).

        x: (B, L, W).
        prompt: (B, N, W).
        bias: (B, 1, 1, N) or None.
        """
        q, k, v = (rearrange(z, "b l h d -> b h l d") for z in self.project(x, prompt))
        return self.to_out(rearrange(sdpa(q, k, v, attn_mask=bias), "b h l d -> b l (h d)"))


class GELUProjection(torch.nn.Module):
    """A linear layer and its activation, nested as the host's file names them."""

    def __init__(self, width: int, hidden: int, ops=torch.nn):
        super().__init__()
        self.proj = ops.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., hidden) of x: (..., W)."""
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(torch.nn.Module):
    """Two layers with four times the width between them."""

    def __init__(self, width: int, ops=torch.nn):
        super().__init__()
        self.net = torch.nn.Sequential(
            GELUProjection(width, 4 * width, ops), torch.nn.Dropout(0.0), ops.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., W) of x: (..., W), each token by itself."""
        return self.net(x)


class Block(torch.nn.Module):
    """Self-attention, prompt attention and feed-forward; the timestep shifts, scales and gates (arXiv:2310.00426)."""

    def __init__(self, config: LTXConfig, ops=torch.nn):
        super().__init__()
        self.attn1 = Attention(config, ops)
        self.attn2 = Attention(config, ops)
        self.ff = FeedForward(config.width, ops)
        self.scale_shift_table = torch.nn.Parameter(torch.zeros(6, config.width))

    def forward(self, x, prompt, bias, modulation, tables, grid, attention: SelfAttention = attend) -> Tensor:
        """Run the block on x: (B, L, W), with prompt: (B, N, W) and modulation: (B, 1, 6, W); returns (B, L, W)."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (self.scale_shift_table + modulation).to(x.dtype).unbind(2)
        x = x + gate_a * self.attn1.over_tokens(rms_norm(x) * (1 + scale_a) + shift_a, tables, grid, attention)
        x = x + self.attn2.over_prompt(x, prompt, bias)
        return x + gate_f * self.ff(rms_norm(x) * (1 + scale_f) + shift_f)


class TwoLayers(torch.nn.Module):
    """Linear, activation, linear; the host's embedder of timesteps and of prompt tokens."""

    def __init__(self, source: int, width: int, activation: Callable[[Tensor], Tensor], ops=torch.nn):
        super().__init__()
        self.linear_1 = ops.Linear(source, width)
        self.linear_2 = ops.Linear(width, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., W) of x: (..., source)."""
        return self.linear_2(self.activation(self.linear_1(x)))


class Modulation(torch.nn.Module):
    """AdaLN-single: one timestep embedding serves every block (arXiv:2310.00426, section 2.3)."""

    def __init__(self, width: int, ops=torch.nn):
        super().__init__()
        self.emb = torch.nn.ModuleDict({"timestep_embedder": TwoLayers(256, width, F.silu, ops)})
        self.linear = ops.Linear(width, 6 * width)

    def forward(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the blocks' modulation (B, 1, 6, W) and the embedding (B, 1, W) of timestep: (B,), already scaled."""
        features = timestep_features(timestep).to(self.linear.weight.dtype)
        embedding = self.emb["timestep_embedder"](features)[:, None]
        return self.linear(F.silu(embedding)).unflatten(-1, (6, -1)), embedding


class LTXVideoTransformer(torch.nn.Module):
    """Predicts the flow `noise - clip` of a noisy latent (B, C, T, Y, X) at time t in 0..1."""

    def __init__(self, config: LTXConfig, ops=torch.nn):
        super().__init__()
        width = config.width
        self.config = config
        self.patchify_proj = ops.Linear(config.in_channels, width)
        self.adaln_single = Modulation(width, ops)
        self.caption_projection = TwoLayers(
            config.caption_channels, width, lambda x: F.gelu(x, approximate="tanh"), ops
        )
        self.transformer_blocks = torch.nn.ModuleList(Block(config, ops) for _ in range(config.num_layers))
        self.scale_shift_table = torch.nn.Parameter(torch.zeros(2, width))
        self.proj_out = ops.Linear(width, config.in_channels)

    def tables(self, grid: Grid, frame_rate: float, device) -> tuple[Tensor, Tensor]:
        """Return rotary tables of (L, H, D/2) for one grid."""
        config = self.config
        positions = token_positions(grid, config.vae_scale_factors, frame_rate, config.causal_temporal_positioning).to(
            device
        )
        return rotary_tables(
            positions, config.positional_embedding_max_pos, config.num_attention_heads, config.attention_head_dim
        )

    def embed(self, latent: Tensor, timestep: Tensor, context: Tensor):
        """Return tokens (B, L, W), modulation (B, 1, 6, W), embedding (B, 1, W) and prompt (B, N, W)."""
        x = self.patchify_proj(rearrange(latent, "b c t y x -> b (t y x) c"))
        modulation, embedding = self.adaln_single(timestep * self.config.timestep_scale_multiplier)
        return x, modulation, embedding, self.caption_projection(context)

    def read_out(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Turn tokens (B, L, W) into tokens of a latent (B, L, C)."""
        shift, scale = (self.scale_shift_table + embedding[:, :, None]).to(x.dtype).unbind(2)
        return self.proj_out(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)

    def head(self, x: Tensor, embedding: Tensor, grid: Grid) -> Tensor:
        """Turn tokens (B, L, W) into a latent (B, C, T, Y, X)."""
        return rearrange(self.read_out(x, embedding), "b (t y x) c -> b c t y x", t=grid[0], y=grid[1])

    def forward(
        self,
        latent: Tensor,
        timestep: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        frame_rate: float = 25.0,
        self_attention: SelfAttention = attend,
    ) -> Tensor:
        """Predict the flow (B, C, T, Y, X) of a noisy latent.

        latent: (B, C, T, Y, X).
        timestep: (B,) in 0..1.
        context: (B, N, caption), the prompt.
        mask: (B, N) of 0 or 1.
        frame_rate: frames a second.
        self_attention: what attends within the video.
        """
        grid = tuple(latent.shape[2:])
        x, modulation, embedding, prompt = self.embed(latent, timestep, context)
        bias = None if mask is None else (mask[:, None, None, :].to(x.dtype) - 1) * torch.finfo(x.dtype).max
        tables = self.tables(grid, frame_rate, latent.device)
        for block in self.transformer_blocks:
            x = block(x, prompt, bias, modulation, tables, grid, self_attention)
        return self.head(x, embedding, grid)
