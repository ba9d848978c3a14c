"""Train the caption model's sentencepiece tokenizer: 1,024 BPE pieces with byte fallback, and some whole phrases.

It is trained on single words and signs, so that no piece holds a space: a space is a token of its own, and a name has the
same tokens at the start of the query line, inside a caption and before a full stop. Copying a name is then copying
tokens; with the usual pieces (" rock" but "ro" at the start of a line) a small model got 45 of 400 unseen names right.
Phrases of the headings and the grammar are appended as user-defined pieces: they halve the length of a document. They
stand after the bytes, so that the newline keeps the id 13 it has in LLaMA-2.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from synth.embedded.pictures import grammar
from synth.embedded.train.caption_corpus import Corpus, emoji_names

PHRASES = (
    "Describe a picture of the given object", "Describe a picture of the given texture", " in the given place.",
    " with the given relation.", " =>", " background", "A picture of a", "A drawing of a", "An image of a", "An illustration of a",
    "A view of a", " on the left", " on the right", " on the left side", " on the right side", " to the left", " to the right",
    " in the middle", " on a plain ", " against a", " in front of a", " on a ", " in a ", " shown", " seen", " placed", " resting",
    " a small ", " a tiny ", " a little ", " a large ", " a big ", " a huge ", "A small ", "A tiny ", "A little ", "A large ", "A big ",
    "A huge ", *(f" {w} " for w in grammar.ADJECTIVES), " surface", " pattern", " texture in soft light", "A close view of a", " and ",
    " of a", " wooden table", " city street", " starry night sky", " night sky", " sandy beach", " green meadow", " grassy meadow",
    " blue lake", " at the ", " fresh white snow", " deep snow", " in the snow", " dark forest", " green forest", " hot desert",
    " dry desert", " on top of a", " at sunset", " glowing sunset",
)  # fmt: skip


def append_phrases(path: Path) -> None:
    """Add PHRASES to a sentencepiece model file, after the pieces it was trained with."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    for phrase in PHRASES:
        piece = model.pieces.add()
        piece.piece, piece.score = phrase.replace(" ", "\u2581"), 0.0
        piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    model.trainer_spec.vocab_size = len(model.pieces)
    path.write_bytes(model.SerializeToString())


def words_of(corpus: Corpus, documents: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = []
    for _ in range(documents):
        heading, lines = corpus.document(rng)
        for text in (heading, *(f"{line.query} => {line.caption}" for line in lines)):
            words += re.findall(r"=>|[^\W\d_]+|\d|[^\w\s]", text)
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("icons", type=Path, help="icons.json of fluent-emoji-flat, for real nouns")
    parser.add_argument("out", type=Path, help="tokenizer.model to write")
    parser.add_argument("--documents", type=int, default=8000)
    args = parser.parse_args()
    words = words_of(Corpus(emoji_names(args.icons)), args.documents)
    prefix = args.out.with_suffix("")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_prefix=str(prefix),
        vocab_size=1024,
        model_type="bpe",
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.9999,
        bos_id=1,
        eos_id=2,
        unk_id=0,
        pad_id=-1,
        num_threads=1,
        required_chars="\u2581ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        input_sentence_size=0,
        minloglevel=1,
    )
    prefix.with_suffix(".vocab").unlink()
    append_phrases(args.out)
    model = sentencepiece.SentencePieceProcessor(model_file=str(args.out))
    print(
        f"{model.vocab_size()} pieces; newline = {model.encode(chr(10))}; "
        f"{model.encode('rocket => A small rocket on a blue background.', out_type=str)}"
    )


if __name__ == "__main__":
    main()
