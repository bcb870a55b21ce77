"""What a user sees while a run goes on: a bar, a line with the seconds left, a preview of the clip."""

from __future__ import annotations

import logging
import time

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from comfy_api import feature_flags
from comfy_execution.utils import get_executing_context
from PIL import features
from server import PromptServer

from ...attention.core.error_handling import error_text
from ...attention.sampling import preview_frames, time_left
from ..host.latent import NotFinite, parts_of

# Pictures in a preview, and the part of the time that previews may take.
PICTURES, SHARE = 12, 0.1
# Seconds between two lines at least; the last one is always told.
APART = 0.25


class Progress:
    """Shows one bar for all parts of a run.

    model: MODEL that is sampled, for previews.
    total: length of the bar.
    seen: {"x0": the last finite prediction of a step}, empty before the first.
    """

    def __init__(self, model, total: int):
        self.total, self.seen = total, {}
        self._bar, self._previews, self._time_left = Bar(total), Previews(model), time_left.TimeLeft()
        self._told = 0.0

    def part(self, name: str = "", first: int = 0, size: int = 1, span: tuple | None = None):
        """Makes the callback of one part of the run.

        name: what the line says behind the step.
        first: where the part begins on the bar.
        size: how far a step moves the bar.
        span: latent frames that previews show; None for all.
        The callback raises NotFinite, and what the host raises when the user interrupts.
        """

        def callback(step, x0, x, steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if not all(bool(torch.isfinite(part).all()) for part in parts_of(x0)):
                raise NotFinite(f"NaN or Inf in step {step + 1} of {steps}{name}")
            self.seen["x0"] = x0
            self.move(first + (step + 1) * size, f"Step {step + 1} of {steps}{name}", self._previews.of(x0, span))

        return callback

    def move(self, value: int, doing: str, preview=None) -> None:
        """Moves the bar to `value`, and writes a line: `doing` and how long it still takes.

        preview: as of Previews.of.
        """
        self._bar.to(value, self.total, preview)
        now = time.perf_counter()
        self._time_left.mark(value, now)
        if now - self._told < APART and value < self.total:
            return
        self._told, left = now, self._time_left.seconds(self.total)
        say(doing if left is None or value >= self.total else f"{doing}, {time_left.to_text(left)} left")


class Bar:
    """Moves ComfyUI's progress bar; what other packs hang into it cannot end a render."""

    def __init__(self, total: int):
        self._bar, self._safely = comfy.utils.ProgressBar(total), Safely("the progress bar")

    def to(self, value: int, total: int, preview=None) -> None:
        """Moves the bar to `value` of `total`.

        preview: as of Previews.of.
        """
        self._safely(lambda: self._bar.update_absolute(value, total, preview))

    def step(self) -> None:
        """Moves the bar by one."""
        self._safely(lambda: self._bar.update(1))


class Counted:
    """Shows a bar, and a line that says how far a measurement is and how long it still takes.

    what: a part of it, in a word.
    each: how far the bar moves in one part.
    total: length of the bar.
    """

    def __init__(self, what: str, each: int, total: int):
        self.what, self.each, self.total, self.done = what, each, total, 0
        self._bar, self._left, self._told = Bar(total), time_left.TimeLeft(), 0.0

    def step(self) -> None:
        """Moves the bar by one, and writes the line unless it did just now."""
        self.to(self.done + 1)

    def to(self, done: int) -> None:
        """Moves the bar to `done`."""
        self.done, now = done, time.perf_counter()
        self._bar.to(done, self.total)
        self._left.mark(done, now)
        if now - self._told < APART or done >= self.total:
            return
        self._told, left = now, self._left.seconds(self.total)
        part, parts = min(done // self.each + 1, self.total // self.each), self.total // self.each
        step = f", step {done % self.each} of {self.each}" if self.each > 1 and done % self.each else ""
        more = "" if left is None else f", about {time_left.to_text(left)} left"
        say(f"{self.what} {part} of {parts}{step}{more}")


class Safely:
    """Runs what belongs to other packs. An error is logged once and gives None; an interrupt is the user's own wish.

    what: that the run goes on without, as the log says it.
    error: the last one; None without any.
    """

    def __init__(self, what: str):
        self.what, self.error = what, None

    def __call__(self, act):
        try:
            return act()
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:  # a previewer may raise anything
            if self.error is None:
                logging.warning("Video Attention goes on without %s: %s", self.what, error_text(error))
            self.error = error
            return None


class Previews:
    """Makes pictures of a prediction as ComfyUI's own previewer makes them, several where it makes one.

    model: MODEL that is sampled.
    A previewer that fails makes no more of them. It gets a copy, and its random numbers are not the sampler's.
    """

    def __init__(self, model):
        self._safely = Safely("previews")
        self._previewer = self._safely(
            lambda: latent_preview.get_previewer(model.load_device, model.model.latent_format)
        )
        # Another pack's previewer knows what to do with a clip, or shows it itself.
        self._own = type(self._previewer).__module__ != latent_preview.__name__
        self._not_before = 0.0

    def of(self, x0, span: tuple | None) -> tuple | None:
        """Makes what the host's bar takes, (format, image, largest side), of a prediction.

        x0: the latent, with sound or without.
        span: latent frames that are shown; None for all.
        Returns None without a previewer, or where it is too early for another picture.
        """
        begun = time.perf_counter()
        if self._previewer is None or self._safely.error is not None or begun < self._not_before:
            return None
        video = parts_of(x0)[0]
        cuda = [video.device] if video.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            made = self._safely(lambda: self._made(video, span))
        if not self._own and video.ndim == 5:
            now = time.perf_counter()
            self._not_before = now + (now - begun) * (1 / SHARE - 1)
        return made

    def _made(self, video: torch.Tensor, span: tuple | None) -> tuple | None:
        make = self._previewer.decode_latent_to_preview_image
        if self._own or video.ndim != 5:
            return make("JPEG", video.clone())
        at = preview_frames.pick_evenly(*(span or (0, video.shape[2])), PICTURES)
        made = [make("JPEG", video[:, :, t : t + 1].clone()) for t in at]
        # None: another pack shows the picture itself.
        shown = [each for each in made if each is not None]
        if len(shown) < 2:
            return shown[0] if shown else None
        return _together([shot for _, shot, _ in shown], shown[0][2])


def _together(pictures: list, edge: int) -> tuple:
    """Makes one picture of several: moving for a page that shows WebP, else a contact sheet."""
    server = getattr(PromptServer, "instance", None)
    page = server is not None and feature_flags.supports_feature(
        server.sockets_metadata, server.client_id, "supports_preview_metadata"
    )
    if page and features.check("webp"):
        # Fully sized here: the host would resize the first picture alone.
        return "WEBP", preview_frames.animation(pictures, edge), None
    return "JPEG", preview_frames.contact_sheet(pictures, edge), None


def say(text: str) -> None:
    """Writes a line on the node that runs, for the page that queued it; to nobody without a server, as in a script."""
    server = getattr(PromptServer, "instance", None)
    if server is None or server.client_id is None:
        return
    context = get_executing_context()
    server.send_progress_text(text, server.last_node_id if context is None else context.node_id, server.client_id)
