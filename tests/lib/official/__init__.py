"""ComfyUI's own video workflows, made to run in a second: read from their package, expanded, shrunk, furnished."""
