#!/usr/bin/env bash
# Measures Leveret, alone or beside other brokers on loopback.
#
#   tests/bench.sh                                the rows of docs/PERFORMANCE.md, on a Leveret built and started here
#   tests/bench.sh --rows a1,c1 --repeat 3        some of them; "tests/bench.sh --list" names all
#   tests/bench.sh --against amqp://127.0.0.1:5673 --pid PID --name rabbitmq
#                                                 beside a broker that runs already; repeatable
#   tests/bench.sh --start 'lavinmq=lavinmq -D {data} -b 127.0.0.1 -p {port}'
#                                                 beside one that is started here; repeatable
#   tests/bench.sh growth                         how cost grows with queues, connections, consumers, bindings, backlog
#   tests/bench.sh interference                   what one client's load does to another's latency
#   tests/bench.sh idle                           wake-ups, idle connections, memory after a burst
#   tests/bench.sh locks                          how often the broker's threads wait, for each thousand messages
#   tests/bench.sh instructions                   instructions a message, counted by callgrind
#   tests/bench.sh all                            everything
#   tests/bench.sh render                         docs/PERFORMANCE.md from docs/performance/results.json
#
# Results go to target/bench (results.json and plots), with --docs into docs/ as well. The load comes from
# tests/load, or from amqpload where AMQPLOAD names it (it knows fewer rows). Needs cargo, Python 3.9 and Linux.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/bench" "$@"
