"""The sentencepiece tokenizer of a LLaMA checkpoint. No torch."""

from pathlib import Path

from synth.errors import InputError


class Tokenizer:
    """Text to token ids and back. `bos`, `eos` and the newline's ids are read from the model, never assumed."""

    def __init__(self, path: str | Path):
        from sentencepiece import SentencePieceProcessor

        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} is missing: give the sentencepiece model that came with the checkpoint (tokenizer.model)")
        try:
            self._model = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as err:
            raise InputError(
                f"{path} is no sentencepiece model ({str(err).strip()[:200]}): copy tokenizer.model again from the checkpoint"
            ) from err
        self.path = path
        self.n_words = self._model.vocab_size()
        self.bos = self._model.bos_id()
        self.eos = self._model.eos_id()
        if self.bos < 0 or self.eos < 0:
            raise InputError(f"{path} has no bos or no eos piece: it is not the tokenizer of a LLaMA model")

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each prompt: bos, no eos."""
        return self._model.encode(texts, out_type=int, add_bos=True, add_eos=False)

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Texts of whole rows of ids: token by token, the marks of leading spaces would be lost."""
        return [self._model.decode(row) if row else "" for row in rows]

    def ids_containing(self, text: str) -> list[int]:
        """All ids whose own text contains `text`: for "\\n", the byte piece <0x0A> and any piece with a newline in it."""
        model, ids = self._model, []
        as_byte = f"<0x{text.encode()[0]:02X}>" if len(text.encode()) == 1 else None
        for i in range(self.n_words):
            if model.is_control(i) or model.is_unknown(i):
                continue
            piece = model.id_to_piece(i)
            if piece == as_byte if model.is_byte(i) else text in piece.replace("\u2581", " "):
                ids.append(i)
        return ids
