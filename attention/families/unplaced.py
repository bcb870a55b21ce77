"""Models of newer ComfyUIs that are no family here, said by name in docs/MODELS.md."""

from __future__ import annotations

# Their roles are told by token counts alone.
# Read and never run: (name, class, what that makes of its calls, what no override sees).
READ = (
    ("Prism", "Prism", "", "its own sparse attention, where that is switched on"),
    (
        "Qwen-Image 2.1", "QwenImage21Transformer2DModel",
        "the image sees the prompt too, so its calls count as cross, the prompt's own as self", "",
    ),
)  # fmt: skip
# Whose classes could not be read, so nothing is known of what an override sees.
UNREAD = ("LTX-2.3's image model (LTXVImageModel)", "MOSS-Image", "PAN 2", "RelayVSR")
