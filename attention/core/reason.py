"""The word that stands where something cannot be had: why not."""


class Reason(str):
    """Says why there is no X, in the place of one: `X | Reason` is what a function returns that may have to refuse.

    A few words without a full stop, fit to stand behind a colon in a report: `head size 96, takes 64, 128`. It is text
    in every way; only its type tells it from text that is an answer.
    """

    __slots__ = ()
