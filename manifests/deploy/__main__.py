"""The commands. Exit codes: 0 done, 1 failed, 2 wrong settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .cluster import Failed, say, warn
from .install import Installation
from .look import describe, logs, restart, status
from .remove import delete
from .settings import Settings, Wrong

HELP = """Variables of `just deploy`, in the environment or as NAME=VALUE behind it (API_TOKEN in the environment only):
  API_SERVER               required: CloudVision, host[:port]
  API_TOKEN                required: its service account token; or API_TOKEN_FILE, a file that holds it
  LOCATION                 required: this site's name in CloudVision
  NAMESPACE                namespaces to watch: one, or a,b; all if empty
  JOBCONFIG_MODE           interface (default), node: what a job is reported to hold
  NODECONFIG_MODE          discovery (default), sriovoperator, disabled: where node inventory comes from
  NODE_INTERFACE_TYPE      all (default), pf, vf: which of a node's NICs are reported
  UNPRIVILEGED_DISCOVERY   true: the discovery pods without root and privileges
  LOG_LEVEL, LOG_FORMAT    debug, info (default), warning, error; text (default), json
  API_CA_FILE              CA certificates to verify CloudVision by, instead of the system's
  API_INSECURE_SKIP_VERIFY true: do not verify CloudVision's certificate
  EVENTS                   false: no Events on jobs of what was reported of them
  JOB_OWNER, JOB_KINDS, STABILITY_DELAY, START_MAX_WAIT, KIND_RETRY, RESYNC_INTERVAL, REPORT_HISTORY,
  DISCOVERY_INTERVAL       as in `cvji informer --help` and `cvji discover --help`
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
                           of the informer; as arguments only, since in the environment they are this machine's
  VALUES                   a file with further values of the chart: manifests/chart/values.yaml lists them all
  informer.size=large ...  any value of the chart, as with helm's --set
  REGISTRY, IMAGE_TAG      the image is [REGISTRY/]cv-job-informer:IMAGE_TAG; the tag is cvji's version if empty
  PLATFORMS                linux/amd64,linux/arm64: one image for both; needs builders of both kinds or emulation
  SKIP_BUILD, PUSH         true: do not build the image first; push it to REGISTRY
  ENGINE                   docker, podman or buildah, to build and push with; the first that is there if empty
  IMAGE_PULL_SECRET        Secret in namespace cloudvision to pull the image with
  ROLLOUT_TIMEOUT          how long to wait for each workload: 5m
  KUBE_CONTEXT             context in KUBECONFIG; the current one if empty
`manifests` takes the same and prints the YAML. `status`, `logs`, `restart` and `describe` take COMPONENT=job (the
informer) or node (discovery), and both without it; `logs` also TAIL=100 and FOLLOW=true; `delete` also crd=true."""
COMMANDS: dict[str, Callable[[Settings], None]] = {
    "deploy": lambda settings: Installation(settings).deploy(),
    "manifests": lambda settings: Installation(settings).manifests(),
    "delete": delete,
    "status": status,
    "logs": logs,
    "restart": restart,
    "describe": describe,
}


def main(arguments: list[str]) -> int:
    """The exit code of a command."""
    command = arguments[0] if arguments else "help"
    if command == "help" or {"--help", "-h"} & set(arguments):
        say(HELP)
        return 0
    if command not in COMMANDS:
        warn(f"{command}: there is no such command: {', '.join(COMMANDS)} or help")
        return 2
    try:
        COMMANDS[command](Settings(os.environ, arguments[1:]))
    except Wrong as error:
        warn(f"{command}: {error}")
        return 2
    except Failed as error:
        *more, last = str(error).splitlines()
        for line in more:
            warn(line)
        warn(f"{command}: {last}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
