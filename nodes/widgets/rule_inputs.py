"""Widgets that several nodes share, each described once."""

from comfy_api.latest import io

from ...attention.backends import registry
from ...attention.core.site import ROLES
from ...attention.routing import rules
from .idle import idle, none_of, one_of
from .node import Node


def model() -> io.Model.Input:
    """Makes the input of the model that a rule is put on."""
    return io.Model.Input("model", tooltip="A video model. It stays unchanged: the output is a patched clone.")


def backend() -> io.Combo.Input:
    """Makes the combo of a rule's backends."""
    return io.Combo.Input(
        "backend",
        options=list(rules.CHOICES),
        default="auto",
        tooltip="auto: the best kernel that accepts each call. host default: what ComfyUI would run. Others are listed "
        "even when not installed, so that a workflow opens everywhere.",
    )


def guard() -> io.Combo.Input:
    """Makes the combo that says when outputs are looked at for NaN or Inf."""
    return io.Combo.Input(
        "guard",
        options=list(rules.GUARDS),
        default=rules.GUARD_FIRST,
        advanced=True,
        tooltip="Looks for NaN or Inf in the output, the cause of black frames, and falls back. Each look waits for "
        "the GPU.",
    )


def role(default: str) -> io.Combo.Input:
    """Makes the combo of the roles that a rule covers."""
    return io.Combo.Input(
        "role",
        options=[rules.ALL_ROLES, *ROLES],
        default=default,
        tooltip="self: the video's tokens among themselves, also inside frames or over time only. cross: the video "
        "looking at text or image tokens. The others are parts of these, or of models with sound.",
    )


def covered_calls(default: str = rules.ALL_ROLES, start: float = 0.0, end: float = 1.0) -> list:
    """Makes the widgets that say which calls a rule is about.

    default: the role at first.
    start: start_percent at first, 0 to 1.
    end: end_percent at first, 0 to 1.
    """
    return [role(default), *blocks_and_steps(start, end)]


def blocks_and_steps(start: float = 0.0, end: float = 1.0) -> list:
    """Makes the widgets that say which blocks and steps a rule is about.

    start: start_percent at first, 0 to 1.
    end: end_percent at first, 0 to 1.
    """
    return [
        io.String.Input(
            "blocks",
            default="",
            tooltip="Transformer blocks, for example 0-3,7,40- . Empty: all. With a list, calls of unknown block are "
            "left out.",
        ),
        _percent("start_percent", start, "Begin at this part of the sampling: 0 is pure noise, 1 the finished latent."),
        _percent("end_percent", end, "End at this part of the sampling."),
    ]


class ChecksBlocks(Node):
    """A node with the widgets of blocks_and_steps: its blocks are checked before anything runs.

    ComfyUI blames each argument of validate_inputs for what it says, so it takes the one widget alone; how the percents
    stand to each other is for execute.
    """

    @classmethod
    def validate_inputs(cls, blocks=""):
        """Gives True, or one sentence about a list of blocks that cannot be right."""
        return wrong_spans(blocks) or True


def wrong_spans(text: str | None, name: str = "block") -> str | None:
    """Says in one sentence why a list of blocks cannot be right; None for a right one.

    text: None for a linked widget, which has no value before anything runs: execute checks that.
    name: of what is listed, where it is not blocks.
    """
    try:
        rules.parse_blocks(text or "", name)
    except ValueError as wrong:
        return str(wrong)
    return None


def spans_of(blocks: str, start_percent: float, end_percent: float, role: str = rules.ALL_ROLES) -> tuple:
    """Reads the spans of blocks of these widgets, () for all; checks the others.

    Raises ValueError with a sentence about the first of them that cannot be right.
    """
    wrong = rules.check(registry.AUTO, role, blocks, start_percent, end_percent)
    if wrong:
        raise ValueError(wrong)
    return rules.parse_blocks(blocks)


def _percent(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)


def on_unsupported(**options) -> io.Combo.Input:
    """Makes the combo that says what happens to a call that the rule's kernel cannot do.

    options: of the widget, as advanced.
    """
    return io.Combo.Input(
        "on_unsupported",
        options=[rules.FALL_BACK, rules.ERROR],
        default=rules.FALL_BACK,
        tooltip="fall back: ComfyUI's attention takes over, the report says why. error: stop and say why.",
        **options,
    )


def how() -> list:
    """Makes the widgets that say what a rule does besides naming a backend."""
    return [
        on_unsupported(),
        guard(),
        io.Boolean.Input(
            "timing",
            default=False,
            advanced=True,
            tooltip="Measures the time of every attention call for the report, for a few microseconds a call.",
        ),
    ]


def _mebibytes(name: str, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, optional=True, default=0, min=0, max=1 << 20, advanced=True, tooltip=tooltip)


def memory() -> io.Int.Input:
    """Makes the widget that says how much memory one call may take."""
    return _mebibytes(
        "memory",
        "Most MiB that one attention call may take beside q, k and v: it then runs some heads at a time, with "
        "the same result. 0: whole, and in chunks where memory runs out.",
    )


def memory_budget() -> io.Int.Input:
    """Makes the widget that says how much memory one call of what Calibrate chooses may take."""
    return _mebibytes(
        "memory_budget",
        "Most MiB that one attention call may take beside q, k and v. Kernels and patterns run in chunks where "
        "that keeps it, and are left out where nothing does. 0: no limit.",
    )


def auto_choice() -> list:
    """Makes the widgets that say how `auto` chooses."""
    return [
        io.Combo.Input(
            "auto_choice",
            options=list(rules.CHOICE_MODES),
            default=rules.MEASURE,
            advanced=True,
            tooltip="How auto chooses. measure: times the kernels once on the first real call of each shape, keeps the "
            "fastest. table order: the first that accepts, always the same.",
        ),
        io.Float.Input(
            "max_error",
            default=0.02,
            min=0.0,
            max=1.0,
            step=0.001,
            advanced=True,
            tooltip="The largest relative L2 error that auto allows a kernel it measures. INT8 kernels have 0.01 to "
            "0.03, exact ones 0.001 in 16 bit.",
        ),
    ]


def idle_choice(chooser: str) -> tuple[dict, ...]:
    """Makes the rows that say when the widgets of auto_choice have no effect.

    chooser: the combo whose `auto` they are about.
    """
    return (
        idle("auto_choice", "max_error", when=(none_of(chooser, registry.AUTO),)),
        idle("max_error", when=(one_of("auto_choice", rules.IN_ORDER),)),
    )
