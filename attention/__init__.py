"""Attention for video diffusion transformers, in pure torch: nothing here knows of ComfyUI."""
