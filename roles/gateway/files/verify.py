"""verify.py ADDRESS PORT NAME CA_FILE REVISION: asks the running gateway, from its own host.

Ends with 0 when it serves this revision over TLS and refuses a request without a key.
With a CA file it must also show a certificate that leads there, and with a name, one that is made out to it.
"""

import http.client
import json
import socket
import ssl
import sys
from typing import Tuple


def ask(address: str, port: int, name: str, ca_file: str, path: str) -> Tuple[http.client.HTTPResponse, str]:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.check_hostname = bool(name and ca_file)
    context.verify_mode = ssl.CERT_REQUIRED if ca_file else ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, port, timeout=5)
    plain = socket.create_connection((address, port), 5)
    connection.sock = context.wrap_socket(plain, server_hostname=name or None)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def main() -> str:
    address, port, name, ca_file, revision = sys.argv[1:]
    try:
        health, dummy = ask(address, int(port), name, ca_file, "/healthz")
        refused, body = ask(address, int(port), name, ca_file, "/v1/models")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer at {address}:{port}: {error}"
    running = health.headers.get("X-Config-Revision")
    if health.status != 200:
        return f"/healthz answers {health.status} instead of 200"
    if running != revision:
        return f"revision {running} is running instead of {revision}; see /var/log/nginx/error.log"
    if refused.status != 401 or "error" not in json.loads(body):
        return f"/v1/models without a key answers {refused.status} instead of 401"
    return ""


if __name__ == "__main__":
    sys.exit(main() or 0)
