"""Features of pictures and texts by an encoder of transformers: computed once as sharded units, read by filters, layout and the judge."""
