"""What the GPU's decode path does besides launching graphs: rounding up rows and columns, notes that come late."""

import pytest
import torch

from synth.captions.llama.cuda import DecodeGraphs, Notes, padded
from tests.captions.llama import tiny
from tests.captions.llama.test_generate import same_but_for_edges


@pytest.mark.parametrize(
    ("n", "span", "expected"),
    [(1, 1, (1, 64)), (5, 64, (8, 64)), (8, 65, (8, 128)), (40, 500, (48, 510)), (48, 510, (48, 510))],
)
def test_sizes_of_graphs_are_few_and_never_beyond_the_cache(n, span, expected):
    assert padded(n, span, 48, 510) == expected


@pytest.mark.parametrize("rows", [3, 6, 32])
def test_rows_that_only_fill_a_graph_up_harm_no_caption(gqa, rows, monkeypatch):
    """Not even one whose prompt begins like that of a row that ended."""
    monkeypatch.setattr(DecodeGraphs, "_capture", lambda self, rows, columns: None)  # no CUDA: the same steps without a graph
    texts = [*tiny.prompts(8), *tiny.grouped(20)]
    one = tiny.generator(gqa, rows=1, margins=True, share=False).window(texts, range(28))
    generator = tiny.generator(gqa, rows=rows)
    sizes = set()

    def decode(tokens, position, span):
        sizes.add((tokens.shape[0], span))
        return graphs(tokens, position, span)

    graphs, generator.decode, generator.lag = DecodeGraphs(generator.model), decode, 1
    window = generator.window(texts, range(28))
    assert same_but_for_edges(one.tokens, window.tokens, one.margins) <= 1
    assert len(graphs._graphs) < len(sizes) / 3


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_note_is_of_the_state_it_was_made_of(lag):
    tensor = torch.zeros(2)
    notes, read = Notes(tensor, lag), []
    for step in range(6):
        notes.tensor[:] = step
        note = notes.exchange()
        read.append(None if note is None else int(note[0]))
    assert read == [None] * lag + list(range(6 - lag))
