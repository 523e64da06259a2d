"""WebHDFS: SPNEGO, delegation tokens, redirects to DataNodes over verified TLS."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def api(cluster):
    return cluster.web()["namenode"] + "/webhdfs/v1"


@pytest.fixture(scope="module")
def token(api, test_user):
    answer = test_user.curl(f"{api}/?op=GETDELEGATIONTOKEN&renewer=test_user")
    assert answer.status == 200, answer
    return answer.json()["Token"]["urlString"]


def test_listing_needs_a_ticket_or_a_token(api, token, test_user, nobody):
    listing = "/data/test_user?op=LISTSTATUS"
    assert test_user.curl(api + listing).status == 200
    assert nobody.curl(api + listing, negotiate=False).status == 401
    assert nobody.curl(f"{api}{listing}&delegation={token}", negotiate=False).status == 200


def test_create_redirects_to_a_datanode_over_https(cluster, api, token, nobody):
    url = f"{api}/data/test_user/web.txt?op=CREATE&overwrite=true&noredirect=true"
    answer = nobody.curl(f"{url}&delegation={token}", "-X", "PUT", negotiate=False)
    assert answer.status == 200, answer
    location = answer.json()["Location"]
    workers = [f"https://{host}.{cluster.domain}:9865/" for host in cluster.hosts("datanode")]
    assert location.startswith(tuple(workers))
    data = "written over HTTPS"
    put = nobody.curl(location, "-X", "PUT", "--data-binary", data, negotiate=False)
    assert put.status == 201, put
    read = nobody.curl(
        f"{api}/data/test_user/web.txt?op=OPEN&delegation={token}", "-L", negotiate=False
    )
    assert (read.status, read.body) == (200, data)


def test_token_does_not_open_what_its_owner_may_not(api, token, admin, nobody):
    listing = "/user/admin1?op=LISTSTATUS"
    assert admin.curl(api + listing).status == 200
    assert nobody.curl(f"{api}{listing}&delegation={token}", negotiate=False).status == 403


def test_unlisted_proxy_user_is_refused(api, test_user):
    listing = f"{api}/data/test_user?op=LISTSTATUS"
    assert test_user.curl(listing).status == 200
    refused = test_user.curl(f"{listing}&doas=admin1")
    assert refused.status == 403 and "is not allowed to impersonate" in refused.body


def test_cancelled_token_is_refused(api, test_user, nobody):
    token = test_user.curl(f"{api}/?op=GETDELEGATIONTOKEN&renewer=test_user").json()["Token"]
    url = f"{api}/data/test_user?op=LISTSTATUS&delegation={token['urlString']}"
    assert nobody.curl(url, negotiate=False).status == 200
    cancel = f"{api}/?op=CANCELDELEGATIONTOKEN&token={token['urlString']}"
    assert test_user.curl(cancel, "-X", "PUT").status == 200
    assert nobody.curl(url, negotiate=False).status in (401, 403)
