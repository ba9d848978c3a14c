"""Text to image: model folders, families of pipelines, text embeddings, encoding, and the stage that ties them."""
