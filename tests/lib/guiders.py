"""GUIDERs that tests put around a model: ComfyUI's own, and stand-ins for those of other packs.

The stand-ins are written from nothing and behave as the guiders of Lightricks/ComfyUI-LTXVideo were read to behave in
June 2026: one call of the model after the other, options changed in place around each of them, and post-CFG functions
that get the guided result for the step's input, or cannot be called at all.
"""

from __future__ import annotations

from dataclasses import replace

from tiny.case import parts, prompt


def multimodal(model, positive, negative, cfg=3.0, own=0.0, skip=()):
    """As MultimodalGuider. own: scale of a perturbation of its own. skip: steps in which the sound is held."""
    import comfy.samplers

    class Multimodal(comfy.samplers.CFGGuider):
        step, held = 0, None

        def predict_noise(self, x, timestep, model_options, seed=None):
            holds, self.step = self.step in skip, self.step + 1
            x = with_sound(self, x, self.held) if holds else x

            def ask(prompt, **more):
                flags = {"run_vx": True, "run_ax": not holds, **more}
                return asked(self, self.conds[prompt], x, timestep, model_options, flags)

            made = told = ask("positive")
            if cfg != 1.0:
                weak = ask("negative")
                made = made + (cfg - 1.0) * (told - weak)
            if own:
                made = made + own * (told - 0.9 * ask("positive", ptb_index=0))
            x = with_sound(self, made, self.held) if holds else made
            for function in model_options.get("sampler_post_cfg_function", []):
                if not own or cfg == 1.0:
                    raise UnboundLocalError("noise_pred_perturbed")
                x = function({
                    "denoised": x, "input": x, "cond": self.conds["positive"], "uncond": self.conds["negative"],
                    "cond_denoised": told, "uncond_denoised": weak, "model": self.inner_model, "sigma": timestep,
                    "model_options": model_options,
                })  # fmt: skip
            self.held = streams(self, x)[1]
            return x

    guider = Multimodal(model.clone())
    guider.set_conds(positive, negative)
    return guider


def asked(guider, prompt, x, timestep, model_options, flags):
    """A prediction with flags that stand in the options for this one call."""
    import comfy.samplers

    options = model_options["transformer_options"]
    options.update(flags)
    try:
        return comfy.samplers.calc_cond_batch(guider.inner_model, [prompt], x, timestep, model_options)[0]
    finally:
        for flag in flags:
            del options[flag]


def streams(guider, x):
    """Video and sound of what is packed into one tensor."""
    import comfy.utils

    return comfy.utils.unpack_latents(x, guider.conds["positive"][0]["model_conds"]["latent_shapes"].cond)


def with_sound(guider, x, sound):
    """x with another sound."""
    import comfy.utils

    return comfy.utils.pack_latents([streams(guider, x)[0], sound])[0]


def named(model, positive, negative, other, cfg=3.0, kind="target"):
    """As the FlowEdit guider: prompts called source_positive and so on, one pair of them at each evaluation."""
    import comfy.samplers

    class Named(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options, seed=None):
            return comfy.samplers.sampling_function(
                self.inner_model, x, timestep, self.conds[f"{kind}_negative"], self.conds[f"{kind}_positive"], cfg,
                model_options=model_options, seed=seed,
            )  # fmt: skip

    guider, aside = Named(model), "source" if kind == "target" else "target"
    guider.inner_set_conds({
        f"{aside}_positive": other, f"{aside}_negative": other,
        f"{kind}_positive": positive, f"{kind}_negative": negative,
    })  # fmt: skip
    return guider


def changes_in_place(model, positive, negative, cfg=3.0):
    """One that overwrites what it was given and what it was answered."""
    import comfy.samplers

    class InPlace(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options, seed=None):
            conds = [self.conds["positive"], self.conds["negative"]]
            strong, weak = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
            model_options["transformer_options"]["left behind"] = True
            return strong.sub_(weak).mul_(cfg).add_(weak)

    guider = InPlace(model)
    guider.set_conds(positive, negative)
    return guider


def cfg_guider(model, positive, negative, cfg=3.0):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def basic(model, positive):
    from comfy_extras.nodes_custom_sampler import Guider_Basic

    guider = Guider_Basic(model)
    guider.set_conds(positive)
    return guider


def dual_cfg(model, positive, middle, negative, nested):
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    guider = Guider_DualCFG(model)
    guider.set_conds(positive, middle, negative)
    guider.set_cfg(3.0, 2.0, nested)
    return guider


def perp_neg(model, positive, negative, empty):
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    guider = Guider_PerpNeg(model)
    guider.set_conds(positive, negative, empty)
    guider.set_cfg(3.0, 1.0)
    return guider


def dual_model(model, other, positive, negative):
    import pytest
    from comfy_extras import nodes_custom_sampler as host

    if not hasattr(host, "Guider_DualModel"):
        pytest.skip("this ComfyUI has no guider of two models")
    guider = host.Guider_DualModel(model, other)
    guider.set_conds(positive, negative)
    guider.set_cfg(3.0)
    return guider


def video_and_sound(model, positive, negative, video=3.0, sound=7.0):
    """Newer hosts' guider with a cfg of its own for the sound."""
    import pytest
    from comfy_extras import nodes_lt

    if not hasattr(nodes_lt, "Guider_LTXAVDualCFG"):
        pytest.skip("this ComfyUI has no guider of video and sound")
    guider = nodes_lt.Guider_LTXAVDualCFG(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(video, sound)
    return guider


# Each makes a GUIDER of a model and three prompts: what the user wants, what not, and a third.
KINDS = {
    "CFG": lambda m, p, n, e: cfg_guider(m, p, n),
    "CFG 1": lambda m, p, n, e: cfg_guider(m, p, n, 1.0),
    "basic": lambda m, p, n, e: basic(m, p),
    "DualCFG": lambda m, p, n, e: dual_cfg(m, p, e, n, False),
    "DualCFG nested": lambda m, p, n, e: dual_cfg(m, p, e, n, True),
    "PerpNeg": lambda m, p, n, e: perp_neg(m, p, n, e),
    "DualModel": lambda m, p, n, e: dual_model(m, m, p, n),
    "other names": lambda m, p, n, e: named(m, p, n, e),
    "in place": lambda m, p, n, e: changes_in_place(m, p, n),
}
# Those that sample video and sound together.
WITH_SOUND = {
    "multimodal": lambda m, p, n, e: multimodal(m, p, n),
    "multimodal, cfg 1": lambda m, p, n, e: multimodal(m, p, n, cfg=1.0),
    "multimodal, own perturbation": lambda m, p, n, e: multimodal(m, p, n, own=0.5),
    "video and sound": lambda m, p, n, e: video_and_sound(m, p, n),
}


def run(guider, case, steps=1, callback=None, sampler="euler", sigmas=None):
    """The samples of a case, as SamplerCustomAdvanced makes them."""
    import comfy.sample
    import comfy.samplers
    import torch

    latent = case.latent()
    noise = comfy.sample.prepare_noise(latent, 1)
    sigmas = torch.linspace(1.0, 0.0, steps + 1) if sigmas is None else torch.tensor(sigmas)
    return guider.sample(
        noise, latent, comfy.samplers.sampler_object(sampler), sigmas, callback=callback, disable_pbar=True, seed=1
    )


def prompts(case) -> tuple:
    """What the user wants, what not, and a third."""
    return tuple(prompt(case, seed) for seed in (1, 2, 5))


def of_two_clips(case):
    """The case with everything in its latent twice."""

    def latent():
        import comfy.nested_tensor
        import torch

        twice = [torch.cat([part, part]) for part in parts(case.latent())]
        return twice[0] if len(twice) == 1 else comfy.nested_tensor.NestedTensor(twice)

    return replace(case, latent=latent)
