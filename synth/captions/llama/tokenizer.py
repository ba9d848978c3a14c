"""The tokenizer of a LLaMA checkpoint: a sentencepiece model (LLaMA 1 and 2) or a table of ranks (Llama 3). No torch."""

from pathlib import Path

from synth import foreign
from synth.captions.llama.bpe import RankTable, is_ranks
from synth.errors import InputError


class Tokenizer:
    """Text to token ids and back. `bos`, `eos`, `ends` and the newline's ids are read from the file, never assumed."""

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} is {foreign.absent(path)}: give the tokenizer.model that came with the checkpoint")
        with foreign.open_file(path) as f:
            head = f.read(200)
        if known := foreign.stand_in(head):
            raise InputError(f"{path}: {known}")
        self._model: RankTable | Pieces = RankTable(path) if is_ranks(head) else Pieces(path)
        self.path = path
        self.n_words, self.bos, self.eos = self._model.n_words, self._model.bos, self._model.eos
        self.ends = self._model.ends  # ids after which nothing comes: of a text, of a turn

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each prompt: bos, no eos."""
        return [[self.bos, *self._model.encode(text)] for text in texts]

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Texts of whole rows of ids: token by token, the marks of leading spaces would be lost."""
        return [self._model.decode(row) if row else "" for row in rows]

    def ids_containing(self, text: str) -> list[int]:
        """All ids whose own text contains `text`: for "\\n", the byte piece <0x0A> and any piece with a newline in it."""
        return self._model.ids_containing(text)


class Pieces:
    """A sentencepiece model."""

    def __init__(self, path: Path):
        from sentencepiece import SentencePieceProcessor

        try:
            self._model = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as err:
            why = f"{path} is no sentencepiece model, and no table of ranks as Llama 3 has it ({str(err).strip()[:200]})"
            fix = "give the tokenizer.model of the checkpoint (of a tokenizer.json: captioner=hf)"
            raise InputError(f"{why}: {fix}") from err
        self.n_words, self.bos, self.eos = self._model.vocab_size(), self._model.bos_id(), self._model.eos_id()
        self.ends = frozenset([self.eos])
        if self.bos < 0 or self.eos < 0:
            raise InputError(f"{path} has no bos or no eos piece: it is not the tokenizer of a LLaMA model")

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text, out_type=int)

    def decode(self, ids: list[int]) -> str:
        return self._model.decode(ids)

    def ids_containing(self, text: str) -> list[int]:
        model, ids = self._model, []
        as_byte = f"<0x{text.encode()[0]:02X}>" if len(text.encode()) == 1 else None
        for i in range(self.n_words):
            if model.is_control(i) or model.is_unknown(i):
                continue
            piece = model.id_to_piece(i)
            if piece == as_byte if model.is_byte(i) else text in piece.replace("\u2581", " "):
                ids.append(i)
        return ids
