"""Context windows for models whose sound ComfyUI cannot cut itself: its axis of time is not the video's.

The host's handler cuts every stream along one axis, by a mapping that the model knows. Here it is shown the sound with
its time where the video's is, and a mapping by seconds; each model call gets the sound as it was.
"""

from __future__ import annotations

import comfy.conds
import comfy.context_windows as host
import comfy.utils
import torch

from ...attention.families.facts import SoundStream
from ...attention.sampling import windows
from .rehearsal import Over

SHAPES = "latent_shapes"


class SoundHandler(host.IndexListContextHandler):
    """The host's handler of windows, for a latent of video and sound.

    sound: how the sound lies in it.
    sizes: pictures in each latent frame of the video, over and over.
    Its other arguments are the host's.
    """

    def __init__(self, *args, sound: SoundStream, sizes: tuple[int, ...], **kwargs):
        super().__init__(*args, **kwargs)
        self.sound, self.sizes = sound, sizes

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        shapes = self._get_latent_shapes(conds)
        if shapes is None or len(shapes) < 2:
            return super().execute(calc_cond_batch, model, conds, x_in, timestep, model_options)
        axis = self.sound.axis

        def each_window(_, conds, x, timestep, options):
            turned = self._get_latent_shapes(conds)
            x, own = moved(x, turned, self.dim, axis)
            outs = calc_cond_batch(model, with_shapes(conds, own), x, timestep, options)
            return [moved(out, own, axis, self.dim)[0] for out in outs]

        mapped = Over(model, map_context_window_to_modalities=self._map)
        x_in, turned = moved(x_in, shapes, axis, self.dim)
        outs = super().execute(each_window, mapped, with_shapes(conds, turned), x_in, timestep, model_options)
        return [moved(out, turned, self.dim, axis)[0] for out in outs]

    def _map(self, frames, shapes, dim) -> list[list[int]]:
        """Lists the samples of each sound that last as long as these latent frames; the video's own come first."""
        return [list(frames), *(samples_of(frames, shapes[0][dim], shape[dim], self.sizes) for shape in shapes[1:])]

    def _apply_freenoise(self, noise, conds, seed):
        shapes = self._get_latent_shapes(conds)
        if shapes is None or len(shapes) < 2:
            return super()._apply_freenoise(noise, conds, seed)
        axis = self.sound.axis
        noise, turned = moved(noise, shapes, axis, self.dim)
        made = super()._apply_freenoise(noise, with_shapes(conds, turned), seed)
        return moved(made, turned, self.dim, axis)[0]


def samples_of(frames: list[int], total: int, samples: int, sizes: tuple[int, ...]) -> list[int]:
    """Lists the samples of sound, of `samples` in all, that last as long as some of `total` latent frames."""
    found: dict[int, None] = {}
    for frame in frames:
        first, end = (windows.in_other_stream(at, total, samples, sizes) for at in (frame, frame + 1))
        found |= dict.fromkeys(range(first, end))
    return list(found)


def moved(packed: torch.Tensor, shapes, source: int, target: int) -> tuple[torch.Tensor, list]:
    """Moves an axis of every stream but the first in a tensor that they are packed into. Gives it and their shapes."""
    first, *others = comfy.utils.unpack_latents(packed, shapes)
    return comfy.utils.pack_latents([first, *(part.movedim(source, target) for part in others)])


def with_shapes(conds, shapes) -> list:
    """Copies prompts that say that the streams have these shapes."""
    told = comfy.conds.CONDConstant(shapes)
    return [
        prompt and [{**cond, "model_conds": {**cond["model_conds"], SHAPES: told}} for cond in prompt]
        for prompt in conds
    ]
