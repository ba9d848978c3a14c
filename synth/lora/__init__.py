"""LoRAs that are trained on a few real pictures of each class, and draw the run's pictures."""
