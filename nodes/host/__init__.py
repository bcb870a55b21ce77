"""All contact with ComfyUI's internals: hooks, wrappers, callbacks, options."""
