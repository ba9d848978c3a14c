"""The scripts that made the embedded drawings and models; nothing else in the project imports them."""
