"""What the nodes run: sampling in parts, stages, windows, repeated measuring."""
