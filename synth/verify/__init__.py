"""Proof that what was made is whole: units against their indices, stages against their upstreams, exports against their units."""
