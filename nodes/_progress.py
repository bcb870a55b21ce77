"""What a user sees while a run goes on: a bar, a line with the seconds left, a preview of the clip."""

from __future__ import annotations

import time

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from comfy_api import feature_flags
from comfy_execution.utils import get_executing_context
from PIL import features
from server import PromptServer

from ..attention.sampling import frames, pace

# Pictures in a preview, and the part of the time that previews may take.
PICTURES, SHARE = 12, 0.1
# Seconds between two lines at least; the last one is always told.
APART = 0.25


class NotFinite(RuntimeError):
    """A step gave NaN or Inf; args[0] says which."""

    def __str__(self):
        return f"{self.args[0]}. Try another kernel, or its guard at `every call`, in Video Attention Backend."


class Progress:
    """One bar for all parts of a run. seen["x0"]: the last finite prediction of a step."""

    def __init__(self, model, total: int):
        self.total, self.seen = total, {}
        self._bar, self._previews, self._pace = comfy.utils.ProgressBar(total), Previews(model), pace.Pace()
        self._told = 0.0

    def part(self, name: str = "", first: int = 0, size: int = 1, span: tuple | None = None):
        """The callback of a part that begins at `first` of the bar and moves it by `size` a step.

        span: the latent frames that previews show, all unless given. Raises NotFinite, and stops when the user
        interrupts.
        """

        def callback(step, x0, x, steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if not all(bool(torch.isfinite(part).all()) for part in parts_of(x0)):
                raise NotFinite(f"NaN or Inf in step {step + 1} of {steps}{name}")
            self.seen["x0"] = x0
            self.move(first + (step + 1) * size, f"Step {step + 1} of {steps}{name}", self._previews.of(x0, span))

        return callback

    def move(self, value: int, doing: str, preview=None) -> None:
        """The bar to `value`, and a line: `doing` and how long it still takes."""
        self._bar.update_absolute(value, self.total, preview)
        now = time.perf_counter()
        self._pace.mark(value, now)
        if now - self._told < APART and value < self.total:
            return
        self._told, left = now, self._pace.left(self.total)
        say(doing if left is None or value >= self.total else f"{doing}, {pace.to_text(left)} left")


class Previews:
    """Pictures of a prediction as ComfyUI's own previewer makes them, several where it makes one."""

    def __init__(self, model):
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        # Another pack's previewer knows what to do with a clip, or shows it itself.
        self._own = type(self._previewer).__module__ != latent_preview.__name__
        self._not_before = 0.0

    def of(self, x0, span: tuple | None) -> tuple | None:
        """What the host's bar takes, (format, image, largest side), or None when it is too early for another."""
        begun = time.perf_counter()
        if self._previewer is None or begun < self._not_before:
            return None
        video = parts_of(x0)[0]
        if self._own or video.ndim != 5:
            return self._previewer.decode_latent_to_preview_image("JPEG", video)
        at = frames.spread(*(span or (0, video.shape[2])), PICTURES)
        made = [self._previewer.decode_latent_to_preview_image("JPEG", video[:, :, t : t + 1]) for t in at]
        now = time.perf_counter()
        self._not_before = now + (now - begun) * (1 / SHARE - 1)
        return made[0] if len(made) == 1 else _together([shot for _, shot, _ in made], made[0][2])


def _together(pictures: list, edge: int) -> tuple:
    """Moving for a page that shows WebP, else a contact sheet."""
    server = getattr(PromptServer, "instance", None)
    page = server is not None and feature_flags.supports_feature(
        server.sockets_metadata, server.client_id, "supports_preview_metadata"
    )
    if page and features.check("webp"):
        # Fully sized here: the host would resize the first picture alone.
        return "WEBP", frames.moving(pictures, edge), None
    return "JPEG", frames.sheet(pictures, edge), None


def say(text: str) -> None:
    """A line on the node that runs, for the page that queued it; to nobody without a server, as in a script."""
    server = getattr(PromptServer, "instance", None)
    if server is None or server.client_id is None:
        return
    context = get_executing_context()
    server.send_progress_text(text, server.last_node_id if context is None else context.node_id, server.client_id)


def parts_of(samples) -> list[torch.Tensor]:
    """The tensors of a latent: the video, then the sound if there is any."""
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]
