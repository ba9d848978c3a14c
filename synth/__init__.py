"""The worker side of synthset: computes stages from their folders alone. Imports no hydra and no submitit."""
