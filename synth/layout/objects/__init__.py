"""What is left out of layout labels, object by object, and what CLIP says of objects."""
