"""A chat server in plain Python for captioner=served: server.py PORT. The same request has the same answer on every machine.

Answers have the form that each prompt maker asks for; now and then one is a refusal, so that slots are asked for again.
"""

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCENES = ("at dawn", "under a bridge", "beside a red barn", "on a wet road", "in soft fog", "near tall reeds")
PLACES = ("quiet lake", "old barn", "market hall", "stone quay", "pine wood", "roof garden")


def answer(question: str, seed: int) -> str:
    draw = hashlib.sha256(f"{seed}/{question}".encode()).digest()
    if draw[0] < 50:
        return "I'm sorry, but I cannot do that."
    if "brackets" in question:  # places of a class
        return f"Of course! {sorted(PLACES[draw[1] % 3 :])}"
    quoted = re.findall(r'"([^"]+)"', question)  # prompts=synclr quotes nothing: it ends with "CLASS, PLACE =>"
    name = quoted[-1] if quoted else question.rpartition("\n")[2].removesuffix(" =>").split(",")[0]
    sentence = f"One {name} {SCENES[draw[2] % len(SCENES)]}, number {draw[3]}."
    return f"prompt: {sentence}" if "prompt: <" in question else sentence


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = answer(asked["messages"][-1]["content"], asked["seed"])
        self.reply({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})

    def reply(self, data: dict) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
