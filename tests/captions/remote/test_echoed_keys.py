"""A server, or a program that was given the key, says it again: nothing that a run leaves or shows holds a piece of it."""

import base64
import html
import json
import sys
from urllib.parse import quote

import pytest

from synth.captions.remote.journal import totals
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError
from tests.captions.remote.fake import Fake, says, status
from tests.captions.remote.test_kill import planned
from tests.fixtures_images import work

KEY = 'sk-4fJ2pQ9xLm0Zt7Ab+/="w8'
PIECE = 6
ENCODED = {
    "whole": KEY,
    "as a header": f"Bearer {KEY}",
    "masked": f"{KEY[:7]}***{KEY[-4:]}",
    "masked with dots": f"{KEY[:3]}...{KEY[-4:]}",
    "its first half": KEY[: len(KEY) // 2],
    "its second half": KEY[len(KEY) // 2 :],
    "its first characters": KEY[:PIECE],
    "its last characters": KEY[-PIECE:],
    "in capitals": KEY.upper(),
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "in base64 behind a name": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "in base64 for addresses": base64.urlsafe_b64encode(f"Bearer {KEY}".encode()).decode(),
    "in hexadecimal": KEY.encode().hex(),
    "in an address": quote(KEY, safe=""),
    "in HTML": html.escape(KEY),
    "in JSON in JSON": json.dumps(json.dumps(KEY)),
    "as numbers of characters": "".join(f"\\u{ord(c):04x}" for c in KEY),
}
FORMS = [f for f in ENCODED.values() if "***" not in f and "..." not in f]


def pieces(text: str) -> list[str]:
    """What of the key, in any form, stands in a text."""
    text = text.lower()
    found = [KEY[i : i + PIECE] for i in range(len(KEY) - PIECE + 1) if KEY[i : i + PIECE].lower() in text]
    whole = [base64.b64encode(b"\0" * n + KEY.encode()).decode()[4:20] for n in range(3)]
    return found + [form for form in (*FORMS, *whole, f"{KEY[-4:]}") if form.lower() in text and form != KEY[:PIECE]]


def shown(folder) -> str:
    """All that a stage folder holds."""
    return "\n".join(p.read_text(errors="replace") for p in sorted(folder.path.rglob("*")) if p.is_file())


@pytest.fixture
def run(monkeypatch, capfd):
    """folder -> exit code of a worker that was given the key, and all that it said and left."""
    monkeypatch.setenv("SERVICE_KEY", KEY)
    monkeypatch.setattr("synth.redaction._told", set())

    def run(folder) -> tuple[int, str]:
        code = work(folder)
        return code, "".join(capfd.readouterr()) + shown(folder)

    return run


def of_a_server(tmp_path, url: str):
    return planned(tmp_path, "captioner=openai", f"captioner.base_url={url}", "captioner.api_key_env=SERVICE_KEY", "captioner.retries=0")


ALL = " | ".join(ENCODED.values())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(401, {"X-Echo": f"Bearer {KEY}"}, {"error": {"message": f"Incorrect API key provided: {ALL}"}}), 65),
        (status(403, {}, f"<html>{ALL}</html>"), 65),
        (status(500, {}, {"error": {"message": f"{'x' * 490}{KEY}", "type": ALL}}), 75),  # where it is cut short
        (status(402, {}, {"detail": ALL}), 75),
        (status(200, {}, {"error": {"message": ALL}}), 75),
        (status(200, {}, f"{'x' * 190}{ALL}"), 65),
        (status(307, {"Location": f"http://127.0.0.1:1/{quote(KEY, safe='')}?key={quote(KEY)}"}, ""), 75),
        (status(302, {"Location": f"gopher://{quote(KEY, safe='')}/"}, ""), 65),
    ],
)
def test_an_error_that_echoes_the_key(tmp_path, run, answer, code):
    with Fake(default=answer) as server:
        got, said = run(of_a_server(tmp_path, server.url))
        assert server.seen[0]["auth"] == f"Bearer {KEY}"
    assert got == code, said
    assert not pieces(said)
    assert "error" in said or "stop" in said


def test_an_answer_that_echoes_the_key_is_kept_without_it(tmp_path, run):
    with Fake(default=says(f"A picture of {ALL}", finish_reason=KEY)) as server:
        folder = of_a_server(tmp_path, server.url)
        _, said = run(folder)
    assert totals(folder.path).answers >= 24
    assert not pieces(said) and "A picture of ***" in said


def test_a_command_that_says_the_key_that_it_was_given(tmp_path, run):
    script = tmp_path / "serve.py"
    script.write_text(
        "import os, sys\n"
        f"print({ALL!r}, flush=True)\n"
        "print(dict(os.environ), file=sys.stderr, flush=True)\n"
        "sys.stderr.write('Traceback: ' + os.environ['SERVICE_KEY'])\n"  # without an end of line
        "sys.exit(3)"
    )
    command = f"captioner.command=['{sys.executable}','{script}','{{port}}']"
    folder = planned(tmp_path, "captioner=served", command, "captioner.pass_env=[SERVICE_KEY]")
    code, said = run(folder)
    assert code in (70, 75) and "Traceback: ***" in said
    assert next((folder.path / "logs").glob("server-*.log")).stat().st_size > 100
    assert not pieces(said)


@pytest.mark.parametrize("key", ["sk-1234\n5678", "sk-12 \x00 34", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_by_the_name_of_its_variable(monkeypatch, key):
    monkeypatch.setenv("SERVICE_KEY", key.replace("\x00", "\x01"))
    with pytest.raises(InputError, match="SERVICE_KEY: holds characters that no key has"):
        Endpoint(base_url="http://127.0.0.1/v1", api_key_env="SERVICE_KEY").key()
