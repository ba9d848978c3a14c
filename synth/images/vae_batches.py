"""VAE decoding in batches of its own: at large pictures the decoder needs more memory than denoising does."""


def decode_in(vae, rows: int) -> None:
    """Make `vae.decode` work on `rows` latents at a time; a short last batch is filled up, so that every call has one shape."""
    import torch

    whole = vae.decode

    def decode(z, *args, **kwargs):
        if len(z) <= rows:
            return whole(z, *args, **kwargs)
        pictures, form = [], None
        for at in range(0, len(z), rows):
            part = z[at : at + rows]
            more = rows - len(part)
            form = whole(torch.cat([part, part[-1:].expand(more, *part.shape[1:])]) if more else part, *args, **kwargs)
            pictures.append(form[0][: len(part)])
        decoded = torch.cat(pictures)
        return (decoded,) if isinstance(form, tuple) else type(form)(sample=decoded)

    vae.decode = decode
