"""Who may ask, and for what: keys, endpoints, bodies, limits."""

import hashlib
import http.client
import json
import random
import socket
import ssl
import subprocess

import pytest
from conftest import GATEWAYS, STATE, UPSTREAMS, ask, curl_command, key, seen, wait_for

CHAT = "/v1/chat/completions"
INFERENCE = [
    "/api/generate",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
]


def code(answer) -> str:
    return answer.json()["error"]["code"]


@pytest.mark.parametrize(
    ("who", "options", "status", "reason"),
    [
        ("team-a", [], 200, None),
        ("", ["--header", "x-api-key: {key}"], 200, None),
        ("", ["--header", "Authorization: bearer {key}"], 200, None),
        ("rotated", [], 200, None),
        ("rotated-new", [], 200, None),
        ("", [], 401, "key_missing"),
        ("", ["--header", "Authorization: Bearer {key}x"], 401, "key_unknown"),
        ("", ["--header", "Authorization: Basic {key}"], 401, "key_missing"),
        ("", ["--header", "Authorization: Bearer {hash}"], 401, "key_unknown"),
        ("", ["--header", "Authorization: Bearer team-a"], 401, "key_unknown"),
        ("expired", [], 401, "key_expired"),
        ("leaver", [], 401, "key_unknown"),  # worked until side_effect.yml removed it
    ],
)
def test_keys(gateway, who, options, status, reason):
    known = {"key": key("team-a"), "hash": hashlib.sha256(key("team-a").encode()).hexdigest()}
    answer = ask(gateway, "/v1/models", who, None, *[option.format(**known) for option in options])
    assert answer.status == status
    if status == 401:
        assert code(answer) == reason
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", INFERENCE)
def test_inference_endpoints(gw_a, path):
    answer = ask(gw_a, path, "team-a", {"model": "echo:1b"})
    assert answer.status == 200 and answer.json()["path"] == path
    assert ask(gw_a, path).status == 405
    assert ask(gw_a, path, "", {"model": "echo:1b"}).status == 401


@pytest.mark.parametrize("path", ["/api/tags", "/api/version", "/v1/models", "/v1/models/echo:1b"])
def test_list_endpoints(gw_a, path):
    answer = ask(gw_a, path)
    assert answer.status == 200
    assert seen(answer.headers["x-request-id"])[0]["path"] == path
    assert ask(gw_a, path, "team-a", {}).status == 405
    assert ask(gw_a, path, "team-a", None, "--head").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/pull",
        "/api/create",
        "/api/copy",
        "/api/delete",
        "/api/push",
        "/api/show",
        "/api/ps",
        "/api/blobs/sha256:00",
        "/api/me",
        "/v1/audio/transcriptions",
        "/api/chat/",
        "/API/CHAT",
        "/api/chat/../pull",
        "/api/pull%2f..%2fchat%2f..%2fpull",
        "/%61pi/pull",
        "/api/chat%0a",
        "/api/chat%00",
        "/v1/models/..%2f..%2fapi%2fps",
        "/v1/models/a%20b",
        "/nginx_status",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_everything_else_is_refused(gw_a, path, method):
    before = len(seen())
    answer = ask(gw_a, path, "team-a", {"model": "echo:1b"} if method != "GET" else None, "--request", method)
    assert answer.status == (400 if path.endswith("%00") else 404)
    assert len(seen()) == before


def test_paths_reach_the_upstream_only_in_their_plain_form(gw_a):
    answer = ask(gw_a, "/api/pull/..//%63hat", "team-a", {"model": "echo:1b"})
    assert answer.status == 200 and answer.json()["path"] == "/api/chat"


def test_query_strings_are_refused_or_dropped(gw_a):
    assert code(ask(gw_a, "/v1/models?x=1")) == "query"
    assert ask(gw_a, "/v1/messages?beta=true", "team-a", {"model": "echo:1b"}).json()["path"] == "/v1/messages"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"[]", 400, "not_json"),
        (b'"text"', 400, "not_json"),
        (b"{", 400, "not_json"),
        (b'{"model":"echo:1b"} {"model":"other"}', 400, "not_json"),
        (b'{"model":"echo:1b","n":NaN}', 400, "not_json"),
        (b"{}", 400, "model_name"),
        (b'{"model":5}', 400, "model_name"),
        (b'{"model":""}', 400, "model_name"),
        (b'{"model":"../etc"}', 400, "model_name"),
        (b'{"model":"echo:1b\\nx"}', 400, "model_name"),
        # Names that Ollama reads without regard to case, and of which it takes the last one or a mixture.
        (b'{"model":"echo:1b","model":"other"}', 400, "ambiguous"),
        (b'{"model":"echo:1b","Model":"other"}', 400, "ambiguous"),
        (b'{"MODEL":"echo:1b"}', 400, "ambiguous"),
        (b'{"model":"echo:1b","\\u006dodel":"other"}', 400, "ambiguous"),
        (b'{"model":"echo:1b","Keep_Alive":0}', 400, "ambiguous"),
        ('{"model":"echo:1b","\u212aeep_alive":0}'.encode(), 400, "ambiguous"),
        (b'{"model":"echo:1b","options":{"num_gpu":0},"options":{"seed":1}}', 400, "ambiguous"),
        (b'{"model":"echo:1b","keep_alive":-1}', 400, "keep_alive"),
        (b'{"model":"echo:1b","keep_alive":"1h"}', 400, "keep_alive"),
        (b'{"model":"echo:1b","options":{"num_gpu":0}}', 400, "option_refused"),
        (b'{"model":"echo:1b","options":{"num_ctx":32769}}', 400, "context_too_large"),
        (b'{"model":"echo:1b","options":{"num_ctx":"many"}}', 400, "context_too_large"),
        (b'{"model":"echo:1b","options":{"num_ctx":32768,"temperature":0}}', 200, None),
        (
            b' {"model" :"echo:1b", "messages":[{"a":1,"a":2},{"content":"\\"model\\": \\\\"}],"z":"\\\\\\"}{"}',
            200,
            None,
        ),
        ('{"model":"echo:1b","prompt":"\u4f60\u597d \U0001f600 \\ud83d\\ude00","keep":"}"}\n'.encode(), 200, None),
    ],
)
def test_bodies(gateway, body, status, reason):
    answer = ask(gateway, CHAT, "team-a", body)
    assert answer.status == status, answer.body
    if reason:
        assert code(answer) == reason
        assert not seen(answer.headers["x-request-id"])
    else:
        assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest(), "the body was changed on its way"


def random_object(pick: random.Random, depth: int = 0) -> str:
    """JSON as clients may write it; the names of the outermost object repeat now and then."""
    space = pick.choice(["", " ", "\n", "\t"])
    text = "".join(
        pick.choice(["a", "{", "}", "[", "]", ",", ":", r"\"", r"\\", r"\n", r"\u0041", "\u4f60"])
        for _dummy in range(pick.randint(0, 6))
    )
    if depth and pick.random() < 0.5:
        return pick.choice([f'"{text}"', "1.5e3", "true", "null", "[]", "{}"])
    if depth and pick.random() < 0.4:
        return "[" + f"{space},".join(random_object(pick, depth + 1) for _dummy in range(pick.randint(0, 3))) + "]"
    names = [
        pick.choice(["a", "b", "c", "d", "e", "f", "g", "B", "model"] if not depth else [text, "model", "Model"])
        for _dummy in range(pick.randint(0, 4))
    ]
    pairs = [f'{space}"{name}"{space}:{space}{random_object(pick, depth + 1)}' for name in names]
    return "{" + ",".join(([] if depth else ['"model":"echo:1b"']) + pairs) + space + "}"


def test_repeated_names_are_found_as_a_json_parser_finds_them(gateway):
    pick = random.Random(7)
    connection = http.client.HTTPSConnection(gateway, context=ssl.create_default_context(cafile=STATE / "pki/ca.crt"))
    verdicts = {200: 0, 400: 0}
    for _dummy in range(400):
        body = random_object(pick)
        names = [name.lower() for name, dummy in json.loads(body, object_pairs_hook=list)]
        expected = 200 if len(names) == len(set(names)) else 400
        connection.request("POST", CHAT, body.encode(), {"Authorization": f"Bearer {key('team-a')}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == expected, body
        verdicts[expected] += 1
    assert min(verdicts.values()) > 100


def test_a_large_body_arrives_unchanged(gateway):
    body = json.dumps({"model": "echo:1b", "prompt": 'x"\\\n\u00e9' * 400_000}).encode()
    assert 4 << 20 < len(body) < 8 << 20
    for options in (["--http1.1"], ["--http1.1", "--header", "Transfer-Encoding: chunked"], []):
        assert ask(gateway, CHAT, "team-a", body, *options).json()["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_body_that_is_too_large_is_refused(gateway):
    body = json.dumps({"model": "echo:1b", "prompt": "x" * (9 << 20)}).encode()
    for options in (["--http1.1"], ["--http1.1", "--header", "Transfer-Encoding: chunked"], []):
        answer = ask(gateway, CHAT, "team-a", body, *options)
        assert (answer.status, code(answer)) == (413, "body_too_large")
        assert not seen(answer.headers["x-request-id"])


def test_a_body_of_unknown_length_over_http2_is_refused(gateway):
    answer = ask(gateway, CHAT, "team-a", {"model": "echo:1b"}, "--header", "Content-Length:")
    if answer.status != 411:  # this curl sends a length in spite of being told not to
        done = subprocess.run(
            [*curl_command(gateway, CHAT), "--request", "POST", "--upload-file", "-"],
            input=b'{"model":"echo:1b"}',
            capture_output=True,
            check=True,
        )
        assert json.loads(done.stdout)["error"]["code"] == "length_required"


def test_a_compressed_body_is_refused(gw_a):
    assert ask(gw_a, CHAT, "team-a", {"model": "echo:1b"}, "--header", "Content-Encoding: zstd").status == 415


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("echo:1b", 200),
        ("plain", 200),
        ("plain:latest", 200),
        ("echo", 403),
        ("plain:1b", 403),
        ("echo:1b:latest", 403),
    ],
)
def test_models_of_a_key(gateway, model, status):
    assert ask(gateway, CHAT, "narrow", {"model": model}).status == status
    assert ask(gateway, f"/v1/models/{model}", "narrow").status == status


def test_errors_have_the_shape_of_their_interface(gw_a):
    assert isinstance(ask(gw_a, "/api/chat", "team-a", {}).json()["error"], str)
    assert ask(gw_a, CHAT, "team-a", {}).json()["error"]["type"] == "invalid_request_error"
    answer = ask(gw_a, "/v1/messages", "team-a", {}).json()
    assert answer["type"] == "error" and answer["error"]["message"]


def test_rate_limit(gateway):
    answers = [ask(gateway, "/v1/models", "small") for _dummy in range(5)]
    assert [answer.status for answer in answers[-2:]] == [429, 429], "6 a minute with a burst of 2"
    assert code(answers[-1]) == "too_many_requests"
    assert answers[-1].headers["retry-after"] == "10"
    assert ask(gateway, "/v1/models", "team-a").status == 200, "another key has its own count"


def test_limit_of_requests_at_once(gateway):
    with subprocess.Popen(
        curl_command(gateway, CHAT, "single", "--no-buffer", "--data", '{"model":"streams:1b"}'), stdout=subprocess.PIPE
    ) as running:
        assert running.stdout and running.stdout.readline()
        refused = ask(gateway, "/v1/models", "single")
        running.communicate()
    assert (refused.status, code(refused), refused.headers["retry-after"]) == (429, "too_many_at_once", "5")
    assert wait_for(lambda: ask(gateway, "/v1/models", "single").status == 200)


def test_health_only_for_those_who_are_listed(host_of):
    assert ask(GATEWAYS["gw-a"], "/healthz", "").status == 404
    answer = ask(GATEWAYS["gw-b"], "/healthz", "")
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_tls(gateway):
    context = ssl.create_default_context(cafile=STATE / "pki/ca.crt")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(socket.create_connection((gateway, 443)), server_hostname="llm.lab") as connection:
        assert connection.version() == "TLSv1.3" and connection.selected_alpn_protocol() == "h2"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), socket.create_connection((gateway, 443)) as plain:
        context.wrap_socket(plain, server_hostname="llm.lab")


def test_headers_of_answers(gateway):
    for answer in (ask(gateway, "/v1/models"), ask(gateway, "/v1/models", "")):
        assert answer.headers["strict-transport-security"] == "max-age=63072000"
        assert answer.headers["server"] == "nginx"
        assert answer.protocol == "HTTP/2"


def test_headers_on_the_way_to_the_upstream(gateway):
    sent = {
        "Origin": "https://elsewhere.example",
        "Cookie": "a=b",
        "x-api-key": key("rotated"),
        "X-Forwarded-For": "192.0.2.1",
        "X-Request-ID": "mine",
    }
    answer = ask(
        gateway,
        CHAT,
        "team-a",
        {"model": "echo:1b"},
        *[part for name in sent for part in ("--header", f"{name}: {sent[name]}")],
    )
    arrived = answer.json()["headers"]
    assert set(arrived) <= {
        "Host",
        "Connection",
        "Content-Type",
        "Content-Length",
        "Accept",
        "User-Agent",
        "X-Request-ID",
    }
    assert arrived["Host"] == "localhost"
    assert arrived["X-Request-ID"] == answer.headers["x-request-id"] != "mine"


def test_plain_http_only_redirects(host_of):
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
            f"http://{GATEWAYS['gw-b']}/v1/models",
        ],
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"308 https://{GATEWAYS['gw-b']}/v1/models"
    with pytest.raises(OSError):
        socket.create_connection((GATEWAYS["gw-a"], 80), 2)


def test_upstreams_share_and_models_go_where_they_are(gw_a):
    assert {ask(gw_a, CHAT, "team-a", {"model": "echo:1b"}).json()["server"] for _dummy in range(6)} == set(UPSTREAMS)
    assert {ask(gw_a, CHAT, "team-a", {"model": "only-a:1b"}).json()["server"] for _dummy in range(4)} == {"up-a"}
    assert {ask(gw_a, CHAT, "team-a", {"model": "only-b:1b"}).json()["server"] for _dummy in range(4)} == {"up-b"}
