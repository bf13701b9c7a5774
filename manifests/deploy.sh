#!/usr/bin/env bash
# What `just deploy`, `delete`, `status`, `logs`, `restart` and `describe` do, with kubectl. Settings are environment
# variables or NAME=VALUE arguments; the token comes from the environment or a file and leaves through stdin alone.
# Nothing is changed before everything was checked. Exit codes: 0 done, 1 failed, 2 wrong settings.
# shellcheck disable=SC2016  # dollars in templates and backquotes in messages are meant as they stand
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
overlay=$root/dist/deploy
place=cloudvision                            # the namespace that everything is in; NAMESPACE is what is watched
ours=app=cv-job-informer,app.kubernetes.io/name=cvji
job=app=cv-job-informer,app.kubernetes.io/component=informer
node=app=cv-job-informer,app.kubernetes.io/component=interface-discovery
states=nodeinterfacestates.cloudvision.arista.io
reports="jobreports.cloudvision.arista.io nodereports.cloudvision.arista.io"
first=cvji.arista.io/apply=first              # label: the namespace and the CRDs
created=cvji.arista.io/namespace-created     # annotation: the namespace is ours to delete
namespaced=pods,deployments.apps,daemonsets.apps,poddisruptionbudgets.policy,serviceaccounts,configmaps,secrets
namespaced+=,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,leases.coordination.k8s.io
clusterwide=clusterroles.rbac.authorization.k8s.io,clusterrolebindings.rbac.authorization.k8s.io

informer_settings=(LOCATION NAMESPACE JOBCONFIG_MODE NODE_INTERFACE_TYPE JOB_OWNER JOB_KINDS STABILITY_DELAY
    START_MAX_WAIT KIND_RETRY RESYNC_INTERVAL REPORT_HISTORY API_INSECURE_SKIP_VERIFY LOG_LEVEL LOG_FORMAT)
discovery_settings=(DISCOVERY_INTERVAL LOG_LEVEL LOG_FORMAT)
other_settings=(API_SERVER API_TOKEN_FILE API_CA_FILE NODECONFIG_MODE UNPRIVILEGED_DISCOVERY REGISTRY IMAGE_TAG PUSH
    SKIP_BUILD ENGINE IMAGE_PULL_SECRET ROLLOUT_TIMEOUT KUBE_CONTEXT COMPONENT TAIL FOLLOW DELETE_CRD)
all_settings=("${informer_settings[@]}" "${discovery_settings[@]}" "${other_settings[@]}")

# Go templates: what runs; each pod that is not ready, with its node; why it is not.
runs_template='{{range .items}}  {{.kind}} {{.metadata.name}}: {{with .status -}}
    {{if .replicas}}{{or .readyReplicas 0}} of {{.replicas}}{{else}}{{.numberReady}} of {{.desiredNumberScheduled}}{{end}}
    {{- end}} ready, {{(index .spec.template.spec.containers 0).image}}
{{end}}'
not_ready_template='{{range .items}}{{$ready := false -}}
    {{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$ready = true}}{{end}}{{end -}}
    {{if not $ready}}{{.metadata.name}} {{or .spec.nodeName "-"}}
{{end}}{{end}}'
why_template='{{range .status.conditions}}{{if and (eq .type "PodScheduled") (ne .status "True") -}}
    {{"  "}}not scheduled: {{.message}}
{{end}}{{end}}{{range .status.containerStatuses}}{{with .state.waiting -}}
    {{"  "}}{{.reason}}{{with .message}}: {{.}}{{end}}
{{end}}{{with .lastState.terminated -}}
    {{"  "}}ended with code {{.exitCode}} ({{.reason}})
{{end}}{{if and .state.running (not .ready) -}}
    {{"  "}}runs, and is not ready
{{end}}{{end}}'

say() { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "$command" "$*" >&2; exit 1; }
wrong() { printf '%s: %s\n' "$command" "$*" >&2; exit 2; }
value() { printf '%s' "${!1}"; }
lower() { printf '%s' "$1" | tr '[:upper:]' '[:lower:]'; }
quietly() { grep -v '^No resources found' || true; }
everywhere() { kubectl ${KUBE_CONTEXT:+--context "$KUBE_CONTEXT"} "$@"; }
k() { everywhere -n "$place" "$@"; }

# --- settings ---------------------------------------------------------------------------------------------------------

take_arguments() {
    local argument name
    for argument in "$@"; do
        if [[ $argument == --help || $argument == -h ]]; then help && exit; fi
        name=${argument%%=*}
        if [[ $name == "$argument" ]]; then wrong "$argument is not NAME=VALUE"; fi
        if [[ $name == API_TOKEN ]]; then wrong "API_TOKEN must come from the environment: everyone sees arguments"; fi
        if [[ $name == crd ]]; then name=DELETE_CRD; fi
        if [[ ! " ${all_settings[*]} " == *" $name "* ]]; then
            wrong "$name is not a setting: just help lists them"
        fi
        printf -v "$name" '%s' "${argument#*=}"
    done
}

one_of() { # NAME VALUE...: the variable holds one of these or nothing, in any letter case
    local name=$1 given choice
    given=$(lower "$(value "$name")")
    shift
    for choice in "" "$@"; do
        if [[ $given == "$choice" ]]; then printf -v "$name" '%s' "$given"; return; fi
    done
    wrong "$name is '$(value "$name")': it must be one of $*"
}

flag() { # NAME: true or nothing afterwards
    one_of "$1" true false yes no 1 0
    case $(value "$1") in true | yes | 1) printf -v "$1" true ;; *) printf -v "$1" '' ;; esac
}

matches() { # NAME PATTERN WHAT: nothing, or it matches
    if [[ -n $(value "$1") && ! $(value "$1") =~ ^($2)$ ]]; then wrong "$1 is '$(value "$1")': it must be $3"; fi
}

check_settings() {
    local missing="" name
    local given=API_TOKEN
    if [[ -n $API_TOKEN_FILE ]]; then
        given="API_TOKEN_FILE $API_TOKEN_FILE"
        token=$(tr '\0' '\1' 2>/dev/null <"$API_TOKEN_FILE") || wrong "$given cannot be read"
        token=${token%$'\r'}
        if [[ -z $token ]]; then wrong "$given is empty"; fi
    fi
    if [[ -z $API_SERVER ]]; then missing+=" API_SERVER"; fi
    if [[ -z $token ]]; then missing+=" API_TOKEN"; fi
    if [[ -z ${LOCATION//[[:space:]]/} ]]; then missing+=" LOCATION"; fi
    if [[ -n $missing ]]; then wrong "not set:$missing; \`just help\` says what each is"; fi
    for name in "${all_settings[@]}"; do
        if [[ $(value "$name") == *[[:cntrl:]]* ]]; then wrong "$name holds a line break or the like"; fi
    done
    if [[ $token == *[![:graph:]]* ]]; then wrong "$given holds characters that no token has, such as spaces"; fi

    one_of JOBCONFIG_MODE interface node
    one_of NODECONFIG_MODE discovery sriovoperator disabled
    one_of NODE_INTERFACE_TYPE all pf vf
    one_of JOB_OWNER root direct
    one_of LOG_LEVEL debug info warning error
    one_of LOG_FORMAT text json
    for name in API_INSECURE_SKIP_VERIFY UNPRIVILEGED_DISCOVERY PUSH SKIP_BUILD; do flag "$name"; done
    NODECONFIG_MODE=${NODECONFIG_MODE:-discovery}

    local label='[a-z0-9]([-a-z0-9]*[a-z0-9])?' host='[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]'
    local period='[0-9]+(\.[0-9]+)?|([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?'
    matches API_SERVER "($host)(:[0-9]{1,5})?" "host or host:port, such as www.arista.io:443"
    if [[ $API_SERVER =~ :([0-9]+)$ ]] && ((10#${BASH_REMATCH[1]} < 1 || 10#${BASH_REMATCH[1]} > 65535)); then
        wrong "API_SERVER is '$API_SERVER': its port must be 1 to 65535"
    fi
    matches NAMESPACE " *$label *(, *$label *)*,?" "names of namespaces to watch, such as team-a,team-b"
    matches JOB_KINDS ' *[a-z0-9.-]+/[A-Za-z][A-Za-z0-9]* *(, *[a-z0-9.-]+/[A-Za-z][A-Za-z0-9]* *)*' "GROUP/KIND,..."
    for name in STABILITY_DELAY KIND_RETRY RESYNC_INTERVAL REPORT_HISTORY DISCOVERY_INTERVAL ROLLOUT_TIMEOUT; do
        matches "$name" "$period" "a duration, such as 30s or 5m"
    done
    matches START_MAX_WAIT "$period|[Nn][Ee][Vv][Ee][Rr]" "a duration, such as 30s or 5m, or never"
    if [[ $DISCOVERY_INTERVAL =~ ^0*(\.[0-9]+)?s?$ || $DISCOVERY_INTERVAL =~ ^[0-9]{1,3}ms$ ]] && [[ -n $DISCOVERY_INTERVAL ]]; then
        wrong "DISCOVERY_INTERVAL is '$DISCOVERY_INTERVAL': it must be at least 1s"
    fi
    matches REGISTRY "($host)(:[0-9]{1,5})?(/[a-z0-9._/-]*[a-z0-9])?" "such as registry.example.com/net"
    matches IMAGE_TAG '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}' "a tag, such as 1.0.0"
    matches IMAGE_PULL_SECRET '[a-z0-9]([-a-z0-9.]*[a-z0-9])?' "the name of a Secret in namespace $place"
    if [[ -n $PUSH && -z $REGISTRY ]]; then wrong "PUSH needs REGISTRY, where to push to"; fi
    if [[ -n $UNPRIVILEGED_DISCOVERY && $NODECONFIG_MODE != discovery ]]; then
        wrong "UNPRIVILEGED_DISCOVERY goes with NODECONFIG_MODE=discovery alone"
    fi
    if [[ -n $API_CA_FILE ]] && ! grep -q -- '-----BEGIN CERTIFICATE-----' "$API_CA_FILE" 2>/dev/null; then
        wrong "API_CA_FILE $API_CA_FILE holds no PEM certificate"
    fi

    IMAGE_TAG=${IMAGE_TAG:-$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$root/cvji/__init__.py")}
    image=${REGISTRY:+$REGISTRY/}cv-job-informer
    digest=""
}

# --- the cluster, before anything is changed --------------------------------------------------------------------------

check_cluster() {
    local said
    if ! command -v kubectl >/dev/null; then fail "kubectl is not installed"; fi
    # Without a terminal to ask at: kubectl would ask for a user's name where the kubeconfig has no credentials.
    if ! said=$(k get --raw /version --request-timeout=15s 2>&1 </dev/null); then
        if [[ $said == *"enter Username"* ]]; then said="the kubeconfig's context has no credentials for it"; fi
        fail "the cluster cannot be reached: $(printf '%s' "$said" | tail -n 1)"
    fi
    policies=""
    if k get --raw /apis/admissionregistration.k8s.io/v1 2>/dev/null | grep -q '"validatingadmissionpolicies"'; then
        policies=true # from Kubernetes 1.30 on
        clusterwide+=,validatingadmissionpolicies.admissionregistration.k8s.io
        clusterwide+=,validatingadmissionpolicybindings.admissionregistration.k8s.io
    fi
}

check_permission() { # VERB
    local resource denied=""
    for resource in namespaces customresourcedefinitions.apiextensions.k8s.io ${clusterwide//,/ } ${namespaced//,/ }; do
        case $resource in pods | leases.*) continue ;; esac
        if ! k auth can-i "$1" "$resource" -q 2>/dev/null; then denied+=" ${resource%%.*}"; fi
    done
    if [[ -n $denied ]]; then fail "you may not $1$denied in this cluster: its administrator must do this"; fi
}

check_objects() { # the API server's own opinion, admission and privilege escalation included
    local said
    said=$(rendered 2>&1 >/dev/null) || fail "kustomize: $(printf '%s\n' "$said" | head -n 3 | tr -s '\n\t ' ' ')"
    if said=$(rendered | apply --dry-run=server 2>&1); then return; fi
    # Before the first time, nothing can be tried in a namespace that is not there.
    said=$(printf '%s\n' "$said" | grep -i '^error' | grep -v "namespaces \"$place\" not found" || true)
    if [[ -n $said ]]; then fail "the cluster refuses: $(printf '%s\n' "$said" | head -n 1)"; fi
}

apply() { k apply --server-side --force-conflicts --field-manager=cvji-deploy -f - "$@"; }
rendered() { k kustomize "$overlay"; }
annotation() { k get namespace "$place" -o "jsonpath={.metadata.annotations.${created//./\\.}}" 2>/dev/null || true; }

# --- the overlay ------------------------------------------------------------------------------------------------------

settings_file() { # NAME...: those that are set, as kustomize reads them
    local name
    for name in "$@"; do
        if [[ -n $(value "$name") ]]; then printf '%s=%s\n' "$name" "$(value "$name")"; fi
    done
}

render() {
    mkdir -p "$overlay"
    settings_file "${informer_settings[@]}" >"$overlay/informer.env"
    if [[ -n $API_CA_FILE ]]; then echo API_CA_FILE=/etc/cvji/credentials/api-ca >>"$overlay/informer.env"; fi
    settings_file "${discovery_settings[@]}" >"$overlay/discovery.env"
    {
        echo "# Made by manifests/deploy.sh at each \`just deploy\`."
        echo "apiVersion: kustomize.config.k8s.io/v1beta1"
        echo "kind: Kustomization"
        echo "resources:"
        echo "  - ../../manifests/base"
        if [[ -n $JOB_KINDS ]]; then echo "  - kinds.yaml"; fi
        echo "configMapGenerator:"
        echo "  - {name: cv-job-informer-settings, namespace: $place, behavior: merge, envs: [informer.env]}"
        if [[ $NODECONFIG_MODE == discovery ]]; then
            echo "  - {name: cv-interface-discovery-settings, namespace: $place, behavior: merge, envs: [discovery.env]}"
        fi
        echo "components:"
        case $NODECONFIG_MODE$policies in
            discovery) ;;
            discoverytrue) echo "  - ../../manifests/components/node-restriction" ;;
            *) echo "  - ../../manifests/components/$NODECONFIG_MODE" ;;
        esac
        if [[ -n $UNPRIVILEGED_DISCOVERY ]]; then echo "  - ../../manifests/components/unprivileged-discovery"; fi
        echo "images:"
        if [[ -n $digest ]]; then
            echo "  - {name: cv-job-informer, newName: '$image', digest: '$digest'}"
        else
            echo "  - {name: cv-job-informer, newName: '$image', newTag: '$IMAGE_TAG'}"
        fi
        echo "patches:"
        # The address and the CA are read at the start alone: where they change, the pods do.
        echo "  - target: {kind: Deployment, name: cv-job-informer}"
        echo "    patch: |-"
        echo "      - {op: add, path: /spec/template/metadata/annotations, value: {cvji.arista.io/api: '$(fingerprint)'}}"
        if [[ -n $(annotation) ]] || ! k get namespace "$place" >/dev/null 2>&1; then
            echo "  - target: {kind: Namespace, name: $place}"
            echo "    patch: |-"
            echo "      - {op: add, path: /metadata/annotations, value: {$created: 'true'}}"
        fi
        if [[ -n $IMAGE_PULL_SECRET ]]; then
            echo "  - target: {kind: ServiceAccount}"
            echo "    patch: |-"
            echo "      - {op: add, path: /imagePullSecrets, value: [{name: $IMAGE_PULL_SECRET}]}"
        fi
    } >"$overlay/kustomization.yaml"
    if [[ -n $JOB_KINDS ]]; then kinds_role >"$overlay/kinds.yaml"; fi
}

fingerprint() { # of what the informer reads from the Secret at its start alone
    { printf '%s\n' "$API_SERVER" && cat "${API_CA_FILE:-/dev/null}"; } | cksum | cut -d' ' -f1
}

check_kinds() { # JOB_KINDS: the resources of these kinds, as the cluster names them
    local kind found
    kinds=""
    for kind in ${JOB_KINDS//,/ }; do
        found=$(k api-resources --api-group="${kind%/*}" --no-headers 2>/dev/null |
            awk -v kind="${kind#*/}" '$NF == kind { print $1; exit }')
        if [[ -z $found ]]; then fail "JOB_KINDS: the cluster does not serve $kind: install its CRD first"; fi
        kinds+="${kind%/*}/$found "
    done
}

kinds_role() {
    local labels="app: cv-job-informer, app.kubernetes.io/name: cvji, app.kubernetes.io/component: informer-kinds"
    local rbac=rbac.authorization.k8s.io kind
    labels+=", app.kubernetes.io/part-of: cloudvision, app.kubernetes.io/managed-by: kustomize"
    echo "apiVersion: $rbac/v1"
    echo "kind: ClusterRole"
    echo "metadata: {name: cv-job-informer-kinds, labels: {$labels}}"
    echo "rules:"
    for kind in $kinds; do
        echo "  - {apiGroups: ['${kind%/*}'], resources: ['${kind#*/}'], verbs: [list, watch]}"
    done
    echo "---"
    echo "apiVersion: $rbac/v1"
    echo "kind: ClusterRoleBinding"
    echo "metadata: {name: cv-job-informer-kinds, labels: {$labels}}"
    echo "roleRef: {apiGroup: $rbac, kind: ClusterRole, name: cv-job-informer-kinds}"
    echo "subjects: [{kind: ServiceAccount, name: cv-job-informer, namespace: $place}]"
}

secret() { # what is sensitive, written to a pipe by the shell itself: in no argument list and no file
    printf 'apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata:\n  name: cv-job-informer-api-credentials\n  labels:\n'
    printf '    %s\n' "app: cv-job-informer" "app.kubernetes.io/name: cvji" "app.kubernetes.io/component: informer" \
        "app.kubernetes.io/part-of: cloudvision" "app.kubernetes.io/managed-by: cvji-deploy"
    printf 'data:\n  api-server: %s\n' "$(printf '%s' "$API_SERVER" | encoded)"
    printf '  api-token: %s\n' "$(printf '%s' "$token" | encoded)"
    if [[ -n $API_CA_FILE ]]; then printf '  api-ca: %s\n' "$(encoded <"$API_CA_FILE")"; fi
}
encoded() { base64 | tr -d '\n'; }

# --- the image --------------------------------------------------------------------------------------------------------

build_image() {
    export IMAGE_TAG REGISTRY ENGINE
    (cd "$root" && just image) || fail "the image could not be built; nothing was changed in the cluster"
}

push_image() {
    local tool reference="$image:$IMAGE_TAG" file
    for tool in ${ENGINE:-docker podman buildah} ""; do
        if [[ -n $tool ]] && command -v "$tool" >/dev/null && has_image "$tool" "$reference"; then break; fi
    done
    if [[ -z $tool ]]; then fail "PUSH: none of docker, podman and buildah holds $reference"; fi
    file=$(mktemp)
    case $tool in
        docker)
            docker push "$reference" &&
                docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$reference" |
                sed -n "s|^$image@||p" | head -n 1 >"$file"
            ;;
        *) "$tool" push --digestfile "$file" "$reference" "docker://$reference" ;;
    esac || fail "$reference could not be pushed; nothing was changed in the cluster"
    digest=$(cat "$file") # the very bytes that were pushed, whatever the tag says later
    rm -f "$file"
}

has_image() {
    case $1 in
        buildah) buildah inspect --type image "$2" >/dev/null 2>&1 ;;
        *) "$1" image inspect "$2" >/dev/null 2>&1 ;;
    esac
}

# --- deploy -----------------------------------------------------------------------------------------------------------

deploy() {
    check_settings
    check_cluster
    check_kinds
    check_permission create
    render
    check_objects
    if [[ -z $SKIP_BUILD ]]; then build_image; fi
    if [[ -n $PUSH ]]; then push_image; render; fi

    rendered | apply -l "$first"
    # An informer that starts before its reports' CRDs are served works without records for a minute.
    if ! everywhere wait crd -l "$ours,$first" --for=condition=Established --timeout=1m >/dev/null; then
        fail "the cluster does not establish the CRDs: \`kubectl describe crd -l $first\` says why"
    fi
    secret | apply
    rendered | apply
    wait_for deployment/cv-job-informer "$job"
    if [[ $NODECONFIG_MODE == discovery ]]; then wait_for daemonset/cv-interface-discovery "$node"; fi
    remove_left_over | quietly

    say ""
    say "Namespace $place runs:"
    k get deployments,daemonsets -l "$ours" -o go-template="$runs_template"
    say "It reports to $API_SERVER as location $LOCATION. Another \`just deploy\` takes a new token in, without a restart."
    say "Next: \`just status\`, \`just logs COMPONENT=job\` (each report is one line), \`just help\` for every setting."
}

wait_for() { # WORKLOAD SELECTOR: until it is rolled out; explains and ends if it is not
    local limit=${ROLLOUT_TIMEOUT:-5m}
    if [[ $limit =~ ^[0-9.]+$ ]]; then limit+=s; fi
    if k rollout status "$1" --timeout="$limit"; then return; fi
    if [[ $1 == daemonset/* ]] && only_dead_nodes "$2"; then return; fi
    explain "$1" "$2" >&2
    fail "$1 did not become ready within $limit; what was applied stays: mend it and deploy again, or \`just delete\`"
}

not_ready() { # SELECTOR: "POD NODE" of each pod that is not ready
    k get pods -l "$1" -o go-template="$not_ready_template"
}

only_dead_nodes() { # a node that is down must not make every deploy of a large cluster fail
    local pod where dead=""
    while read -r pod where; do
        if [[ $where == - || $(node_ready "$where") == True ]]; then return 1; fi
        dead+=" $where"
    done < <(not_ready "$1")
    if [[ -z $dead ]]; then return 1; fi
    say "Nodes that are not ready are passed over; discovery begins there when they are:$dead"
}

node_ready() { k get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null || true; }

explain() { # WORKLOAD SELECTOR: why pods are not ready, in the cluster's own words
    local pod where shown=0
    while read -r pod where; do
        if ((shown++ == 5)); then say "... and more: just describe"; break; fi
        say "$pod on node $where:"
        k get pod "$pod" -o go-template="$why_template" 2>/dev/null || true
        k logs "$pod" --tail=3 --request-timeout=10s 2>/dev/null | sed 's/^/  log: /' || true
    done < <(not_ready "$2")
    k get events --field-selector type=Warning --sort-by=.lastTimestamp \
        -o 'jsonpath={range .items[*]}{.involvedObject.kind} {.involvedObject.name}: {.reason}: {.message}{"\n"}{end}' \
        2>/dev/null |
        grep -E '^[A-Za-z]+ cv-' | awk '!seen[$0]++' | tail -n 5 | sed 's/^/event: /' || true
}

remove_left_over() { # of earlier settings
    local current name
    if [[ $NODECONFIG_MODE != discovery ]]; then
        remove_discovery
    fi
    if [[ $NODECONFIG_MODE != sriovoperator ]]; then
        everywhere delete "$clusterwide" -l "$ours,app.kubernetes.io/component=informer-sriov" --ignore-not-found
    fi
    if [[ -z $JOB_KINDS ]]; then
        everywhere delete "$clusterwide" -l "$ours,app.kubernetes.io/component=informer-kinds" --ignore-not-found
    fi
    current=$(k get deployments,daemonsets -l "$ours" -o jsonpath='{..configMapRef.name}')
    for name in $(k get configmaps -l "$ours,app.kubernetes.io/component in (informer,interface-discovery)" \
        -o jsonpath='{.items[*].metadata.name}'); do
        if [[ " $current " != *" $name "* ]]; then k delete configmap "$name" --ignore-not-found; fi
    done
}

remove_discovery() {
    k delete daemonsets -l "$node" --ignore-not-found
    k delete "$namespaced" -l "$node" --ignore-not-found
    everywhere delete "$clusterwide" -l "$node" --ignore-not-found
    if k get crd "$states" >/dev/null 2>&1; then k delete "$states" -l "$ours" --ignore-not-found; fi
}

# --- delete -----------------------------------------------------------------------------------------------------------

delete() {
    flag DELETE_CRD
    check_cluster
    check_permission delete
    local left crd stay=""
    # The informer first: it is not to see its node states go and take the nodes out of CloudVision.
    {
        k delete deployments -l "$ours" --ignore-not-found --cascade=foreground --timeout=2m ||
            say "pods of cv-job-informer are still ending"
        k delete daemonsets -l "$ours" --ignore-not-found --cascade=foreground --timeout=2m ||
            say "pods of cv-interface-discovery are still ending, on nodes that are down perhaps"
        k delete "$namespaced" -l "$ours" --ignore-not-found --wait=false
        everywhere delete "$clusterwide" -l "$ours" --ignore-not-found
        for crd in $states $reports; do
            if ! k get crd "$crd" >/dev/null 2>&1; then continue; fi
            # One request for all: one for each takes minutes where there are thousands of reports.
            if ! k delete --raw "/apis/${crd#*.}/v1/namespaces/$place/${crd%%.*}" >/dev/null; then
                k delete "$crd" --all --ignore-not-found
            fi
            if [[ -n $DELETE_CRD ]]; then everywhere delete crd "$crd"; fi
        done
    } | quietly
    if [[ -n $(annotation) ]]; then
        left=$(inhabitants)
        if [[ -z $left ]]; then
            everywhere delete namespace "$place" --timeout=2m || fail "namespace $place is still ending: kubectl describe it"
        else
            say "Namespace $place stays, as there is more in it: $(printf '%s' "$left" | head -n 5 | tr '\n' ' ')"
        fi
    elif k get namespace "$place" >/dev/null 2>&1; then
        say "Namespace $place stays: it was there before the first deploy."
    fi
    for crd in $states $reports; do
        if k get crd "$crd" >/dev/null 2>&1; then stay+=" ${crd%%.*}"; fi
    done
    if [[ -n $stay ]]; then
        say "These CRDs stay:$stay. \`just delete crd=true\` removes them, with every object of their kinds."
    fi
    say "Removed. CloudVision keeps what it was last told."
}

inhabitants() { # what would go with the namespace, but for what every namespace has
    local kinds found
    if ! kinds=$(k api-resources --namespaced --verbs=list,delete -o name 2>/dev/null |
        grep -vE '^(events(\..*)?|endpoints|endpointslices\..*)$' | paste -sd, -) ||
        ! found=$(k get "$kinds" --ignore-not-found -o name 2>/dev/null); then
        say "perhaps objects that could not be listed"
        return
    fi
    printf '%s' "$found" |
        grep -vxE 'configmap/(kube-root-ca\.crt|openshift-service-ca\.crt)|serviceaccount/default' || true
}

# --- looking ----------------------------------------------------------------------------------------------------------

selected() { # the selector for COMPONENT
    one_of COMPONENT job node
    case $COMPONENT in job) printf '%s' "$job" ;; node) printf '%s' "$node" ;; *) printf '%s' "$ours" ;; esac
}

check_deployed() {
    check_cluster
    if [[ -z $(k get deployments,daemonsets -l "$1" -o name) ]]; then
        fail "nothing of it runs in namespace $place: \`just deploy\` makes one"
    fi
}

status() {
    local selector
    selector=$(selected)
    check_deployed "$selector"
    k get deployments,daemonsets,poddisruptionbudgets -l "$selector" -o wide
    say ""
    k get pods -l "$selector" -o wide
    if [[ $COMPONENT != node ]]; then
        say ""
        say "Leader: $(k get lease cv-job-informer -o 'jsonpath={.spec.holderIdentity}' 2>/dev/null || true)"
        say "What was reported to CloudVision: kubectl -n $place get jobreports,nodereports"
    fi
    if [[ $COMPONENT != job ]] && k get crd "$states" >/dev/null 2>&1; then
        say ""
        k get "$states"
    fi
}

logs() {
    local selector
    matches TAIL '-?[0-9]+' "a number of lines"
    flag FOLLOW
    selector=$(selected)
    check_deployed "$selector"
    k logs -l "$selector" --prefix --tail="${TAIL:-100}" --max-log-requests=1000 ${FOLLOW:+-f}
}

restart() {
    local selector
    selector=$(selected)
    check_deployed "$selector"
    k rollout restart deployments,daemonsets -l "$selector"
    if [[ $COMPONENT != node ]]; then wait_for deployment/cv-job-informer "$job"; fi
    if [[ $COMPONENT != job && -n $(k get daemonsets -l "$node" -o name) ]]; then
        wait_for daemonset/cv-interface-discovery "$node"
    fi
}

describe() {
    local selector
    selector=$(selected)
    check_deployed "$selector"
    k describe deployments,daemonsets,pods -l "$selector"
}

help() {
    cat <<'TEXT'
Variables of `just deploy`, in the environment or as NAME=VALUE behind it (API_TOKEN in the environment alone):
  API_SERVER               required: CloudVision, host[:port]
  API_TOKEN                required: its service account token; or API_TOKEN_FILE, a file that holds it
  LOCATION                 required: this site's name in CloudVision
  NAMESPACE                namespaces to watch: one, or a,b; all if empty
  JOBCONFIG_MODE           interface (default), node: what a job is said to hold
  NODECONFIG_MODE          discovery (default), sriovoperator, disabled: where node inventory comes from
  NODE_INTERFACE_TYPE      all (default), pf, vf: which of a node's NICs are reported
  UNPRIVILEGED_DISCOVERY   true: the discovery pods without root and privileges
  LOG_LEVEL, LOG_FORMAT    debug, info (default), warning, error; text (default), json
  API_CA_FILE              CA certificates to verify CloudVision by, instead of the system's
  API_INSECURE_SKIP_VERIFY true: do not verify CloudVision's certificate
  JOB_OWNER, JOB_KINDS, STABILITY_DELAY, START_MAX_WAIT, KIND_RETRY, RESYNC_INTERVAL, REPORT_HISTORY,
  DISCOVERY_INTERVAL       as in `cvji informer --help` and `cvji discover --help`
  REGISTRY, IMAGE_TAG      the image is [REGISTRY/]cv-job-informer:IMAGE_TAG; the tag is cvji's version if empty
  SKIP_BUILD, PUSH         true: do not build the image first; push it to REGISTRY
  ENGINE                   docker, podman or buildah, to build and push with; the first that is there if empty
  IMAGE_PULL_SECRET        Secret in namespace cloudvision to pull the image with
  ROLLOUT_TIMEOUT          how long to wait for each workload: 5m
  KUBE_CONTEXT             context in KUBECONFIG; the current one if empty
`status`, `logs`, `restart` and `describe` take COMPONENT=job (the informer) or node (discovery), and both without it;
`logs` also TAIL=100 and FOLLOW=true; `delete` also crd=true.
TEXT
}

command=${1-help}
for name in "${all_settings[@]}"; do printf -v "$name" '%s' "${!name-}"; done
token=${API_TOKEN-}
unset API_TOKEN # no child needs it: kubectl's credential plugins inherit the environment
if [[ $# -gt 0 ]]; then shift; fi
case $command in
    deploy | delete | status | logs | restart | describe | help) ;;
    *) wrong "there is no such command: deploy, delete, status, logs, restart, describe or help" ;;
esac
take_arguments "$@"
"$command"
