"""A trainable LTX-style video transformer in plain torch; its weights load into the host's own class."""

from .ltx import LTXConfig, LTXVideoTransformer, attend, attend_inside_frames

__all__ = ["LTXConfig", "LTXVideoTransformer", "attend", "attend_inside_frames"]
