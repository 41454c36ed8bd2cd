#!/bin/sh
# Plan, apply and drift for any CI system; what berth.yml does for GitHub.
#
#   ci.sh plan     check, plan, and write plan.berth and plan.md to $CI_OUT
#   ci.sh apply    apply $CI_OUT/plan.berth: exactly what was reviewed, or nothing
#   ci.sh drift    exit with 2 if the cluster is not as the configuration says;
#                  $CI_OUT/drift.md says how it differs
#
# BERTH_DIR      directory of the configuration; default: the working directory
# CI_OUT         where files go; default: the working directory
# CI_COMMENT     a command that gets the plan as Markdown on its standard input
# BERTH_ADDR     the masters' addresses
# BERTH_PIN      what "berth token pin" prints; with BERTH_OIDC_TOKEN, or where
#                GitHub gives one, the job logs in by its identity token
# BERTH_TOKEN    instead of both, a token of "berth token create"
#
# Exit codes are berth's: 1 error, 3 the plan is stale, 4 the rollout failed and
# was put back, 5 refused by policy, 6 pods that fit nowhere.
set -eu

dir=${BERTH_DIR:-.}
out=${CI_OUT:-.}
export BERTH_INPUT=0

login() {
	if [ -z "${BERTH_TOKEN:-}" ] && [ -n "${BERTH_PIN:-}" ]; then
		berth login --oidc --as "$1"
	fi
}

plan() {
	berth fmt --check --recursive "$dir"
	berth -C "$dir" validate
	login plan
	rm -f "$out/plan.berth" "$out/plan.md"
	status=0
	berth -C "$dir" plan --out "$out/plan.berth" || status=$?
	case $status in
	0 | 6) ;; # 6: pods that fit nowhere; the Markdown says which
	*) exit "$status" ;;
	esac
	berth show --format markdown "$out/plan.berth" >"$out/plan.md"
	if [ -n "${CI_COMMENT:-}" ]; then
		sh -c "$CI_COMMENT" <"$out/plan.md"
	fi
	exit "$status"
}

apply() {
	if [ ! -f "$out/plan.berth" ]; then
		echo "ci.sh: there is no $out/plan.berth; hand it over from the job that planned" >&2
		exit 1
	fi
	login deploy
	status=0
	berth -C "$dir" apply "$out/plan.berth" || status=$?
	if [ "$status" = 3 ]; then
		echo "ci.sh: the reviewed plan is stale; nothing was written. Plan again, and have that plan reviewed." >&2
	fi
	exit "$status"
}

drift() {
	login plan
	status=0
	berth -C "$dir" plan --detailed-exitcode --format markdown >"$out/drift.md" || status=$?
	case $status in
	0) echo "The cluster is as the configuration says." ;;
	2 | 6)
		cat "$out/drift.md"
		status=2
		;;
	esac
	exit "$status"
}

case ${1:-} in
plan | apply | drift) "$1" ;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 64
	;;
esac
