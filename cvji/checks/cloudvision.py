"""Checks of CloudVision: its name, its certificate, the token, and its clock. Nothing is written, no token shown."""

import os
import socket
from collections.abc import Iterator

from cvji.checks.cluster import clock_result
from cvji.checks.result import Result, failure, ok, skipped, warning
from cvji.checks.site import Site
from cvji.cloudvision.reading import Reader, ReadError
from cvji.http import proxy_for
from cvji.kube.client import ApiError
from cvji.reports.records import ListedRecord
from cvji.settings import CloudVision

DAY = 86400.0
SOON = 21  # days before a certificate's end that are few


def cloudvision(site: Site) -> Iterator[Result]:
    """CloudVision is reached, is who it says, and takes the token."""
    if site.cloudvision is None or site.token is None:
        advice = f"kubectl -n {site.namespace} exec deploy/cv-job-informer -- cvji check"
        yield skipped("cloudvision", "no API_SERVER and token here", advice)
        return
    server = site.cloudvision
    proxy = proxy_for(f"https://{server.address}", os.environ)
    if proxy is None:
        found = _resolve(server)
        yield found
        if found.advice:
            return
    reader = Reader(server, site.token)
    try:
        status, words = reader.status()
        answered = site.clock()
    except ReadError as err:
        yield _unreached(server, str(err), proxy.url if proxy else "")
        return
    yield ok("cloudvision", f"{server.address} answers" + (f" through {proxy.url}" if proxy else ""))
    yield _certificate(site, reader)
    yield from _token(status, words)
    yield _writes(site)
    yield clock_result("clock of cloudvision", reader.server_time, answered)


def _resolve(server: CloudVision) -> Result:
    host = server.address.rpartition(":")[0] if server.address.rpartition(":")[2].isdigit() else server.address
    host = host.strip("[]")
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError) as err:  # the latter of a name that cannot be one
        reason = getattr(err, "strerror", None) or str(err)
        return failure(
            "cloudvision name", f"{host} is not resolved: {reason}", "check API_SERVER and this machine's DNS"
        )
    return ok("cloudvision name", f"{host} is {', '.join(found[:4])}")


def _unreached(server: CloudVision, words: str, proxy: str) -> Result:
    if "certificate has expired" in words:
        advice = "renew CloudVision's certificate (or the intermediate's); see who signed it with openssl s_client"
        return failure("cloudvision certificate", f"has expired: {words}", advice)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        advice = "set API_CA_FILE to the CA that signed it, and API_SERVER to a name that it is for"
        return failure("cloudvision certificate", f"is not trusted: {words}", advice)
    where = f" through {proxy}" if proxy else ""
    advice = "check API_SERVER, the firewall, NetworkPolicy and HTTPS_PROXY between here and CloudVision"
    return failure("cloudvision", f"{server.address} is not reached{where}: {words}", advice)


def _certificate(site: Site, reader: Reader) -> Result:
    name = "cloudvision certificate"
    peer = reader.peer
    if not peer.verified:
        advice = "whoever answers gets the token: set API_CA_FILE and drop API_INSECURE_SKIP_VERIFY"
        return warning(name, "is not verified (API_INSECURE_SKIP_VERIFY)", advice)
    if peer.expires is None:
        return skipped(name, "is trusted; its end is not known")
    days = (peer.expires - site.now) / DAY
    message = f"signed by {peer.issuer or 'an unnamed CA'}, valid for {days:.0f} more days"
    return warning(name, message, "renew it in time") if days < SOON else ok(name, message)


def _token(status: int, words: str) -> Iterator[Result]:
    if status == 401:
        advice = "make a new service account token in CloudVision and put it into the Secret; no restart is needed"
        yield failure("cloudvision token", f"is not accepted: {words}", advice)
    elif status == 403:
        yield ok("cloudvision token", "is accepted")
        yield skipped("cloudvision reading", "the token may not read computejob: `reconcile` cannot work, reports can")
    elif status == 404 or status < 300:
        yield ok("cloudvision token", "is accepted, and may read")
    else:
        yield warning("cloudvision token", f"is neither accepted nor refused: {words}", "see CloudVision's health")


def _writes(site: Site) -> Result:
    """Whether writing works: by the reports, as a check writes nothing."""
    name = "cloudvision writing"
    try:
        found = [record for record in site.records if isinstance(record, ListedRecord) and record.status]
    except ApiError as err:
        return skipped(name, f"what was accepted is not known: {err}")
    refusals = [
        record.status.delivery.message
        for record in found
        if record.status
        and not record.delivered
        and record.status.delivery.message.startswith(("HTTP 401", "HTTP 403"))
    ]
    if refusals:
        advice = "give the service account the right to write computejob in CloudVision"
        return failure(name, f"{len(refusals)} reports were refused: {refusals[0]}", advice)
    accepted = max((record.status.delivered_at for record in found if record.status), default=0)
    if not accepted:
        return skipped(name, "nothing has been reported yet, so this is not known")
    return ok(name, f"the last report was accepted {_ago(site.age(accepted))} ago")


def _ago(seconds: float) -> str:
    for unit, size in (("days", DAY), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
