"""Layout labels: of pictures with alt texts the objects, their boxes, masks and captions. A stage each, one model in memory each."""
