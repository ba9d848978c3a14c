"""A real HTTP server on loopback that speaks enough of OpenAI's protocol and misbehaves as it is told.

    with Fake([status(429, {"Retry-After": "0.2"}), OK]) as server: ... server.url ... server.seen

Its n-th POST is answered by the n-th item, later ones by `default`; an item may be a function of the prompt and of how many requests are
under way that gives one. As a program: python -m tests.captions.remote.fake --port N [options].
"""

import argparse
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OK, GARBAGE, CLOSE = ("ok",), ("garbage",), ("close",)


def status(code, headers=None, body=None):
    return ("status", code, headers or {}, body if body is not None else {"error": {"message": f"said {code}"}})


def stall(seconds):
    return ("stall", seconds)


def says(text, **more):
    """An answer with this text, whatever is asked."""
    return ("says", text, more)


def after(mark, limit=240.0):
    """OK, but not before a file is there."""

    def held(*_):
        end = time.monotonic() + limit
        while not os.path.exists(mark) and time.monotonic() < end:
            time.sleep(0.01)
        return OK

    return held


def to(word, what):
    """An answer to prompts that hold a word alone; others get OK."""
    return lambda prompt, _: what if word in prompt else OK


def caption(prompt):
    """What it answers: the last line of the prompt, with a seed-like number, and more lines."""
    return f" A picture of {prompt.strip().splitlines()[-1].removesuffix(' =>')}.\nmore"


def shown(url):
    """How it calls a picture of a request."""
    return f"picture {hashlib.sha256(url.encode()).hexdigest()[:8]}"


def asked(request):
    """The prompt of a request; pictures stand behind it, a line each."""
    content = request.get("prompt") or request["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    parts = sorted(content, key=lambda part: part["type"] == "image_url")
    return "\n".join(part["text"] if part["type"] == "text" else shown(part["image_url"]["url"]) for part in parts)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): ...

    def do_GET(self):
        if self.server.deaf:
            time.sleep(60)
        self.send(200, {"status": "ok"})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.dying:
            self.close_connection = True
            return
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.send(401, {"error": {"message": "Unauthorized"}})
            return
        with self.server.lock:
            n = len(self.server.seen)
            self.server.seen.append(
                {"path": self.path, "body": request, "auth": self.headers.get("Authorization"), "time": time.monotonic()}
            )
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            script = self.server.script
            self.answer(script[n] if n < len(script) else self.server.default, request)
        finally:
            with self.server.lock:
                self.server.now -= 1

    def answer(self, what, request):
        prompt = asked(request)
        if callable(what):
            what = what(prompt, self.server.now)
        if what[0] == "status":
            self.send(what[1], what[3], what[2])
            return
        if what[0] == "close":
            self.close_connection = True
            self.connection.close()
            return
        if what[0] == "garbage":
            self.send(200, "<html>gateway</html>")
            return
        if what[0] == "stall":
            time.sleep(what[1])
        if what[0] == "die":
            self.server.dying = True
            if self.server.linger:
                self.connection.shutdown(socket.SHUT_RDWR)
                time.sleep(self.server.linger)
            os._exit(1)
        text, more = (what[1], dict(what[2])) if what[0] == "says" else (caption(prompt), {})
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 7} | more.pop("usage", {})
        answer = {"message": {"role": "assistant", "content": text}} if "messages" in request else {"text": text}
        self.send(200, {"choices": [answer | {"index": 0, "finish_reason": "stop"} | more], "usage": usage, "model": request["model"]})

    def send(self, code, body, headers=None):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        with contextlib.suppress(OSError):
            self.send_response(code)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **(headers or {})}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)


class Fake:
    def __init__(self, script=(), default=OK, port=0, deaf=False, key="", tls=None, host="127.0.0.1"):
        """tls: an ssl.SSLContext of a server."""
        family = {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET, "daemon_threads": True}
        self.http = type("Http", (ThreadingHTTPServer,), family)((host, port), Handler)
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.http.script, self.http.default, self.http.deaf = list(script), default, deaf
        self.http.key = key  # asked of every POST
        self.http.dying, self.http.linger = False, 0.0
        self.http.seen, self.http.lock, self.http.now, self.http.most = [], threading.Lock(), 0, 0
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{self.http.server_port}/v1"

    @property
    def seen(self):
        return self.http.seen

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def main(argv):
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int)
    p.add_argument("--die-after", type=int, help="answers until it dies")
    p.add_argument("--die-at", help="a word: a prompt that holds it is its death")
    p.add_argument("--refuse", help="a word: a prompt that holds it is refused")
    p.add_argument("--say", help="its answer to everything")
    p.add_argument("--linger", type=float, default=0.0, help="seconds that it still takes connections, to drop them, once it dies")
    p.add_argument("--die-once", help="a file that is made at the first start; with it there, it behaves")
    p.add_argument("--deaf-after", type=int, help="answers after which it answers nothing any more, the health check neither")
    p.add_argument("--until", help="a file without which it answers no more than eight requests")
    p.add_argument("--slow", type=float, default=0.0, help="seconds an answer takes")
    p.add_argument("--child", action="store_true", help="start a child of its own, in another session, that ignores signals")
    p.add_argument("--exit", type=int, help="end at once with this code")
    a = p.parse_args(argv)
    print("fake server", os.getpid(), flush=True)
    if a.exit is not None:
        print("torch.OutOfMemoryError: CUDA out of memory" if a.exit == 9 else "cannot read the model", flush=True)
        sys.exit(a.exit)
    if a.child:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    server = Fake(port=a.port, default=stall(a.slow), key=os.environ.get("VLLM_API_KEY", ""))  # as vLLM does
    if a.until:
        server.http.script, server.http.default = [OK] * 8, after(a.until)
    if a.die_at:
        server.http.default = to(a.die_at, ("die",))
    if a.say is not None:
        server.http.default = says(a.say)
    if a.refuse:
        server.http.default = to(a.refuse, status(400))
    server.http.linger = a.linger
    first = not (a.die_once and os.path.exists(a.die_once))
    if a.die_once:
        open(a.die_once, "w").close()
    if a.die_after is not None and first:
        server.http.script, server.http.default = [OK] * a.die_after, ("die",)
    if a.deaf_after is not None and first:
        server.http.script, server.http.default = [OK] * a.deaf_after, stall(60)
        threading.Thread(target=_deafen, args=(server, a.deaf_after), daemon=True).start()
    server.http.serve_forever(0.02)


def _deafen(server, after):
    while len(server.seen) <= after:
        time.sleep(0.01)
    server.http.deaf = True


if __name__ == "__main__":
    main(sys.argv[1:])
