"""Pure functions of YARN's queues."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

PREFIX = "yarn.scheduler.capacity."
NOBODY = " "
WHOLE = 100
KNOWN = {"path", "capacity", "maximum_capacity", "submit", "administer", "properties"}


def _children(queues):
    """{parent: [queue]}, once all queues have proved to be well described."""
    children = {}
    for queue in queues:
        path = queue.get("path", "")
        if unknown := set(queue) - KNOWN:
            raise AnsibleFilterError(
                f"yarn_queues: {path or queue}: unknown {', '.join(sorted(unknown))}; "
                f"a queue has {', '.join(sorted(KNOWN))}"
            )
        parent, _, leaf = path.rpartition(".")
        if not parent or not leaf or path.split(".")[0] != "root":
            raise AnsibleFilterError(
                f"yarn_queues: '{path}' is no path: write it whole, as in root.default"
            )
        siblings = children.setdefault(parent, [])
        if path in (sibling["path"] for sibling in siblings):
            raise AnsibleFilterError(f"yarn_queues: {path} is listed twice")
        siblings.append(queue)
    return children


def capacity_queues(queues):
    """The capacity scheduler's properties for a list of queues.

    Each is {path, capacity, maximum_capacity, submit, administer, properties}: path is whole
    (root.team.etl), capacities are percentages of the parent's, submit and administer are access
    control lists, properties are further ones by the end of their names.
    """
    children = _children(queues)
    paths = {"root"} | {queue["path"] for queue in queues}
    properties = {}
    for parent, siblings in children.items():
        if parent not in paths:
            raise AnsibleFilterError(
                f"yarn_queues: {siblings[0]['path']} has no parent: add a queue {parent}"
            )
        total = sum(float(queue.get("capacity", 0)) for queue in siblings)
        if abs(total - WHOLE) > 1e-6:
            raise AnsibleFilterError(
                f"yarn_queues: the capacities below {parent} add up to {total:g}, not to {WHOLE}"
            )
        properties[f"{PREFIX}{parent}.queues"] = [
            queue["path"].rpartition(".")[2] for queue in siblings
        ]
    if "root" not in children:
        raise AnsibleFilterError("yarn_queues: no queue below root, so nobody could run anything")
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
        return {"capacity_queues": capacity_queues}
