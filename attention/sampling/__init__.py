"""Pure parts of the sampling nodes: schedules, windows over time, seams between them."""
