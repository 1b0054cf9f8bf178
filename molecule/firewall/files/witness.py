"""Answers on every port that services of the scenario name, on one that none names, and on one of loopback."""

import selectors
import socket
import sys

PORTS = {
    socket.SOCK_STREAM: [int(port) for port in sys.argv[1:]]
    or [443, 8443, 11434, 9100, 3300, 6800, 6801, 6802, 6803, 6804, 9999],
    socket.SOCK_DGRAM: [443, 5514, 9999],
}
selector = selectors.DefaultSelector()


def listen(kind, port, address="::"):
    one = socket.socket(socket.AF_INET6, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind((address, port))
    if kind == socket.SOCK_STREAM:
        one.listen(128)
    selector.register(one, selectors.EVENT_READ)


for kind, ports in PORTS.items():
    for port in ports:
        listen(kind, port)
listen(socket.SOCK_STREAM, 7777, "::1")
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            data, sender = key.fileobj.recvfrom(100)
            key.fileobj.sendto(data, sender)
