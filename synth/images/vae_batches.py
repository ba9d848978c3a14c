"""VAE decoding in batches of its own: at large pictures the decoder needs more memory than denoising does."""

from collections.abc import Iterable

from synth.images.text_encoders import components

DECODERS = ("vae", "movq")  # components that make pictures of latents; movq: Kandinsky's


def decoders(pipes: Iterable) -> list:
    """What pipelines decode latents with, each once."""
    return list({id(m): m for pipe in pipes for name, m in components(pipe).items() if name in DECODERS}.values())


def decode_in(vae, rows: int) -> None:
    """Make `vae.decode` work on `rows` latents at a time; a short last batch is filled up, so that every call has one shape.

    A VAE of half precision that its pipeline makes float32 for decoding gives half precision here: a float32 copy of all pictures would
    be as large as what the batches save.
    """
    import torch

    whole, own = vae.decode, vae.dtype

    def decode(z, *args, **kwargs):
        if len(z) <= rows:
            return whole(z, *args, **kwargs)
        pictures, form = [], None
        for at in range(0, len(z), rows):
            part = z[at : at + rows]
            more = rows - len(part)
            form = whole(torch.cat([part, part[-1:].expand(more, *part.shape[1:])]) if more else part, *args, **kwargs)
            pictures.append(form[0][: len(part)].to(own))
        decoded = torch.cat(pictures)
        return (decoded,) if isinstance(form, tuple) else type(form)(sample=decoded)

    vae.decode = decode
