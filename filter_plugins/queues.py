"""Pure functions of YARN's queues."""

from __future__ import annotations

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import TemplateError

PREFIX = "yarn.scheduler.capacity."
NOBODY = " "
WHOLE = 100
KNOWN = {"path", "capacity", "maximum_capacity", "submit", "administer", "properties"}


def _children(queues):
    """{parent: [queue]} of queues that are well described."""
    children = {}
    for queue in queues:
        children.setdefault(queue["path"].rpartition(".")[0], []).append(queue)
    return children


def _described_faults(queues):
    """What is wrong with single queues."""
    faults = []
    for queue in queues:
        path = queue.get("path", "")
        if unknown := set(queue) - KNOWN:
            faults.append(
                f"{path or queue}: unknown {', '.join(sorted(unknown))}; "
                f"a queue has {', '.join(sorted(KNOWN))}"
            )
        parent, _, leaf = path.rpartition(".")
        if not parent or not leaf or path.split(".")[0] != "root":
            faults.append(f"'{path}' is no path: write it whole, as in root.default")
    paths = [queue.get("path") for queue in queues]
    twice = dict.fromkeys(path for path in paths if paths.count(path) > 1)
    return faults + [f"{path} is listed twice" for path in twice]


def _tree_faults(queues):
    """What is wrong with queues together, each of which is well described."""
    faults = []
    children = _children(queues)
    paths = {"root"} | {queue["path"] for queue in queues}
    for parent, siblings in children.items():
        if parent not in paths:
            faults.append(f"{siblings[0]['path']} has no parent: add a queue {parent}")
            continue
        total = sum(float(queue.get("capacity", 0)) for queue in siblings)
        if abs(total - WHOLE) > 1e-6:
            faults.append(f"the capacities below {parent} add up to {total:g}, not to {WHOLE}")
    if "root" not in children and not faults:
        faults.append("no queue below root, so nobody could run anything")
    return faults


def _faults(queues):
    """All that is wrong with a list of queues."""
    found = _described_faults(queues) or _tree_faults(queues)
    return [f"yarn_queues: {fault}" for fault in found]


def queue_faults(hostvars, hosts):
    """What is wrong with the queues that the inventory gives these hosts.

    Left alone are a value of another type, which preflight's `role_faults` tells of, and one that
    needs what is not known yet.
    """
    faults = []
    for host in hosts:
        try:
            own = hostvars[host]
            faults += _faults(own["yarn_queues"]) if "yarn_queues" in own else []
        except (AnsibleError, TemplateError, AttributeError, TypeError, ValueError):
            continue
    return faults


def capacity_queues(queues):
    """The capacity scheduler's properties for a list of queues.

    Each is {path, capacity, maximum_capacity, submit, administer, properties}: path is whole
    (root.team.etl), capacities are percentages of the parent's, submit and administer are access
    control lists, properties are further ones by the end of their names.
    """
    if faults := _faults(queues):
        raise AnsibleFilterError("\n".join(faults))
    properties = {
        f"{PREFIX}{parent}.queues": [queue["path"].rpartition(".")[2] for queue in siblings]
        for parent, siblings in _children(queues).items()
    }
    for queue in queues:
        start = f"{PREFIX}{queue['path']}."
        properties[start + "capacity"] = queue["capacity"]
        properties[start + "maximum-capacity"] = queue.get("maximum_capacity", WHOLE)
        properties[start + "acl_submit_applications"] = queue.get("submit", NOBODY)
        properties[start + "acl_administer_queue"] = queue.get("administer", NOBODY)
        for name, value in queue.get("properties", {}).items():
            properties[start + name] = value
    return properties


class FilterModule:
    """The filters, under the names that roles use."""

    def filters(self):
        return {"capacity_queues": capacity_queues, "queue_faults": queue_faults}
