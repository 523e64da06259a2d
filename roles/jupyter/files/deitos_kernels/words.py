"""What a person reads when there is no kernel for him."""

from __future__ import annotations

NO_TICKET = (
    "You have no valid Kerberos ticket, so no kernel can be started for you. "
    "Log in again (File > Log Out), or type kinit in a terminal."
)
NO_TICKET_FOR_SPARK = (
    "You have no valid Kerberos ticket, so Spark was not started. "
    "Log in again (File > Log Out), or type kinit in a terminal; then run the cell again."
)
GIVEN_UP = "The kernel was shut down while it started."
FINAL_STATES = ("FINISHED", "FAILED", "KILLED")


def too_many(limit):
    return (
        f"You have {limit} kernels, and more are not allowed. Shut one down first "
        "(the list of running kernels is at the left)."
    )


def no_yarn(reason):
    return f"YARN does not answer, so no kernel can be started now ({brief(reason)})."


def not_submitted(output):
    """From what spark-submit printed."""
    if any(sign in output for sign in ("GSS initiate failed", "Client cannot authenticate via")):
        return NO_TICKET
    if "above the max threshold" in output:
        return (
            "This kernel is larger than a container of this cluster may be. Choose a smaller one "
            f"({brief(reason_in(output))})."
        )
    return f"YARN did not take the kernel: {brief(reason_in(output))}"


def ended_early(app):
    return (
        f"The kernel ended while it started. YARN says of {app['id']}: {app['state']}, "
        f"{brief(app.get('diagnostics')) or 'no reason'}. "
        f"Its logs: yarn logs -applicationId {app['id']}"
    )


def too_slow(app, seconds):
    if app is None:
        return f"The kernel was not handed to YARN within {seconds} s. Try again later."
    if app.get("amHostHttpAddress"):
        return (
            f"The kernel was given a place in YARN, but was not ready within {seconds} s. The "
            "first one on a worker takes longer, so try again. "
            f"Its logs: yarn logs -applicationId {app['id']}"
        )
    return (
        f"YARN had no room for this kernel within {seconds} s: queue {app.get('queue')} is full, "
        "or you have your share of it. Shut down kernels that you do not need, choose a smaller "
        "one, or try again later."
    )


def failed_inside(error, application):
    return (
        f"The kernel could not start Spark: {brief(error)}"
        + f" Its logs: yarn logs -applicationId {application}" * bool(application)
    )


def no_spark(error):
    """For a kernel beside its server, which asks again with each cell that needs it."""
    return f"Spark did not start: {brief(reason_in(error))} Run the cell again to try again."


def lost(app):
    """What the next kernel says about one that ended by itself."""
    if app is None:
        return "The kernel before this one is gone, and its variables with it."
    how = {
        "KILLED": "was killed in YARN",
        "FAILED": "failed in YARN",
        "FINISHED": "ended",
    }.get(app["state"], "lost its server")
    reason = brief(app.get("diagnostics"))
    return (
        f"The kernel before this one ({app['id']}) {how}, and its variables are gone."
        + f" YARN says: {reason}" * bool(reason)
    )


def reason_in(output):
    """The line of a Java program's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "Exception" in line and not line.startswith("at ")]
    return (telling or lines[-1:] or ["it said nothing"])[0]


def brief(text, limit=400):
    text = " ".join(str(text or "").split())
    return text if len(text) <= limit else text[:limit] + " …"
