# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the gateway costs: a table of the same request asked directly, through a bare nginx and through the role's.

    python tests/benchmarks/gateway.py [--seconds 8]
    python tests/benchmarks/gateway.py --url direct=http://10.77.2.22:11434/api/version \
        --url gateway=https://10.77.2.21/api/version --key-file FILE

Without --url it starts everything itself, on loopback, and ends it again (under a minute): an upstream that answers a
chat request with a fixed text, a bare TLS proxy, and nginx with the role's own configuration and policy (keys, limits,
checks of the body, log). It wants wrk, openssl, nginx, libnginx-mod-http-lua and lua-cjson, and root as nginx does.
With --url it measures servers that are there already, with GET. Figures depend on the machine; nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import pathlib
import re
import secrets
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/gateway"
PATH = "/v1/chat/completions"
BODY = (
    '{"model":"demo:1b","messages":[{"role":"user","content":"' + "Why is the sky blue? " * 50 + '"}],"stream":false}'
)
ANSWER = '{"choices":[{"message":{"role":"assistant","content":"' + "Because of scattering. " * 40 + '"}}]}'
# What others say of themselves or what we measured of them earlier; not part of this run.
PUBLISHED = """
For comparison, not of this run: LiteLLM 1.106.2, one worker, no database, measured on a 2-core Debian 12 machine with
8 connections: p50 98-108 ms, 72 requests/s, 342 MB. LiteLLM's own documentation: overhead p50 12 ms with 2 instances
of 4 processors, 2 ms with 4 instances (1,036 and 1,170 requests/s).
"""


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Stream(BaseHTTPRequestHandler):
    """Answers with five pieces, the first at once and the others 20 ms apart."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_args: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _dummy in range(5):
            self.wfile.write(b"2\r\n{}\r\n")
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")


def role_configuration(folder: pathlib.Path, settings: dict[str, object]) -> str:
    """The role's nginx.conf, moved from the host's folders to this one."""
    init_plugin_loader()
    loader = DataLoader()
    variables: dict[str, object] = {}
    for file in ("defaults/main.yml", "vars/main.yml"):
        variables |= loader.load_from_file(str(ROLE / file), trusted_as_template=True)
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    variables |= {"role_path": str(ROLE), "ansible_managed": "benchmark", "__gateway_version": {"stderr": version}}
    variables |= {"__gateway_directory": str(folder), **settings}
    text = str(Templar(loader, variables=variables).template(variables["__gateway_rendered"]))
    text = re.sub(r"(add_header X-Config-Revision )", r"\1none", text)
    return (
        text.replace("/var/log/nginx", str(folder))
        .replace("/var/lib/nginx", str(folder))
        .replace("/run/nginx", f"{folder}/nginx")
    )


def bare(folder: pathlib.Path, server: str) -> str:
    return f"""worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; server {{ {server} }} }}"""


@contextlib.contextmanager
def nginx(folder: pathlib.Path, configuration: str) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "nginx.conf").write_text(configuration)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-g", "daemon off;"]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def own_servers() -> Iterator[tuple[dict[str, str], dict[str, str], str, dict[str, int]]]:
    """URLs for requests and for streams by name, a key for the gateway, and the process of each proxy."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = pathlib.Path(name)
        root.chmod(0o755)
        folders = {each: root / each for each in ("direct", "bare-nginx", "gateway")}
        for folder in folders.values():
            folder.mkdir()
        upstream, proxy, gateway = port(), port(), port()
        certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        names = ["-subj", "/CN=localhost", "-keyout", str(root / "key"), "-out", str(root / "crt"), "-days", "1"]
        subprocess.run([*certificate, *names], check=True, capture_output=True)
        streams = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
        threading.Thread(target=streams.serve_forever, daemon=True).start()
        key = secrets.token_urlsafe(32)
        tls = f"listen 127.0.0.1:{proxy} ssl; ssl_certificate {root}/crt; ssl_certificate_key {root}/key;"
        passing = (
            "ssl_protocols TLSv1.3; proxy_http_version 1.1; proxy_set_header Connection close; proxy_buffering off;"
        )
        servers = {
            "direct": bare(folders["direct"], f"listen 127.0.0.1:{upstream}; location / {{ return 200 '{ANSWER}'; }}"),
            "bare-nginx": bare(
                folders["bare-nginx"],
                f"{tls} {passing} location / {{ proxy_pass http://127.0.0.1:{upstream}; }}"
                f" location /stream {{ proxy_pass http://127.0.0.1:{streams.server_address[1]}; }}",
            ),
            "gateway": role_configuration(
                folders["gateway"],
                {
                    "gateway_port": gateway,
                    "gateway_listen_addresses": ["127.0.0.1"],
                    "gateway_tls_certificate": str(root / "crt"),
                    "gateway_tls_key": str(root / "key"),
                    "gateway_keys": [{"id": "benchmark", "sha256": hashlib.sha256(key.encode()).hexdigest()}],
                    "gateway_limits": {
                        "default": {"requests_per_minute": 6_000_000, "burst": 10_000, "concurrent": 64}
                    },
                    "gateway_upstreams": [
                        {"name": "fixed", "address": "127.0.0.1", "port": upstream},
                        {
                            "name": "stream",
                            "address": "127.0.0.1",
                            "port": streams.server_address[1],
                            "models": ["stream:1b"],
                        },
                    ],
                },
            ),
        }
        shutil.copy(ROLE / "files/llm_policy.lua", folders["gateway"])
        processes = {each: stack.enter_context(nginx(folders[each], text)).pid for each, text in servers.items()}
        time.sleep(1)
        urls = {
            "direct": f"http://127.0.0.1:{upstream}{PATH}",
            "bare-nginx": f"https://127.0.0.1:{proxy}{PATH}",
            "gateway": f"https://127.0.0.1:{gateway}{PATH}",
        }
        stream_urls = {**urls, "direct": f"http://127.0.0.1:{streams.server_address[1]}{PATH}"}
        stream_urls["bare-nginx"] = f"https://127.0.0.1:{proxy}/stream"
        yield urls, stream_urls, key, processes
        streams.shutdown()


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def load(url: str, key: str, body: str, seconds: int) -> tuple[float, float, float, int]:
    """p50 and p99 in ms, requests/s, and answers that were not 2xx, at 8 connections."""
    lines = [f'wrk.headers["Authorization"] = "Bearer {key}"']
    if body:
        lines += [
            'wrk.method = "POST"',
            'wrk.headers["Content-Type"] = "application/json"',
            f"wrk.body = [==[{body}]==]",
        ]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "--latency", "-s", script.name, url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    at = {percent: milliseconds(value) for percent, value in re.findall(r"(?m)^ +(50|99)% +(\S+)", text)}
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    return at["50"], at["99"], rate, int(failed[1]) if failed else 0


def first_bytes(url: str, key: str, count: int) -> list[float]:
    """Milliseconds from a request, on a connection that is open, to the first byte of the streamed body."""
    place = urllib.parse.urlsplit(url)
    assert place.hostname
    if place.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            place.hostname, place.port, context=context
        )
    else:
        connection = http.client.HTTPConnection(place.hostname, place.port)
    delays = []
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for _dummy in range(count):
        start = time.monotonic()
        connection.request("POST", place.path, '{"model":"stream:1b","stream":true}', headers)
        answer = connection.getresponse()
        answer.read(1)
        delays.append((time.monotonic() - start) * 1000)
        answer.read()
    connection.close()
    return delays


def memory_mib(pid: int) -> float:
    """Of a master and its workers."""
    pids = [str(pid), *pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    pages = [re.search(r"Pss:\s+(\d+)", pathlib.Path(f"/proc/{each}/smaps_rollup").read_text()) for each in pids]
    return sum(int(page[1]) for page in pages if page) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="for each of the servers (default: 8)")
    parser.add_argument(
        "--url", action="append", default=[], metavar="NAME=URL", help="measure this instead; first is the base"
    )
    parser.add_argument("--key-file", type=pathlib.Path, help="API key for --url")
    options = parser.parse_args()
    seconds = min(options.seconds, 15)
    if options.url:
        urls = dict(each.split("=", 1) for each in options.url)
        key = options.key_file.read_text().strip() if options.key_file else ""
        report(urls, {}, key, {}, "", seconds)
        return
    missing = [tool for tool in ("wrk", "openssl", "nginx") if not shutil.which(tool)]
    if not pathlib.Path("/usr/share/nginx/modules-available/mod-http-lua.conf").exists():
        missing += ["libnginx-mod-http-lua", "lua-cjson"]
    if missing:
        sys.exit(f"Install {' '.join(missing)} first.")
    with own_servers() as (urls, stream_urls, key, processes):
        report(urls, stream_urls, key, processes, BODY, seconds)
    print(PUBLISHED)


def report(
    urls: dict[str, str], stream_urls: dict[str, str], key: str, processes: dict[str, int], body: str, seconds: int
) -> None:
    titles = ("p50 ms", "added", "p99 ms", "added", "req/s", "failed", "MiB")
    print(f"{'8 connections':<13}", *(f"{title:>8}" for title in titles), sep="  ")
    base: tuple[float, float] | None = None
    for name, url in urls.items():
        before = memory_mib(processes[name]) if name in processes else 0
        p50, p99, rate, failed = load(url, key, body, seconds)
        after = memory_mib(processes[name]) if name in processes else 0
        base = base or (p50, p99)
        figures = [f"{each:8.2f}" for each in (p50, p50 - base[0], p99, p99 - base[1])]
        memory = f"{before:3.0f} ->{after:3.0f}" if after else ""
        print(f"{name:<13}", *figures, f"{rate:8.0f}", f"{failed:8}", memory, sep="  ")
    for number, (name, url) in enumerate(stream_urls.items()):
        delays = first_bytes(url, key, 40)
        if not number:
            print(f"\n{'first byte of a stream':<24}  {'p50 ms':>8}  {'worst':>8}")
        print(f"{name:<24}  {statistics.median(delays):8.2f}  {max(delays):8.2f}")


if __name__ == "__main__":
    main()
