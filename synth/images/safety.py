"""The safety checker of a model, asked beside the pipeline: diffusers' pipelines would put a black picture in silence."""

from pathlib import Path


class SafetyChecker:
    """Loaded from the folders safety_checker/ and feature_extractor/ of a Stable Diffusion 1 or 2 model."""

    def __init__(self, folder: Path, dtype, device):
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessor

        local = {"local_files_only": True}
        checker = StableDiffusionSafetyChecker.from_pretrained(str(folder / "safety_checker"), torch_dtype=dtype, **local)
        self.checker = checker.to(device).eval()
        self.extractor = CLIPImageProcessor.from_pretrained(str(folder / "feature_extractor"), **local)
        self.dtype, self.device = dtype, device

    def flagged(self, images) -> list[bool]:
        """Which of [B, 3, H, W] floats in [0, 1] it refuses. The images are left alone."""
        import numpy as np
        from PIL import Image

        pixels = images.float().mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        inputs = self.extractor([Image.fromarray(p) for p in pixels], return_tensors="pt").pixel_values
        blank = np.zeros((len(pixels), 1, 1, 3), dtype=np.float32)  # it paints over what it is given
        return [bool(f) for f in self.checker(clip_input=inputs.to(self.device, self.dtype), images=blank)[1]]
