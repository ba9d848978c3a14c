"""A double of icetk 0.0.7: a word is a token, and a picture's colours are its tokens."""

import math
import os
import zlib

import torch


class IceTokenizer:
    num_image_tokens = 20000

    def __init__(self):
        self.special, self.path, self.loaded = [], "~/.icetk_models", set()

    def configure(self, path=None, device=None, fp16=None):
        self.path = path or self.path

    def _load(self, name):
        if name not in self.loaded:
            with open(os.path.join(self.path, f"{name}.lock"), "w"):
                os.stat(os.path.join(self.path, name))
            self.loaded.add(name)

    def add_special_tokens(self, tokens):
        self._load("ice_text.model")
        if self.special:
            raise RuntimeError(f"{tokens[0]} is already defined")
        self.special = list(tokens)

    def encode(self, text):
        for word in self.special:
            text = text.replace(word, f" {word} ")
        return [self[word] if word in self.special else 20100 + zlib.crc32(word.encode()) % 9000 for word in text.split()]

    def __getitem__(self, word):
        return 20000 + self.special.index(word)

    def decode(self, image_ids):
        self._load("ice_image.pt")
        side = math.isqrt(len(image_ids))
        colours = torch.stack([image_ids * 37 % 256, image_ids * 91 % 256, image_ids % 256]).view(1, 3, side, side) / 255
        return torch.nn.functional.interpolate(colours, scale_factor=8)


icetk = IceTokenizer()
