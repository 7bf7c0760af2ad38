#!/usr/bin/env bash
# The three servers on one machine, for one person: Prefect, MLflow and a Ray head, on loopback.
#
#   infra/serve.sh start [prefect|mlflow|ray ...]   all three, or those named; returns when they answer
#   infra/serve.sh stop  [prefect|mlflow|ray ...]   by process id, and only processes that were started here
#   infra/serve.sh status                           exit status 0 if all three run
#   eval "$(infra/serve.sh env)"                    points this shell at them
#
# They keep everything in $SESAME_HOME (default: ./.sesame): databases, logs, process ids, Ray's token, the password that
# Prefect and MLflow want. MLflow serves the database that runs without a server write to, so those runs are shown, too.
#
# Files of all three are closed to other users (SESAME_UMASK, default 077). Ray opens its folders to everybody, so they
# are in a folder that is closed, below $RAY_TMPDIR or $TMPDIR (default: /tmp), which goes with Ray.
#
# Settings, all from the environment: SESAME_BIND (address to listen on, default 127.0.0.1), SESAME_PREFECT_PORT,
# SESAME_MLFLOW_PORT, SESAME_RAY_PORT, SESAME_RAY_DASHBOARD_PORT, SESAME_RAY_CPUS, SESAME_ALLOWED_HOSTS (names under
# which Prefect and MLflow are known, beside loopback), SESAME_PASSWORD (instead of a generated one),
# RAY_AUTH_TOKEN_PATH.

set -euo pipefail
umask "${SESAME_UMASK:-077}"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${SESAME_HOME:-$PWD/.sesame}
[[ $home == /* ]] || home=$PWD/$home
run=$home/servers
bind=${SESAME_BIND:-127.0.0.1}
prefect_port=${SESAME_PREFECT_PORT:-4200}
mlflow_port=${SESAME_MLFLOW_PORT:-5000}
ray_port=${SESAME_RAY_PORT:-6379}
dashboard_port=${SESAME_RAY_DASHBOARD_PORT:-8265}
token=${RAY_AUTH_TOKEN_PATH:-$run/ray-token}
readonly all="prefect mlflow ray"
readonly patience=120 # seconds until a server must answer

# Where this machine's own programs reach the servers.
case $bind in
0.0.0.0 | ::) reach=127.0.0.1 ;;
*) reach=$bind ;;
esac

command -v prefect >/dev/null || PATH=$here/../.venv/bin:$PATH
export PATH

say() { printf 'serve: %s\n' "$*"; }
die() {
  printf 'serve: %s\n' "$*" >&2
  exit 1
}

url_of() {
  case $1 in
  prefect) echo "http://$reach:$prefect_port/api/health" ;;
  mlflow) echo "http://$reach:$mlflow_port/health" ;;
  ray) echo "http://$reach:$dashboard_port/api/gcs_healthz" ;;
  esac
}

port_of() {
  case $1 in
  prefect) echo "$prefect_port" ;;
  mlflow) echo "$mlflow_port" ;;
  ray) echo "$dashboard_port" ;;
  esac
}

# What Prefect and MLflow want: only for the owner's shell and terminal.
password() {
  if [[ -n ${SESAME_PASSWORD:-} ]]; then printf '%s' "$SESAME_PASSWORD"; else cat "$run/password"; fi
}

link_of() {
  local query=
  if [[ $1 != ray ]]; then
    query=/?password=$(password | python -c 'import sys, urllib.parse as u; print(u.quote_plus(sys.stdin.read()))')
  fi
  echo "http://$reach:$(port_of "$1")$query"
}

# When a living process began, in whatever unit: with its id, that names it for good, even after the id is used again.
began() {
  local stat
  if [[ -d /proc/self ]]; then
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086
    set -- ${stat##*) } # from its state on, the third field; the twentieth of these is when it began
    [[ $1 != [ZX] ]] && echo "${20}"
  else
    ps -o stat=,lstart= -p "$1" | awk '$1 !~ /^Z/ { $1 = ""; gsub(" ", "_"); print; found = 1 } END { exit !found }'
  fi
}

is_alive() { # process id, when it began
  local now
  now=$(began "$1") && [[ $now == "$2" ]]
}

# "ID BEGAN" of a process and of all that came from it, in sessions of their own, too (Ray's jobs).
family() {
  local pid
  ps -eo pid=,ppid= | awk -v root="$1" '
    { parent[$1] = $2 }
    END {
      known[root]; print root
      do {
        grown = 0
        for (pid in parent) if (!(pid in known) && parent[pid] in known) { known[pid]; print pid; grown = 1 }
      } while (grown)
    }' | while read -r pid; do
    if [[ -n $(began "$pid") ]]; then printf '%s %s\n' "$pid" "$(began "$pid")"; fi
  done
}

# Send a signal to those of a family that still live; fails if none does.
signal() { # signal, family
  local pid began_then found=1
  while read -r pid began_then; do
    if is_alive "$pid" "$began_then"; then
      found=0
      [[ $1 == 0 ]] || kill "-$1" "$pid" 2>/dev/null || true
    fi
  done <<<"$2"
  return $found
}

# The process id of a server that we started and that still runs; nothing else is ever sent a signal.
pid_of() {
  local pid began_then
  [[ -r $run/$1.pid ]] || return 1
  read -r pid began_then <"$run/$1.pid" || return 1
  is_alive "$pid" "$began_then" && echo "$pid"
}

answers() {
  python - "$1" 2>/dev/null <<'PYTHON'
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=3)
PYTHON
}

# Run a command in a session of its own, its output in a log, and note its id.
launch() {
  local name=$1 pid
  shift
  python -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@" \
    </dev/null >>"$run/$name.log" 2>&1 &
  pid=$!
  printf '%s %s\n' "$pid" "$(began "$pid")" >"$run/$name.pid"
}

start_prefect() {
  export PREFECT_HOME=$home/prefect
  launch prefect python -m flows.machine.serve prefect --host "$bind" --port "$prefect_port"
}

start_mlflow() {
  launch mlflow python -m flows.machine.serve mlflow --host "$bind" --port "$mlflow_port"
}

start_ray() {
  local cpus=()
  if [[ ! -s $token ]]; then python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$token"; fi
  if [[ -n ${SESAME_RAY_CPUS:-} ]]; then cpus=(--num-cpus "$SESAME_RAY_CPUS"); fi
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token
  unset RAY_ADDRESS # the head is not to join another
  remove_ray_folder
  RAY_TMPDIR=$(mktemp -d "${RAY_TMPDIR:-${TMPDIR:-/tmp}}/sesame-XXXXXXXX")
  export RAY_TMPDIR
  printf '%s\n' "$RAY_TMPDIR" >"$run/ray.folder"
  # On loopback Ray stays there only where it thinks that no other machine can join, as on macOS.
  if [[ $bind == 127.0.0.1 || $bind == localhost || $bind == ::1 ]]; then export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0; fi
  launch ray ray start --head --block --node-ip-address "$reach" --port "$ray_port" --dashboard-host "$bind" \
    --dashboard-port "$dashboard_port" --disable-usage-stats ${cpus[@]+"${cpus[@]}"}
}

# The folder of a Ray that has ended. Its name is short, as those of sockets must be.
remove_ray_folder() {
  local folder
  if read -r folder 2>/dev/null <"$run/ray.folder"; then
    [[ ${folder##*/} == sesame-* && ! -L $folder && -O $folder ]] && rm -rf -- "$folder"
    rm -f "$run/ray.folder"
  fi
}

start() {
  local name since
  export SESAME_HOME=$home DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
  export PREFECT_SERVER_ANALYTICS_ENABLED=false RAY_USAGE_STATS_ENABLED=0 HF_HUB_OFFLINE=1
  export RAY_USAGE_STATS_REPORT_URL=http://127.0.0.1:9 # a head reports even that it reports nothing
  command -v prefect mlflow ray >/dev/null || die "prefect, mlflow and ray must be on the PATH: install this package"
  mkdir -p "$run"
  python -c 'from pipeline.home import Home; Home.find()' # closes one that others may enter
  if [[ $bind != 127.0.0.1 && $bind != localhost && $bind != ::1 ]]; then
    say "listening on $bind: passwords and tokens are sent unencrypted, so the network must be one of trust"
  fi
  local wanted=()
  for name in "$@"; do
    if pid_of "$name" >/dev/null; then
      say "$name runs already"
      continue
    fi
    if (exec 3<>"/dev/tcp/$reach/$(port_of "$name")") 2>/dev/null; then
      die "port $(port_of "$name") is taken, so $name cannot start: stop what listens there, or choose another port"
    fi
    wanted+=("$name")
  done
  for name in ${wanted[@]+"${wanted[@]}"}; do
    "start_$name" || give_up "$name" "${wanted[@]}"
  done
  for name in ${wanted[@]+"${wanted[@]}"}; do
    since=$SECONDS
    until answers "$(url_of "$name")"; do
      if ! pid_of "$name" >/dev/null || ((SECONDS - since > patience)); then give_up "$name" "${wanted[@]}"; fi
      sleep 0.5
    done
    say "$name answers at $(link_of "$name")"
  done
}

give_up() { # the server that failed, and all that were to start with it
  local name=$1
  shift
  tail -n 20 "$run/$name.log" >&2
  stop "$@"
  die "$name did not start: its log is $run/$name.log"
}

stop() {
  local name pid members tries
  for name in "$@"; do
    if ! pid=$(pid_of "$name"); then
      rm -f "$run/$name.pid"
      if [[ $name == ray ]]; then remove_ray_folder; fi
      say "$name does not run"
      continue
    fi
    members=$(family "$pid")
    kill -TERM "$pid" 2>/dev/null || true # it ends its own children
    for ((tries = 0; tries < 40; tries++)); do
      pid_of "$name" >/dev/null || break
      sleep 0.5
    done
    if signal TERM "$members"; then
      for ((tries = 0; tries < 10; tries++)); do
        signal 0 "$members" || break
        sleep 0.5
      done
      signal KILL "$members" || true
    fi
    rm -f "$run/$name.pid"
    if [[ $name == ray ]]; then remove_ray_folder; fi
    say "$name stopped"
  done
}

status() {
  local name pid rc=0
  for name in "$@"; do
    if pid=$(pid_of "$name"); then
      say "$name runs: process $pid, http://$reach:$(port_of "$name")"
    else
      say "$name does not run"
      rc=1
    fi
  done
  return $rc
}

environment() {
  printf 'export SESAME_HOME=%q\n' "$home"
  printf 'export PREFECT_API_URL=http://%s:%s/api\n' "$reach" "$prefect_port"
  printf 'export MLFLOW_TRACKING_URI=http://%s:%s\n' "$reach" "$mlflow_port"
  if [[ -n ${SESAME_PASSWORD:-} || -s $run/password ]]; then
    printf 'export PREFECT_API_AUTH_STRING=%q\n' "sesame:$(password)"
    printf 'export MLFLOW_TRACKING_USERNAME=sesame MLFLOW_TRACKING_PASSWORD=%q\n' "$(password)"
  fi
  printf 'export RAY_ADDRESS=http://%s:%s\n' "$reach" "$dashboard_port"
  printf 'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=%q\n' "$token"
}

action=${1:-}
shift || true
for name in "$@"; do
  [[ " $all " == *" $name "* ]] || die "no server is called $name; there are: $all"
done
# shellcheck disable=SC2086
[[ $# -gt 0 ]] || set -- $all
case $action in
start | stop | status) "$action" "$@" ;;
env) environment ;;
*) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
