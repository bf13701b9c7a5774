"""The relay carries what it is given, and cuts it when told to."""

import pytest
import urllib3

from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.proxy import Relay


def test_a_relay_cuts_its_connections_refuses_new_ones_and_lets_them_through_again() -> None:
    with KubernetesSimulator() as server, Relay("127.0.0.1", server.port) as relay:
        http = urllib3.PoolManager(retries=False)
        url = f"http://{relay.address}"
        assert http.request("GET", url + "/version").status == 200
        watch = http.request("GET", url + "/api/v1/pods?watch=1", preload_content=False)
        relay.refuse()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            watch.read()
        with pytest.raises(urllib3.exceptions.HTTPError):
            http.request("GET", url + "/version")
        relay.resume()
        assert http.request("GET", url + "/version").status == 200
        http.clear()
