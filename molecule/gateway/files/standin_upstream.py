"""Stand-in for an Ollama server in the gateway's scenario. The name of the model says how it behaves.

Port 11434 answers like Ollama, port 11435 tells what was asked (GET /) and forgets it (DELETE /).
"""

import hashlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN: list[dict] = []
LOCK = threading.Lock()


class Ollama(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Keeps prompts and paths out of the journal."""

    def send_json(self, status: int, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def note(self, body: bytes, model: str) -> dict:
        entry = {
            "id": self.headers.get("X-Request-ID"),
            "method": self.command,
            "path": self.path,
            "model": model,
            "outcome": "running",
            "headers": dict(self.headers),
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "server": socket.gethostname(),
        }
        with LOCK:
            SEEN.append(entry)
        return entry

    def reset(self) -> None:
        """Dies in the eyes of the client: the connection ends with RST and without an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_GET(self) -> None:
        entry = self.note(b"", "")
        self.send_json(200, {"server": entry["server"], "models": [], "object": "list", "data": []})
        entry["outcome"] = "answered"

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        model = json.loads(body)["model"]
        entry = self.note(body, model)
        behaviour = model.split(":")[0]
        if behaviour == "dies":
            entry["outcome"] = "died"
            self.reset()
        elif behaviour == "busy":
            entry["outcome"] = "busy"
            self.send_json(503, {"error": "server busy, please try again.  maximum pending requests exceeded"})
        elif behaviour == "waits":
            self.wait(entry, 20)
            self.send_json(200, entry)
        elif behaviour == "streams":
            self.stream(entry, pieces=5, pause=0.3)
        elif behaviour == "streams-long":
            self.stream(entry, pieces=200, pause=0.1)
        else:
            entry["outcome"] = "answered"
            self.send_json(200, entry)

    def wait(self, entry: dict, seconds: float) -> None:
        """Waits, less long if the client leaves."""
        self.connection.settimeout(seconds)
        try:
            if self.connection.recv(1, socket.MSG_PEEK) == b"":
                entry["outcome"] = "aborted"
        except TimeoutError:
            pass

    def stream(self, entry: dict, pieces: int, pause: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number in range(pieces):
                piece = json.dumps({"piece": number, "done": number == pieces - 1}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                time.sleep(pause)
            self.wfile.write(b"0\r\n\r\n")
            entry["outcome"] = "answered"
        except OSError:
            entry["outcome"] = "aborted"
            self.close_connection = True


class Control(BaseHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        with LOCK:
            body = json.dumps(SEEN).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_DELETE(self) -> None:
        with LOCK:
            SEEN.clear()
        self.send_response(204)
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    threading.Thread(target=Server(("0.0.0.0", 11435), Control).serve_forever, daemon=True).start()
    Server(("0.0.0.0", 11434), Ollama).serve_forever()
