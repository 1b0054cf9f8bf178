"""Reads [[protocol, address, port], ...] and prints what each got: "open", "closed" (refused) or "" (nothing)."""

import concurrent.futures
import json
import socket
import sys


def probe(target, seconds=1.2):
    protocol, address, port = target
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as one:
        one.settimeout(seconds)
        try:
            one.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                one.send(b"?")
                one.recv(10)
            return "open"
        except ConnectionRefusedError:
            return "closed"
        except OSError:
            return ""


with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(probe, json.load(sys.stdin)))))
