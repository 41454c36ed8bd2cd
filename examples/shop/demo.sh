#!/usr/bin/env bash
# The demo: three masters and three nodes on this machine, the shop on them, seen
# through its entrance, a rolling update under load, and a broken version that puts
# itself back.
# Usage: demo.sh PATH-TO-BERTH. It leaves the cluster running; `berth dev down` ends it.
set -euo pipefail

berth=${1:?usage: demo.sh PATH-TO-BERTH}
here=$(cd "$(dirname "$0")" && pwd)
go=${GO:-go}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then b=$'\e[1m' d=$'\e[2m' n=$'\e[0m'; else b='' d='' n=''; fi
step() { printf '\n%s== %s%s\n' "$b" "$*" "$n"; }
run() { printf '%s$ berth %s%s\n' "$d" "$*" "$n"; "$berth" "$@"; }

step "Three masters and three nodes, each a host of its own on this machine"
run dev up --masters 3 --nodes 3
run node list

step "Three versions of one small web server, as images: no registry is needed"
for v in 1 2 3; do
  flags="-X main.version=$v"
  if [ "$v" = 3 ]; then flags="$flags -X main.broken=yes"; fi
  (cd "$here/../.." && CGO_ENABLED=0 "$go" build -trimpath -ldflags "$flags" -o "$work/web" ./examples/shop/web)
  run image pack "$work/web" --tag "shop/web:$v" --out "$work/web-$v.tar"
  run image import "$work/web-$v.tar"
done

step "Version 1: the plan, and then exactly that"
run -C "$here" plan --out "$work/v1.plan"
run apply "$work/v1.plan"
run get pods --namespace shop
echo
pod=$("$berth" get pods --namespace shop --json | sed -n 's/.*"name": *"\(web-[^"]*\)".*/\1/p' | head -1)
run logs --namespace shop "$pod"

step "The entrance: any node, from this machine's own shell and browser"
run dev open --print ingress/shop --namespace shop
url=$("$berth" dev open --print ingress/shop --namespace shop)
for path in "" stock; do
  printf '%s$ curl %s%s%s\n' "$d" "$url" "$path" "$n"
  curl -sS --max-time 10 "$url$path"
done

step "Version 2: what will happen, and what did, while 500 requests a second come in"
run -C "$here" plan --var release=2 --out "$work/v2.plan"
(cd "$here/../.." && CGO_ENABLED=0 "$go" build -trimpath -o "$work/load" ./examples/shop/web)
"$work/load" load -rate 500 -requests 1000000 "$url" >"$work/load.json" 2>/dev/null &
load=$!
trap 'kill "$load" 2>/dev/null || true; rm -rf "$work"' EXIT
run apply "$work/v2.plan"
kill "$load" && wait "$load" || true
printf 'Requests: '
cat "$work/load.json"
run -C "$here" history

step "Version 3 is broken: it is put back by itself, and apply says why (exit code 4)"
code=0
run -C "$here" apply --auto-approve --var release=3 || code=$?
if [ "$code" != 4 ]; then
  echo "demo: the broken version should have ended with exit code 4, not $code" >&2
  exit 1
fi
run -C "$here" plan --var release=2 --detailed-exitcode
run get pods --namespace shop

cat <<EOF

${b}The cluster is yours now.${n} Try, for example:

  alias berth=$berth
  berth get pods --all-namespaces              what runs where
  berth logs -f deployment/web -n shop         all front ends at once
  berth -C $here plan --var release=2 --var replicas=30
  curl $url                       the shop, from any node: berth dev open ingress/shop -n shop
  berth port-forward -n shop service/web 8080:80
  berth -C $here/../patterns apply           sidecar, proxy, ambassador
  berth dev stop m1                            stop a master: the others go on
  berth dev stop n2 --kill                     pull a node's plug, then: berth get pods -A
  berth rollout history deployment/web -n shop
  berth -C $here rollback 1
  berth dev down                               and nothing is left
EOF
