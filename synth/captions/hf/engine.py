"""Engine `hf`: any causal language model of transformers, from a local folder, in this process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from synth import loading, numerics
from synth.captions.config import CaptionerConfig
from synth.captions.engines import TOO_LONG, Reply, Request, check_texts, cut, stops
from synth.captions.hf.folder import check_length, inspect
from synth.errors import InputError, OutOfDeviceMemory, not_trouble
from synth.host import gpu
from synth.kinds import config_of
from synth.store.folder import StageFolder

MARGIN = 4  # tokens beyond a stop text's bytes that are looked at: some tokens decode to nothing


class HfEngine:
    """Chat templates are applied where a request has messages and the tokenizer has a template; else its text is continued."""

    def __init__(self, captioner: CaptionerConfig, path: Path, numeric: Mapping):
        self.captioner, self.path, self.numerics = captioner, Path(path), numeric
        self.model = self.tokenizer = self._decoder = None

    def check(self) -> None:
        check_length(inspect(self.path), self.captioner.max_seq_len)

    def start(self) -> None:
        """Load the model. InputError for a folder that transformers cannot read."""
        if self.model is not None:
            return
        numerics.apply_to_text(self.numerics)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        from synth.captions.hf.generate import Decoder

        disable_progress_bar()  # a worker's output is a log
        c = self.captioner
        local = {"local_files_only": True, "trust_remote_code": False}
        on = gpu.device()
        many = c.model_parallel > 1 and on.type == "cuda"
        where = {"device_map": "auto"} if many else {}  # layers spread over the GPUs of this worker
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.path, **local)
            with loading.complete():
                model = AutoModelForCausalLM.from_pretrained(
                    self.path, dtype=gpu.dtype_on(c.dtype, on), use_safetensors=True, **local, **where
                )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as e:
            if isinstance(e, torch.cuda.OutOfMemoryError):
                raise self._too_big(e) from e
            not_trouble(self.path, e)
            raise InputError(f"{self.path}: transformers cannot load it: {type(e).__name__}: {e}") from e
        if not many:
            model.to(on)
        self.model = model.eval()
        self._decoder = Decoder(self.model, self._ends(), c.temperature, c.top_p, self._stopped)

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply a request, in order. Requests are batched by length, max_batch_size at a time; the window fixes how."""
        check_texts(requests)
        self.start()
        import torch

        from synth.captions.hf.generate import NotFinite, Row

        c = self.captioner
        ids = [self._ids(r) for r in requests]
        replies: list[Reply | None] = [Reply("", TOO_LONG) if len(i) >= c.max_seq_len else None for i in ids]
        order = sorted((n for n, reply in enumerate(replies) if reply is None), key=lambda n: -len(ids[n]))
        size = c.max_batch_size if self._decoder.pads else 1
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            limits = [min(c.max_gen_len, c.max_seq_len - len(ids[n])) for n in chosen]
            ends = [stops(c.stop, self._is_chat(requests[n])) for n in chosen]
            rows = [Row(ids[n], requests[n].seed, limit, stop) for n, limit, stop in zip(chosen, limits, ends, strict=True)]
            try:
                drawn = self._decoder.batch(rows)
            except NotFinite as e:
                raise InputError(
                    f"{self.path}: the model's logits are not finite (NaN or infinity) at token {e.args[0]}: "
                    "the weights are damaged, or captioner.dtype=float16 overflows (try bfloat16 or float32)"
                ) from e
            except torch.cuda.OutOfMemoryError as e:
                raise self._too_big(e) from e
            for n, row, tokens in zip(chosen, rows, drawn, strict=True):
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                whole = len(tokens) < row.limit or tokens[-1] in self._decoder.ends
                replies[n] = Reply(cut(text, row.stop), ended=whole or self._stopped(tokens, row.stop))
        return replies

    def close(self) -> None:
        self.model = self.tokenizer = self._decoder = None
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _is_chat(self, request: Request) -> bool:
        return bool(request.messages and self.tokenizer.chat_template)

    def _ids(self, request: Request) -> list[int]:
        """Tokens of a request, one at least."""
        if not self._is_chat(request):
            ids = self.tokenizer(request.text)["input_ids"]
            start = self.tokenizer.bos_token_id
            return ids or [start if start is not None else 0]
        messages = [{"role": role, "content": content} for role, content in request.messages]
        try:
            return self._chat(messages)
        except Exception as e:
            if messages[0]["role"] != "system" or len(messages) < 2:
                raise self._bad_template(e) from e
            first = {"role": messages[1]["role"], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
            try:  # many templates refuse a system message
                return self._chat([first, *messages[2:]])
            except Exception as e:
                raise self._bad_template(e) from e

    def _chat(self, messages: list[dict]) -> list[int]:
        more = self.captioner.template or {}
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, **more)["input_ids"]

    def _bad_template(self, e: Exception) -> InputError:
        return InputError(f"{self.path}: its chat template refuses the messages of this prompt maker: {type(e).__name__}: {e}")

    def _ends(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        return [e for e in (*listed, self.tokenizer.eos_token_id) if e is not None]

    def _stopped(self, tokens: list[int], stop: Sequence[str]) -> bool:
        """Whether a stop text ends among the last tokens."""
        if not stop:
            return False
        longest = max(len(s.encode()) for s in stop)
        tail = self.tokenizer.decode(tokens[-longest - MARGIN :], skip_special_tokens=True)
        return any(s in tail for s in stop)

    def _too_big(self, e: Exception) -> OutOfDeviceMemory:
        return OutOfDeviceMemory(f"out of device memory: lower captioner.max_batch_size or captioner.max_seq_len ({e})")


def from_stage(folder: StageFolder) -> HfEngine:
    return HfEngine(config_of(folder).captioner, folder.input_path("model"), folder.spec.numerics)
