"""Answers as HashiCorp Vault and OpenBao do for AppRole logins and the KV version 2 engine; it is neither."""

import http.server
import json
import ssl
import sys

SECRETS = {"llm/luks1": {"logs": "a key that the stand-in for Vault keeps"}}


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/auth/approle/login" or given != {"role_id": "luks1", "secret_id": "lab secret"}:
            return self.answer(400, {"errors": ["invalid role or secret ID"]})
        return self.answer(200, {"auth": {"client_token": "lab token"}})

    def do_GET(self):
        if self.headers["X-Vault-Token"] != "lab token":
            return self.answer(403, {"errors": ["permission denied"]})
        secret = SECRETS.get(self.path.removeprefix("/v1/secret/data/"))
        return self.answer(200, {"data": {"data": secret}}) if secret else self.answer(404, {"errors": []})


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
server = http.server.ThreadingHTTPServer(("", 8200), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
