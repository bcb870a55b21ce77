"""The demo model's own codec and prompts, in plain torch."""
