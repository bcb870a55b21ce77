"""What ends a render, or an evaluation of the model, on purpose: no other failure of attention does."""


class UnsupportedAttention(RuntimeError):
    """The user asked for an error instead of a fallback. Names backend, site and reason."""


class InputsLost(RuntimeError):
    """A kernel failed after it had let go of q, k and v: nobody can repeat this call, but the evaluation can be."""
