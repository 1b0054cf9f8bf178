"""Serves TLS with the host's certificate; on HUP loads it again and writes that down."""

import http.server
import signal
import ssl

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def load():
    context.load_cert_chain("/etc/llm/pki/web.crt", "/etc/llm/pki/web.key")


def reload(*_):
    load()
    with open("/run/witness.reloads", "a") as file:
        file.write("reload\n")


load()
signal.signal(signal.SIGHUP, reload)
server = http.server.HTTPServer(("", 8443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
