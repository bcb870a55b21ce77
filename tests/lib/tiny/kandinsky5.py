"""Kandinsky 5."""

from .case import Case, build

CONFIG = {
    "image_model": "kandinsky5", "model_dim": 32, "axes_dims": (4, 6, 6), "time_dim": 16, "ff_dim": 32,
    "visual_embed_dim": 132, "num_text_blocks": 1, "num_visual_blocks": 2, "in_text_dim": 16, "in_text_dim2": 24,
    "out_visual_dim": 16,
}  # fmt: skip


def video():
    return build("Kandinsky5", CONFIG)


def image():
    return build("Kandinsky5Image", {**CONFIG, "visual_embed_dim": 64})


def latent(*shape):
    def zeros():
        import torch

        return torch.zeros(shape)

    return zeros


def pooled():
    import torch

    return {"pooled_output": torch.ones(1, 24)}


def first_frame():
    """What Kandinsky5ImageToVideo adds: the image takes the place of the first frame, and the mask says so."""
    import torch

    mask = torch.ones(1, 1, 3, 8, 6)
    mask[:, :, 0] = 0
    return {**pooled(), "time_dim_replace": torch.ones(1, 16, 1, 8, 6), "concat_mask": mask}


def case(variant, model, shape, grid, name="", conditioning=pooled, **options):
    calls = {"self": 2, "cross": 2, "text": 1}
    return Case(
        variant, model, latent(*shape), (1, 7, 16), calls, grid, name=name, conditioning=conditioning, options=options
    )


CASES = (
    case("Kandinsky 5 text to video", video, (1, 16, 3, 8, 6), (3, 4, 3)),
    case("Kandinsky 5 text to video", video, (1, 16, 1, 4, 6), (1, 2, 3), name="one frame"),
    case("Kandinsky 5 text to video", video, (2, 16, 3, 8, 6), (3, 4, 3), name="batch of 2, cfg", cfg=3.0),
    case("Kandinsky 5 image to video", video, (1, 16, 3, 8, 6), (3, 4, 3), conditioning=first_frame),
    case("Kandinsky 5 image", image, (1, 16, 8, 6), (1, 4, 3)),
)
