"""Every path of RabbitMQ's dispatcher: known, and never a failure of the broker, whatever is sent there."""

import itertools
import random

import pytest

from support.management import Management

pytestmark = pytest.mark.leveret_only("its own listener")

PATHS = """
overview cluster-name nodes nodes/N nodes/N/memory nodes/N/memory/relative nodes/N/memory/ets nodes/N/memory/ets/relative
nodes/N/memory/ets/x nodes/N/memory/ets/x/relative extensions all-configuration definitions definitions/V parameters
parameters/C parameters/C/V parameters/C/V/x global-parameters global-parameters/x policies policies/V policies/V/x
operator-policies operator-policies/V operator-policies/V/x vhost-limits vhost-limits/V vhost-limits/V/max-queues
connections connections/x connections/x/channels connections/x/sessions connections/username/x channels channels/x
consumers consumers/V exchanges exchanges/V exchanges/V/x exchanges/V/x/publish exchanges/V/x/bindings/source
exchanges/V/x/bindings/destination queues queues/detailed queues/V queues/V/x queues/V/x/bindings queues/V/x/contents
queues/V/x/get queues/V/x/actions queues/quorum/V/x/replicas/add queues/quorum/V/x/replicas/delete
queues/quorum/V/x/status queues/quorum/replicas/on/N/grow queues/quorum/replicas/on/N/shrink bindings bindings/V
bindings/V/e/x/q/x bindings/V/e/x/e/x bindings/V/e/x/q/x/k vhosts vhosts/V vhosts/V/start/N vhosts/V/permissions
vhosts/V/topic-permissions vhosts/V/connections vhosts/V/channels vhosts/V/deletion/protection users/bulk-delete
users/without-permissions users users/x users/x/permissions users/x/topic-permissions users/x/queues user-limits
user-limits/x user-limits/x/max-channels feature-flags feature-flags/x/enable deprecated-features
deprecated-features/used whoami permissions permissions/V/x topic-permissions topic-permissions/V/x
topic-permissions/V/x/x aliveness-test/V healthchecks/node healthchecks/node/N health/checks/alarms
health/checks/local-alarms health/checks/certificate-expiration/1/days health/checks/port-listener/5672
health/checks/protocol-listener/amqp health/checks/virtual-hosts health/checks/node-is-mirror-sync-critical
health/checks/node-is-quorum-critical health/checks/metadata-store/initialized
health/checks/metadata-store/initialized/with-data health/checks/is-in-service
health/checks/below-node-connection-limit health/checks/ready-to-serve-clients
health/checks/reached-target-cluster-size health/checks/quorum-queues-without-elected-leaders/all-vhosts
health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/x
health/checks/quorum-queues-without-elected-leaders/vhost/V
health/checks/quorum-queues-without-elected-leaders/vhost/V/pattern/x reset reset/N rebalance/queues auth
auth/attempts/N auth/attempts/N/source auth/hash_password/x login version shovels shovels/V shovels/vhost/V/x
federation-links federation-links/V stream/connections stream/publishers stream/consumers config/effective
""".split()
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "ZZ")
BODIES = (None, b"", b"{}", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"name":1,"value":[],"count":-1}',
          b'{"arguments":{"x":null},"durable":7,"pattern":1,"definition":[],"tags":{},"password":[]}',
          b"[" * 200_000, b'{"a":' * 3_000)
QUERIES = ("", "?page=1", "?page=0&page_size=x", "?page=1&name=(&use_regex=true", "?columns=a.b,,c&sort=zz.y",
           "?columns=name&sort=name&sort_reverse=true", "?%00=%00", "?" + "x=1&" * 500)


def fill(path, vhost="%2F"):
    parts = {"V": vhost, "N": "leveret@localhost", "C": "shovel"}
    return "/api/" + "/".join(parts.get(part, part) for part in path.split("/"))


def test_every_path_is_known_and_says_what_can_be_done_there(api):
    for path in PATHS:
        answer = api.request("OPTIONS", fill(path))
        assert answer.status == 200, path
        methods = answer.headers["allow"].split(", ")
        assert methods[-1] == "OPTIONS" and len(methods) > 1, path
        assert api.request("PATCH", fill(path)).status == 405, path


def test_every_path_asks_who_it_is(api):
    nobody = Management(api.address, None)
    for path in PATHS:
        methods = api.request("OPTIONS", fill(path)).headers["allow"].split(", ")
        for method in set(methods) - {"OPTIONS", "HEAD"}:
            status = nobody.request(method, fill(path)).status
            assert status == (200 if path == "auth" else 401), (method, path)


def test_what_is_missing_is_said_to_be(api):
    missing = [path for path in PATHS if api.request("GET", fill(path)).status == 501]
    for path in missing:
        status, error, reason = api.request("GET", fill(path)).refusal()
        assert (status, error) == (501, "not_implemented") and "Leveret has no" in reason


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_is_sent_makes_the_broker_fail(own_broker, seed):
    """Each path with each method, and bodies and queries drawn for it."""
    broker = own_broker("--management-listen", "127.0.0.1:0", "--in-memory")
    api = Management(broker.management())
    drawn = random.Random(seed)
    for path, method in itertools.product(PATHS, METHODS):
        vhost = drawn.choice(("%2F", "%2F", "nowhere", "%00", "a" * 300))
        for _ in range(2):
            where = fill(path, vhost) + drawn.choice(QUERIES)
            answer = api.request(method, where, body=drawn.choice(BODIES))
            assert answer.status < 500 or answer.status in (501, 503), (method, where, answer.status, answer.body)
            assert answer.status != 503 or "health" in path, (method, where, answer.body)
    assert "panicked" not in broker.log.read_text()
    assert broker.alive()
