"""Objects that are compared by who they are, and stay themselves when others copy the host's options."""


class KeepsIdentity:
    """Makes copies of an object the object itself, deep copies too.

    Packs that speed up sampling copy a model's options with copy.deepcopy, as a whole or in each step. What is told
    apart by identity or counts a run must come out of that as it went in.
    """

    __slots__ = ()

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self
