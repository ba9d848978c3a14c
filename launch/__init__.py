"""The login-node side of synthset: composes, plans, submits, shows. Imports no torch, diffusers or transformers."""
