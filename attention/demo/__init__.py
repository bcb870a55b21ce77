"""The demo models: their video transformer, codec and prompts, in plain torch."""
