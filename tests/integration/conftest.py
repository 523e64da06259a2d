"""Fixtures of the suites that look at a converged lab."""

from __future__ import annotations

import pytest
from labhosts import Cluster, Session, account


@pytest.fixture(scope="session")
def cluster():
    return Cluster()


@pytest.fixture(scope="session")
def edge(cluster):
    """The machine on which people work."""
    return cluster.first("edge")


@pytest.fixture(scope="session")
def test_user(cluster):
    return account(cluster, "test_user")


@pytest.fixture(scope="session")
def other_user(cluster):
    """Somebody else, in no group that shares data."""
    return account(cluster, "other_user")


@pytest.fixture(scope="session")
def admin(cluster):
    """A member of the administrators' group."""
    return account(cluster, "admin1")


@pytest.fixture(scope="session")
def nobody(cluster):
    """test_user without a ticket."""
    return Session(cluster.first("edge"), "test_user", name="none")


@pytest.fixture(scope="session")
def daemon_key(cluster):
    """A session of root on a daemon's host, with that daemon's own key."""

    def login(group, user, service):
        session = Session(cluster.first(group), "root", name=f"{group}_{service}")
        return session.login(
            f"{service}/{cluster.fqdn(group)}", f"/etc/security/keytabs/{user}.keytab"
        )

    return login
