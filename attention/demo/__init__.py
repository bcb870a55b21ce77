"""The demo models: its video transformer, codec and prompts, in plain torch."""
