"""The demo model: its video transformer, codec and prompts, in plain torch."""
