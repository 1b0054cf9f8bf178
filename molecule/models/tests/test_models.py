"""Models as the server offers and runs them."""

from __future__ import annotations

import json
import os
import pathlib

LAB = json.loads((pathlib.Path(os.environ["LAB"]) / "mirror" / "lab.json").read_text())
STORE = "/var/lib/ollama/models"


def ask(host, path: str, body: dict | None = None) -> dict:
    script = (
        "import sys,urllib.request;"
        "r=urllib.request.Request('http://127.0.0.1:11434'+sys.argv[1], sys.argv[2].encode() or None);"
        "print(urllib.request.urlopen(r, timeout=120).read().decode())"
    )
    return json.loads(host.check_output("python3 -c %s %s %s", script, path, json.dumps(body) if body else ""))


def test_exactly_the_listed_models_are_offered(host):
    models = {model["name"]: model for model in ask(host, "/api/tags")["models"]}
    assert set(models) == {"smollm2:135m", "terse:latest"}
    assert models["smollm2:135m"]["digest"] == LAB["model_digest"]


def test_both_answer(host):
    for name in ("smollm2:135m", "terse"):
        answer = ask(
            host,
            "/api/generate",
            {"model": name, "prompt": "Say hello", "stream": False, "options": {"num_predict": 3}},
        )
        assert answer["done"] and answer["eval_count"] > 0


def test_imported_model_has_its_settings(host):
    shown = ask(host, "/api/show", {"model": "terse"})
    assert shown["system"] == "You answer with one word."
    assert "num_ctx" in shown["parameters"] and "512" in shown["parameters"]


def test_every_stored_blob_is_what_its_name_says(host):
    for line in host.check_output(f"cd {STORE}/blobs && sha256sum *").splitlines():
        digest, name = line.split()
        assert name == f"sha256-{digest}"


def test_download_was_removed_after_import(host):
    assert host.check_output("ls -A /var/lib/ollama/downloads") == ""


def test_store_belongs_to_the_service(host):
    assert host.check_output(f"find {STORE} ! -user ollama") == ""
